"""The waits after failures."""

from datetime import timedelta

import pytest

from masqmail.config.fetch import Interval, Trigger
from masqmail.daemon.fetch.schedule import wait_after
from masqmail.mail.outcome import Culprit

HOUR = timedelta(hours=1)


def hours(culprit: Culprit, interval: Interval, failures: range) -> list[float]:
    return [wait_after(number, culprit, interval) / HOUR for number in failures]


@pytest.mark.parametrize("interval", [timedelta(minutes=5), Trigger.IDLE, Trigger.MANUAL])
def test_waits_grow_to_an_hour(interval: Interval) -> None:
    found = hours(Culprit.SESSION, interval, range(1, 9))
    assert found == pytest.approx([1 / 60, 2 / 60, 5 / 60, 10 / 60, 20 / 60, 40 / 60, 1, 1])


def test_a_long_interval_is_the_longest_wait() -> None:
    assert hours(Culprit.SESSION, timedelta(hours=5), range(6, 12)) == pytest.approx([40 / 60, 1, 2, 4, 5, 5])


def test_a_refused_login_waits_longer() -> None:
    assert hours(Culprit.LOGIN, timedelta(minutes=5), range(1, 7)) == [0.25, 1, 2, 4, 4, 4]


def test_no_number_of_failures_is_too_big() -> None:
    assert wait_after(10**6, Culprit.SESSION, timedelta(days=3000)) == timedelta(days=3000)
