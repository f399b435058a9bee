"""When a connection is given up."""

from datetime import timedelta

import pytest

from masqmail.daemon.fetch.vigil import PULSE_SECONDS, SETTLE_SECONDS, SILENCE_SECONDS, Vigil
from masqmail.system.clock import FakeClock


class Connection:
    """One that is watched: time passes, and it gives signs of life or not."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.vigil = Vigil(self.clock)
        self.signs = 0

    def look(self, seconds: float = 0.0, *, alive: bool = False, has_link: bool = True) -> bool:
        """Whether it is given up after so many seconds."""
        self.clock.advance(timedelta(seconds=seconds))
        self.signs += alive
        return self.vigil.look(self.signs, has_link=has_link)


@pytest.fixture
def connection() -> Connection:
    return Connection()


def test_silence_alone_is_no_reason(connection: Connection) -> None:
    assert not connection.look(10_000)
    assert connection.vigil.next_look() == PULSE_SECONDS


def test_a_connection_that_is_silent_after_a_suspend_is_given_up(connection: Connection) -> None:
    connection.clock.suspend(timedelta(minutes=5))
    assert not connection.look()
    assert connection.vigil.next_look() == SETTLE_SECONDS
    assert connection.look(SETTLE_SECONDS)


def test_a_sign_of_life_after_a_suspend_is_enough(connection: Connection) -> None:
    connection.clock.suspend(timedelta(minutes=5))
    assert not connection.look()
    assert not connection.look(1, alive=True)
    assert not connection.look(10_000)


def test_what_came_before_the_suspend_is_no_sign(connection: Connection) -> None:
    connection.signs += 1
    connection.clock.suspend(timedelta(minutes=5))
    assert not connection.look()
    assert connection.look(SETTLE_SECONDS)


def test_a_short_suspend_does_no_harm(connection: Connection) -> None:
    connection.clock.suspend(timedelta(seconds=4))
    assert not connection.look()
    assert not connection.look(SETTLE_SECONDS)


def test_without_a_link_a_connection_may_be_silent_for_a_while(connection: Connection) -> None:
    assert not connection.look(has_link=False)
    assert not connection.look(SILENCE_SECONDS - 1, has_link=False)
    assert connection.look(1, has_link=False)


def test_without_a_link_a_connection_that_goes_on_is_left_alone(connection: Connection) -> None:
    for _ in range(10):
        assert not connection.look(SILENCE_SECONDS - 1, alive=True, has_link=False)


def test_when_the_link_is_back_a_sign_is_expected_soon(connection: Connection) -> None:
    assert not connection.look(has_link=False)
    assert not connection.look(1)
    assert connection.vigil.next_look() == SETTLE_SECONDS
    assert connection.look(SETTLE_SECONDS)


def test_a_link_that_comes_back_late_gives_no_more_time(connection: Connection) -> None:
    assert not connection.look(has_link=False)
    assert not connection.look(SILENCE_SECONDS - 1)
    assert connection.look(1)
