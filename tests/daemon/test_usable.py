"""Time counts only while it could have worked."""

from datetime import timedelta

import pytest

from masqmail.daemon.usable import UsableClock
from masqmail.delivery.smtp import SessionEnd
from masqmail.mail.outcome import Culprit
from masqmail.routing.link import LinkState
from masqmail.routing.route import RouteClass
from masqmail.spool.memory import MemorySpool
from masqmail.system.clock import FakeClock
from support.assembly import DAY, HOUR, MINUTE, Assembly, rules, smarthost

pytestmark = pytest.mark.anyio

A, B = RouteClass(("a",)), RouteClass(("b",))


class Ledger(MemorySpool):
    """Adds up what was booked."""

    async def advance(self, seconds, usable):  # type: ignore[no-untyped-def]
        for item in usable:
            self._usable[item] += seconds

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
