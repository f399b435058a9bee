"""Users who fetch their mail, as the scheduler sees them: a line is open, and what waits can be leased."""

from datetime import timedelta

import pytest

from masqmail.mail.outcome import Culprit, Deferred
from masqmail.routing.route import Conditions, Route, Way, line_of
from masqmail.settings import Pattern
from masqmail.spool.states import State
from support.assembly import GREYLISTED, MINUTE, Assembly, rules, smarthost

pytestmark = pytest.mark.anyio

RECIPIENTS = (Pattern("*@customer.test"), Pattern("*@branch.test"))
KEPT = Route("kept", (line_of("bob"),), Way.ODMR, Conditions(recipients=RECIPIENTS), last=True, user="bob")


def assembly(**changes: bool) -> Assembly:
    return Assembly(rules(KEPT, smarthost(), **changes))


async def test_nothing_is_sent_until_the_line_is_open_and_nothing_but_what_waits_for_its_user() -> None:
    async with assembly().running() as daemon:
        await daemon.accept("m1", "ann@customer.test")
        await daemon.accept("m2", "ann@far.example")
        await daemon.advance(10 * MINUTE)
        assert [taken[0] for taken in daemon.peers.taken] == ["m2"]
        lane = await daemon.scheduler.open_line(KEPT)
        assert lane is not None
        assert daemon.scheduler.is_open("kept") and daemon.scheduler.has_link(KEPT)
        assert await daemon.scheduler.open_line(KEPT) is None, "one at a time"
        leases = await lane.lease(max_messages=10, max_bytes=1 << 20)
        assert [lease.message.queue_id for lease in leases] == ["m1"]
        daemon.desk.give_back(leases)
        daemon.scheduler.close_line(KEPT, lane)
        assert not daemon.scheduler.is_open("kept")
        assert daemon.states("m1") == [State.QUEUED]


async def test_only_the_domains_that_were_asked_for_are_leased() -> None:
    async with assembly().running() as daemon:
        for number, domain in enumerate(("customer.test", "branch.test", "customer.test")):
            await daemon.accept(f"m{number}", f"ann@{domain}")
        lane = await daemon.scheduler.open_line(KEPT, ["Customer.TEST", "other.test"])
        assert lane is not None
        leases = await lane.lease(max_messages=10, max_bytes=1 << 20)
        assert [lease.message.queue_id for lease in leases] == ["m0", "m2"]
        daemon.desk.give_back(leases)
        daemon.scheduler.close_line(KEPT, lane)


async def test_what_was_put_off_is_due_when_its_user_comes_again() -> None:
    async with assembly().running() as daemon:
        await daemon.accept("m1", "ann@customer.test")
        for _ in range(2):
            lane = await daemon.scheduler.open_line(KEPT)
            assert lane is not None
            [lease] = await lane.lease(max_messages=10, max_bytes=1 << 20)
            daemon.desk.settle(lease, KEPT, [Deferred(GREYLISTED, Culprit.RECIPIENT, "later")])
            await daemon.settle()
            assert daemon.states() == [State.DEFERRED]
            assert not await lane.lease(max_messages=10, max_bytes=1 << 20), "once for each visit"
            daemon.scheduler.close_line(KEPT, lane)
            await daemon.advance(timedelta(seconds=1))
        [recipient] = daemon.recipients()
        assert recipient.attempts == 2
        await daemon.advance(30 * MINUTE)
        assert daemon.peers.taken == [], "and never without him"


async def test_mail_that_waits_for_a_flush_is_leased_too() -> None:
    async with assembly(sends_at_once=False).running() as daemon:
        await daemon.accept("m1", daemon.remote("ann@customer.test", mark=daemon.rules.mark))
        lane = await daemon.scheduler.open_line(KEPT)
        assert lane is not None
        leases = await lane.lease(max_messages=10, max_bytes=1 << 20)
        assert len(leases) == 1
        daemon.desk.give_back(leases)
        daemon.scheduler.close_line(KEPT, lane)


async def test_nobody_gets_more_when_the_program_ends() -> None:
    async with assembly().running() as daemon:
        await daemon.accept("m1", "ann@customer.test")
        lane = await daemon.scheduler.open_line(KEPT)
        assert lane is not None
        daemon.scheduler.close_lines()
        assert await lane.lease(max_messages=10, max_bytes=1 << 20) == []
        daemon.scheduler.close_line(KEPT, lane)
