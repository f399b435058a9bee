"""Time counts only while it could have worked."""

from datetime import timedelta

import pytest

from masqmail.daemon.usable import UsableClock
from masqmail.delivery.smtp import SessionEnd
from masqmail.mail.outcome import Culprit, Deferred
from masqmail.mail.status import LOCAL_ERROR
from masqmail.routing.link import LinkState
from masqmail.routing.route import RouteClass
from masqmail.spool.memory import MemorySpool
from masqmail.spool.states import State
from masqmail.system.clock import FakeClock
from support.assembly import DAY, HOUR, MINUTE, Assembly, rules, smarthost

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)

A, B = RouteClass(("a",)), RouteClass(("b",))


class Ledger(MemorySpool):
    """Tells what was booked."""

    def booked(self, item: RouteClass) -> float:
        return self._usable[item]


async def test_time_is_booked_for_what_was_usable_before_it_passed() -> None:
    clock, ledger = FakeClock(), Ledger()
    usable = UsableClock(ledger, clock)
    clock.advance(MINUTE)
    await usable.advance([A])  # nothing was usable until now
    clock.advance(MINUTE)
    await usable.advance([B])
    clock.advance(MINUTE)
    await usable.advance([])
    clock.advance(MINUTE)
    await usable.advance([A])
    assert (ledger.booked(A), ledger.booked(B)) == (60.0, 60.0)


async def test_short_stretches_are_added_up_and_none_is_lost() -> None:
    clock, ledger = FakeClock(), Ledger()
    usable = UsableClock(ledger, clock)
    await usable.advance([A])
    for _ in range(9):
        clock.advance(timedelta(seconds=0.25))
        await usable.advance([A])
    assert ledger.booked(A) == 2.0
    await usable.advance([])
    assert ledger.booked(A) == 2.25


async def test_what_is_booked_before_mail_comes_in_is_booked_once() -> None:
    clock, ledger = FakeClock(), Ledger()
    usable = UsableClock(ledger, clock)
    await usable.advance([A])
    clock.advance(50 * SECOND)
    usable.book()
    assert ledger.booked(A) == 50.0
    clock.advance(5 * SECOND)
    await usable.advance([A])
    assert ledger.booked(A) == 55.0


async def test_mail_is_no_older_than_itself_however_long_nothing_had_come() -> None:
    """Its class has been usable all the time, and the scheduler has not looked for most of a minute."""
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = lambda transaction, address: Deferred(LOCAL_ERROR, Culprit.RECIPIENT, "later")
        await daemon.accept("m1", "bob@far.example")
        await daemon.advance(50 * SECOND, SECOND)
        joe = daemon.remote("joe@far.example")
        daemon.scheduler.note_classes({joe.route_class})  # as they are known before the message is stored
        await daemon.accept("m2", joe)
        (recipient,) = daemon.recipients("m2")
        assert (recipient.state, recipient.age) == (State.DEFERRED, timedelta(0))


async def test_a_suspended_machine_counts_nothing() -> None:
    clock, ledger = FakeClock(), Ledger()
    usable = UsableClock(ledger, clock)
    await usable.advance([A])
    clock.suspend(DAY)
    await usable.advance([])
    assert ledger.booked(A) == 0.0


async def test_recipients_age_only_while_their_link_is_up_and_their_route_is_not_paused() -> None:
    async with Assembly(rules(smarthost()), up=(), down=("dsl",)).running() as daemon:
        await daemon.accept("m1", "bob@far.example")
        await daemon.advance(DAY, HOUR)
        assert daemon.recipients()[0].age == timedelta(0)
        daemon.peers.ends["mail.isp.example"] = SessionEnd(Culprit.CONNECTION, "connection refused")
        await daemon.link("dsl", LinkState.UP)
        await daemon.advance(HOUR)
        assert daemon.recipients()[0].age < MINUTE
        daemon.peers.ends.clear()
        import anyio

        daemon.peers.gate = anyio.Event()
        await daemon.scheduler.flush()
        await daemon.advance(HOUR)
        assert daemon.recipients()[0].age >= HOUR - MINUTE  # booked at the next look
