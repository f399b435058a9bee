"""What becomes of a connection whose link went away under it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import pytest

from masqmail.daemon.lane import Lane
from masqmail.routing.link import LinkState
from masqmail.spool.states import State
from support.assembly import HOUR, MINUTE, Assembly, rules, smarthost

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)


@pytest.fixture
async def hanging() -> AsyncIterator[Assembly]:
    """A message is being sent, and nobody answers."""
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.gate, daemon.peers.begins_late = anyio.Event(), True
        await daemon.accept("m1", "bob@far.example")
        yield daemon


@pytest.fixture
async def in_doubt() -> AsyncIterator[Assembly]:
    """A whole message was sent, and nobody answers."""
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.gate = anyio.Event()
        await daemon.accept("m1", "bob@far.example")
        yield daemon


def lane(daemon: Assembly) -> Lane:
    (found,) = daemon.scheduler._lanes.values()
    return found


async def test_a_link_that_comes_up_again_gets_a_new_connection_within_a_second(hanging: Assembly) -> None:
    await hanging.link("dsl", LinkState.DOWN)
    await hanging.advance(SECOND, SECOND)
    hanging.peers.gate = None
    await hanging.link("dsl", LinkState.UP)
    await hanging.advance(SECOND, SECOND)
    assert len(hanging.peers.calls) == 2
    assert hanging.states() == []


async def test_without_a_link_a_silent_connection_is_given_up_after_a_while(hanging: Assembly) -> None:
    await hanging.link("dsl", LinkState.DOWN)
    await hanging.advance(9 * SECOND, SECOND)
    assert hanging.states() == [State.LEASED]
    await hanging.advance(SECOND, SECOND)
    (recipient,) = hanging.recipients()
    assert (recipient.state, recipient.attempts) == (State.QUEUED, 0)
    assert len(hanging.peers.calls) == 1


async def test_a_connection_that_goes_on_is_left_alone(hanging: Assembly) -> None:
    await hanging.link("dsl", LinkState.DOWN)
    for _ in range(20):
        lane(hanging).note_answer()
        await hanging.advance(9 * SECOND, SECOND)
    lane(hanging).note_answer()
    await hanging.link("dsl", LinkState.UP)
    await hanging.advance(MINUTE, SECOND)
    assert hanging.states() == [State.LEASED]


async def test_more_patience_has_one_that_may_make_a_duplicate(in_doubt: Assembly) -> None:
    await in_doubt.link("dsl", LinkState.DOWN)
    await in_doubt.link("dsl", LinkState.UP)
    await in_doubt.advance(59 * SECOND, SECOND)
    assert in_doubt.states() == [State.LEASED]
    in_doubt.peers.gate = None
    await in_doubt.advance(2 * SECOND, SECOND)
    assert in_doubt.states() == []


async def test_other_mail_does_not_wait_for_one_that_hangs(in_doubt: Assembly) -> None:
    await in_doubt.link("dsl", LinkState.DOWN)
    await in_doubt.link("dsl", LinkState.UP)
    in_doubt.peers.gate = None
    await in_doubt.accept("m2", "eve@far.example")
    await in_doubt.advance(SECOND, SECOND)
    assert in_doubt.peers.taken == [("m2", "eve@far.example")]
    assert in_doubt.states("m1") == [State.LEASED]


async def test_a_slow_server_behind_a_link_that_stays_is_given_all_its_time(hanging: Assembly) -> None:
    await hanging.link("dsl", LinkState.UP)
    await hanging.advance(HOUR)
    assert hanging.states() == [State.LEASED]


async def test_a_message_is_in_doubt_from_its_last_byte_to_its_answer() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        gate = daemon.peers.gate = anyio.Event()
        await daemon.accept("m1", "bob@far.example")
        sending = lane(daemon)
        assert (sending.is_in_doubt, sending.answers) == (True, 0)
        gate.set()
        await daemon.settle()
        assert (sending.is_in_doubt, sending.answers) == (False, 1)
