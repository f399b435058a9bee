"""When what is sent over which route."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from masqmail.daemon.directory import LOCAL_CLASS
from masqmail.daemon.lane import Lane
from masqmail.daemon.scheduler import MAX_DIRECT_LANES, RunLane
from masqmail.delivery.connect import Memory, Options
from masqmail.delivery.job import Feed, Transaction
from masqmail.delivery.parallel import Speed
from masqmail.delivery.smtp import SessionEnd
from masqmail.mail.outcome import Culprit, Delivered, NotTried, Outcome
from masqmail.mail.status import OK
from masqmail.routing.link import LinkState
from masqmail.routing.route import QUEUE_ONLY, Conditions
from masqmail.settings import HostPort, Pattern
from masqmail.spool.api import Lease
from masqmail.spool.states import State
from support.assembly import (
    BACKUP_HOP,
    DAY,
    GREYLISTED,
    HOUR,
    MINUTE,
    Assembly,
    direct,
    rules,
    says,
    smarthost,
    takes_all,
)

pytestmark = pytest.mark.anyio

NO_CONNECTION = SessionEnd(Culprit.CONNECTION, "connection refused")
ONE, TWO = HostPort("one.example", 25), HostPort("two.example", 25)


async def test_new_mail_goes_at_once_over_a_link_that_is_up() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        await daemon.accept("m1", "bob@far.example", "eve@far.example")
        assert daemon.peers.taken == [("m1", "bob@far.example"), ("m1", "eve@far.example")]
        assert daemon.states() == []


async def test_nothing_goes_while_the_link_is_down_and_everything_when_it_comes_up() -> None:
    async with Assembly(rules(smarthost()), up=(), down=("dsl",)).running() as daemon:
        await daemon.accept("m1", "bob@far.example")
        await daemon.advance(HOUR)
        assert daemon.peers.calls == []
        await daemon.link("dsl", LinkState.UP)
        assert daemon.peers.taken == [("m1", "bob@far.example")]


async def test_a_link_that_comes_up_starts_what_is_not_due_for_long() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = says(GREYLISTED)
        await daemon.accept("m1", "bob@far.example")
        assert daemon.states() == [State.DEFERRED]
        daemon.peers.answer = takes_all
        await daemon.link("dsl", LinkState.DOWN)
        await daemon.advance(timedelta(seconds=10))
        await daemon.link("dsl", LinkState.UP)
        assert daemon.peers.taken == [("m1", "bob@far.example")]


async def test_a_link_that_comes_up_leaves_the_waits_of_other_routes_alone() -> None:
    elsewhere = smarthost("other", ("umts",))
    async with Assembly(rules(elsewhere), up=("umts",), down=("dsl",)).running() as daemon:
        daemon.peers.answer = says(GREYLISTED)
        await daemon.accept("m1", "bob@far.example")
        await daemon.advance(timedelta(seconds=10))
        await daemon.link("dsl", LinkState.UP)
        assert len(daemon.peers.calls) == 1


async def test_it_is_tried_again_when_due_and_not_before() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = says(GREYLISTED)
        await daemon.accept("m1", "bob@far.example")
        await daemon.advance(timedelta(seconds=59))
        assert len(daemon.peers.calls) == 1
        await daemon.advance(timedelta(seconds=1))
        assert len(daemon.peers.calls) == 2
        await daemon.advance(timedelta(seconds=299))
        assert len(daemon.peers.calls) == 2
        await daemon.advance(timedelta(seconds=1))
        assert len(daemon.peers.calls) == 3


async def test_a_wake_is_good_for_one_attempt_although_the_clock_was_set_back() -> None:
    """Measured by the new time every attempt since would seem older than the wake."""
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = says(GREYLISTED)
        await daemon.link("dsl", LinkState.UP)
        daemon.clock.set_now(daemon.clock.now() - 2 * HOUR)
        await daemon.accept("m1", "bob@far.example")
        assert len(daemon.peers.calls) == 1


async def test_a_pause_ends_by_itself_and_then_the_mail_goes() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.ends["mail.isp.example"] = NO_CONNECTION
        await daemon.accept("m1", "bob@far.example")
        assert daemon.scheduler.paused_routes() == {"isp": "connection refused"}
        del daemon.peers.ends["mail.isp.example"]
        await daemon.advance(timedelta(seconds=59))
        assert daemon.peers.taken == []
        await daemon.advance(timedelta(seconds=1))
        assert daemon.peers.taken == [("m1", "bob@far.example")]
        assert daemon.scheduler.paused_routes() == {}


async def test_a_link_that_comes_up_ends_the_pauses_of_its_routes() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.ends["mail.isp.example"] = NO_CONNECTION
        await daemon.accept("m1", "bob@far.example")
        daemon.peers.ends.clear()
        await daemon.link("dsl", LinkState.UP)
        assert daemon.peers.taken == [("m1", "bob@far.example")]


# --- nothing spins, no wake is lost


async def test_a_quiet_daemon_asks_for_work_a_few_times_an_hour_at_most() -> None:
    async with Assembly(rules(smarthost(), smarthost("b", ("umts",))), up=("dsl", "umts")).running() as daemon:
        await daemon.accept("m1", "bob@far.example")
        asked = daemon.spool.leases_asked
        await daemon.advance(10 * MINUTE)
        assert daemon.spool.leases_asked - asked <= 20  # a look per minute for either route


@pytest.mark.parametrize(
    "end", [SessionEnd(), SessionEnd(Culprit.TLS, "bad certificate"), RuntimeError("a bug"), NO_CONNECTION]
)
async def test_a_connection_of_no_use_pauses_its_next_hop(end: SessionEnd | Exception) -> None:
    """Also one that the server closes without a word of complaint."""
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.ends["mail.isp.example"] = end
        await daemon.accept("m1", "bob@far.example")
        assert len(daemon.peers.calls) == 1
        assert list(daemon.scheduler.paused_routes()) == ["isp"]
        assert daemon.states() == [State.QUEUED]
        assert daemon.recipients()[0].attempts == 0


async def test_two_lanes_that_end_in_turns_do_not_wake_each_other_for_ever() -> None:
    routes = rules(
        smarthost("a", conditions=only("*@a.example")), smarthost("b", ("umts",), conditions=only("*@b.example"))
    )
    daemon = Assembly(routes, up=("dsl", "umts"))
    class_a, class_b = (daemon.remote(f"x@{name}.example").route_class for name in "ab")

    async def run_lane(lane: Lane) -> None:
        await lane.lease(max_messages=1, max_bytes=1)
        await rounds(20)

    async with started(daemon, run_lane):
        daemon.scheduler.note_classes({class_a})
        await rounds(10)
        daemon.scheduler.note_classes({class_b})
        await rounds(5)
        daemon.scheduler.wake()
        await daemon.settle()
        assert not daemon.scheduler.is_sending()


def only(pattern: str) -> Conditions:
    return Conditions(recipients=(Pattern(pattern),))


async def rounds(count: int) -> None:
    """Lets the others run that often."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def started(daemon: Assembly, run_lane: RunLane) -> AsyncIterator[None]:
    """The scheduler at work with lanes of the test's own."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(daemon.scheduler.run, run_lane, daemon.desk.end_runs)
        await daemon.settle()
        yield
        tasks.cancel_scope.cancel()


def deliver(daemon: Assembly, lease: Lease) -> None:
    outcome = Delivered(OK)
    daemon.desk.settle(lease, daemon.rules.routes[0], [outcome] * len(lease.recipients))


def slowed(daemon: Assembly, verb: str, meanwhile: Callable[[], None]) -> None:
    """Makes the next call of a verb of the spool last a few rounds, in which something happens."""
    original = getattr(daemon.spool, verb)

    def slow(*args: Any, **kwargs: Any) -> Any:
        setattr(daemon.spool, verb, original)

        async def answer() -> Any:
            await rounds(5)
            meanwhile()
            await rounds(5)
            return await original(*args, **kwargs)

        return answer()

    setattr(daemon.spool, verb, slow)


async def test_work_that_comes_while_a_lane_ends_is_not_forgotten() -> None:
    daemon = Assembly(rules(smarthost()))
    route_class = daemon.remote("bob@far.example").route_class
    seen: list[str] = []

    async def run_lane(lane: Lane) -> None:
        leases = await lane.lease(max_messages=1, max_bytes=1)
        if not leases and not seen:
            await daemon.accept("late", "bob@far.example", tell=False)
            daemon.scheduler.note_classes({route_class})
            await rounds(20)  # the scheduler looks, and sees that the lane is there
        for lease in leases:
            seen.append(lease.message.queue_id)
            deliver(daemon, lease)

    async with started(daemon, run_lane):
        daemon.scheduler.note_classes({route_class})
        await daemon.settle()
        assert seen == ["late"]


@pytest.mark.parametrize(("most", "names"), [(1, ["isp"]), (1, ["isp", "backup"]), (2, ["isp"])])
async def test_mail_for_a_lane_at_work_wakes_the_scheduler_only_where_others_may_help(
    most: int, names: list[str]
) -> None:
    daemon = Assembly(rules(*map(smarthost, names), connections={"isp": most}))
    recipient = daemon.remote("bob@far.example")
    seen: list[str] = []

    async def run_lane(lane: Lane) -> None:
        while True:
            for lease in await lane.lease(max_messages=1, max_bytes=1):
                seen.append(lease.message.queue_id)
                deliver(daemon, lease)
            await lane.wait_for_work(60)

    async with started(daemon, run_lane):
        for number in range(3):
            await daemon.accept(f"m{number}", recipient, tell=False)
            daemon.scheduler.note_classes({recipient.route_class})
            assert daemon.scheduler._wake.is_set() is (not number or most > 1)
            await rounds(20)
        assert seen == ["m0", "m1", "m2"]


async def test_mail_that_comes_while_the_scheduler_looks_is_not_forgotten() -> None:
    async with Assembly(rules(smarthost("a"), smarthost("b", ("umts",))), up=("dsl", "umts")).running() as daemon:
        daemon.peers.answer = says(GREYLISTED)
        await daemon.accept("m1", "bob@far.example")
        daemon.peers.answer = takes_all
        await daemon.accept("m2", "bob@far.example", tell=False)
        daemon.clock.advance(timedelta(seconds=2))  # so that usable time is booked, while something happens
        slowed(daemon, "advance", lambda: daemon.scheduler.note_classes({daemon.remote("x@y.example").route_class}))
        daemon.scheduler.wake()
        await daemon.settle()
        assert ("m2", "bob@far.example") in daemon.peers.taken


async def test_what_becomes_due_while_the_scheduler_looks_is_not_forgotten() -> None:
    """Due after its lane looked, and before the scheduler decides how long to sleep."""
    routes = rules(smarthost(conditions=only("*@far.example")), direct(conditions=only("*@direct.example")))
    async with Assembly(routes).running() as daemon:
        daemon.scheduler.note_classes({daemon.remote("x@direct.example").route_class})
        daemon.peers.answer = says(GREYLISTED)
        await daemon.accept("m1", "bob@far.example")
        daemon.peers.answer = takes_all
        slowed(daemon, "waiting_domains", lambda: daemon.clock.advance(MINUTE))
        daemon.scheduler.wake()
        await daemon.settle()
        assert daemon.peers.taken == [("m1", "bob@far.example")]


@pytest.mark.parametrize("up", [True, False])
async def test_mail_that_cannot_go_now_wakes_nobody(up: bool) -> None:
    """While there is no link each message accepted would cost a look at everything else."""
    up_and_down: dict[str, Any] = {} if up else {"up": (), "down": ("dsl",)}
    async with Assembly(rules(smarthost()), **up_and_down).running() as daemon:
        recipient = daemon.remote("bob@far.example")
        for number in range(3):
            await daemon.accept(f"m{number}", recipient)
            daemon.scheduler.note_classes({recipient.route_class})
            assert daemon.scheduler._wake.is_set() is up
            await daemon.settle()
        await daemon.link("dsl", LinkState.UP)
        assert len(daemon.peers.taken) == 3


async def test_what_could_not_go_is_not_judged_again_until_something_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Assembly(rules(smarthost()), up=(), down=("dsl",)).running() as daemon:
        recipient = daemon.remote("bob@far.example")
        await daemon.accept("m1", recipient)
        judged: list[object] = []
        judge = daemon.scheduler._outlook.by_route
        monkeypatch.setattr(daemon.scheduler._outlook, "by_route", lambda classes: judged.append(1) or judge(classes))
        for _ in range(3):
            daemon.scheduler.note_classes({recipient.route_class})
        assert len(judged) == 1
        assert not daemon.scheduler._wake.is_set()
        daemon.scheduler.assume_up("dsl")
        daemon.scheduler.note_classes({recipient.route_class})
        assert daemon.scheduler._wake.is_set()


async def test_what_a_pause_held_up_is_judged_again_when_it_is_over() -> None:
    """Even before the scheduler has woken for it."""
    todays = rules(smarthost())
    daemon = Assembly(todays)
    classes = {daemon.remote("bob@far.example").route_class}
    daemon.scheduler.note_classes(classes)
    daemon.scheduler._wake = anyio.Event()
    (next_hop,) = todays.next_hop_names(todays.routes[0])
    daemon.pauses.pause("isp", next_hop, Culprit.CONNECTION, "connection refused")
    daemon.scheduler.note_classes(classes)
    assert not daemon.scheduler._wake.is_set()
    daemon.clock.advance(MINUTE)
    daemon.scheduler.note_classes(classes)
    assert daemon.scheduler._wake.is_set()


async def test_mail_for_a_paused_next_hop_goes_when_the_pause_ends() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.ends["mail.isp.example"] = NO_CONNECTION
        await daemon.accept("m1", "bob@far.example")
        del daemon.peers.ends["mail.isp.example"]
        await daemon.accept("m2", "bob@far.example")
        assert daemon.peers.taken == []
        await daemon.advance(HOUR)
        assert [name for name, _ in daemon.peers.taken] == ["m1", "m2"]


# --- several routes


def two_routes(**first: Any) -> Any:
    return rules(smarthost("a", ("dsl",), **first), smarthost("b", ("umts",)))


async def test_a_temporary_answer_moves_on_to_the_next_route_in_the_same_run() -> None:
    daemon = Assembly(two_routes(), up=("dsl", "umts"))
    daemon.rules.next_hops["b"] = (BACKUP_HOP,)  # type: ignore[index]

    def answer(transaction: Transaction, address: str) -> Outcome:
        return (
            says(GREYLISTED)(transaction, address)
            if daemon.peers.calls[-1].startswith("mail")
            else takes_all(transaction, address)
        )

    daemon.peers.answer = answer
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example")
        assert daemon.peers.calls == ["mail.isp.example", "backup.isp.example"]
        assert daemon.peers.taken == [("m1", "bob@far.example")]


async def test_after_the_last_route_of_a_run_comes_the_wait_and_then_the_first_again() -> None:
    async with Assembly(two_routes(), up=("dsl", "umts")).running() as daemon:
        daemon.peers.answer = says(GREYLISTED)
        await daemon.accept("m1", "bob@far.example")
        (recipient,) = daemon.recipients()
        assert (recipient.state, recipient.attempts) == (State.DEFERRED, 2)
        assert recipient.route_class.tried == frozenset()
        await daemon.advance(5 * MINUTE)
        assert daemon.recipients()[0].attempts == 4


async def test_a_route_with_last_ends_the_run() -> None:
    async with Assembly(two_routes(last=True), up=("dsl", "umts")).running() as daemon:
        daemon.peers.answer = says(GREYLISTED)
        await daemon.accept("m1", "bob@far.example")
        (recipient,) = daemon.recipients()
        assert (recipient.state, recipient.attempts, recipient.last_route) == (State.DEFERRED, 1, "a")


async def test_the_run_ends_when_the_routes_left_can_no_longer_be_used() -> None:
    daemon = Assembly(two_routes(), up=("dsl", "umts"))
    daemon.rules.next_hops["b"] = (BACKUP_HOP,)  # type: ignore[index]
    daemon.peers.answer = says(GREYLISTED)
    daemon.peers.ends["backup.isp.example"] = SessionEnd(Culprit.CONNECTION, "no route to host")
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example")
        (recipient,) = daemon.recipients()
        assert (recipient.state, recipient.attempts) == (State.DEFERRED, 1)
        assert recipient.route_class.tried == frozenset()
        assert recipient.due == daemon.clock.now() + MINUTE


# --- flush


async def test_a_flush_forgets_waits_and_pauses() -> None:
    async with Assembly(two_routes()).running() as daemon:
        daemon.peers.ends["mail.isp.example"] = NO_CONNECTION
        await daemon.accept("m1", "bob@far.example")
        daemon.peers.ends.clear()
        await daemon.scheduler.flush()
        await daemon.settle()
        assert daemon.peers.taken == [("m1", "bob@far.example")]


async def test_a_flush_of_another_route_changes_nothing() -> None:
    async with Assembly(two_routes()).running() as daemon:
        daemon.peers.answer = says(GREYLISTED)
        await daemon.accept("m1", "bob@far.example")
        await daemon.scheduler.flush(["b"])
        await daemon.settle()
        assert len(daemon.peers.calls) == 1


async def test_queue_only_mail_waits_for_a_flush_although_its_link_is_up() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        await daemon.accept("m1", daemon.remote("bob@far.example", mark=QUEUE_ONLY))
        await daemon.advance(HOUR)
        assert daemon.peers.calls == []
        await daemon.scheduler.flush()
        await daemon.settle()
        assert daemon.peers.taken == [("m1", "bob@far.example")]


async def test_a_flush_of_one_route_sends_nothing_over_another() -> None:
    async with Assembly(rules(smarthost("a"), smarthost("b", ("umts",))), up=("dsl", "umts")).running() as daemon:
        await daemon.accept("m1", daemon.remote("bob@far.example", mark=QUEUE_ONLY))
        await daemon.scheduler.flush(["b"])
        await daemon.settle()
        assert daemon.peers.calls == []
        assert [found.mark for found in await daemon.spool.classes()] == [QUEUE_ONLY]
        await daemon.link("dsl", LinkState.DOWN)
        await daemon.scheduler.flush(["b"])
        await daemon.settle()
        assert daemon.peers.calls != []


async def test_a_flush_of_a_route_that_is_down_lets_it_go_when_that_comes_up() -> None:
    async with Assembly(rules(smarthost("a")), up=(), down=("dsl",)).running() as daemon:
        await daemon.accept("m1", daemon.remote("bob@far.example", mark=QUEUE_ONLY))
        await daemon.scheduler.flush(["a"])
        await daemon.link("dsl", LinkState.UP)
        assert daemon.states() == []


async def test_time_does_not_count_for_what_waits_for_a_flush() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        await daemon.accept("m1", daemon.remote("bob@far.example", mark=QUEUE_ONLY))
        await daemon.advance(6 * DAY, HOUR)
        daemon.peers.answer = says(GREYLISTED)
        await daemon.scheduler.flush()
        await daemon.settle()
        (recipient,) = daemon.recipients()
        assert recipient.state is State.DEFERRED
        assert recipient.age < MINUTE


async def test_with_on_flush_a_failed_attempt_waits_for_the_next_flush() -> None:
    async with Assembly(rules(smarthost(), sends_at_once=False)).running() as daemon:
        daemon.peers.answer = says(GREYLISTED)
        await daemon.accept("m1", daemon.remote("bob@far.example", mark=QUEUE_ONLY))
        for flushes in (1, 2):
            await daemon.scheduler.flush()
            await daemon.settle()
            await daemon.advance(HOUR)
            assert len(daemon.peers.calls) == flushes


async def test_a_flush_knows_what_was_in_the_queue_before_the_scheduler_ran() -> None:
    daemon = Assembly(rules(smarthost()))
    await daemon.accept("m1", daemon.remote("bob@far.example", mark=QUEUE_ONLY), tell=False)
    await daemon.scheduler.flush()
    assert not daemon.recipients()[0].route_class.mark


async def test_a_link_assumed_up_is_used_until_nobody_assumes_it_any_more() -> None:
    async with Assembly(rules(smarthost()), up=(), down=("dsl",)).running() as daemon:
        for _ in range(2):
            daemon.scheduler.assume_up("dsl")
        daemon.scheduler.assume_no_more("dsl")
        await daemon.accept("m1", "bob@far.example")
        assert daemon.peers.taken == [("m1", "bob@far.example")]
        daemon.scheduler.assume_no_more("dsl")
        await daemon.accept("m2", "bob@far.example")
        assert daemon.states() == [State.QUEUED]


async def test_waiting_for_idle_ends_only_after_the_work_that_was_just_asked_for() -> None:
    async with Assembly(rules(smarthost()), up=(), down=("dsl",)).running() as daemon:
        await daemon.accept("m1", "bob@far.example")
        daemon.board.states["dsl"] = LinkState.UP
        await daemon.scheduler.flush()
        with anyio.fail_after(5):
            await daemon.scheduler.wait_until_idle()
        assert daemon.peers.taken == [("m1", "bob@far.example")]


async def test_the_scheduler_is_not_idle_while_it_looks() -> None:
    async with Assembly(two_routes(), up=("umts",), down=("dsl",)).running() as daemon:
        daemon.peers.answer = says(GREYLISTED)
        await daemon.accept("m1", "bob@far.example")
        daemon.peers.answer = takes_all
        daemon.clock.advance(timedelta(seconds=2))
        slowed(daemon, "advance", lambda: None)
        await daemon.scheduler.flush()
        await rounds(4)
        with anyio.fail_after(5):
            await daemon.scheduler.wait_until_idle()
        assert daemon.peers.taken == [("m1", "bob@far.example")]


async def test_waiting_for_idle_sleeps_while_a_long_transfer_goes_on() -> None:
    async with Assembly(two_routes(), up=("dsl", "umts")).running() as daemon:
        daemon.peers.gate = anyio.Event()
        await daemon.accept("m1", "bob@far.example")
        is_idle = False

        async def wait() -> None:
            nonlocal is_idle
            await daemon.scheduler.wait_until_idle()
            is_idle = True

        async with anyio.create_task_group() as waiting:
            waiting.start_soon(wait)
            await daemon.settle()  # would not return if somebody span
            assert not is_idle
            daemon.peers.gate.set()
            with anyio.fail_after(5):
                while not is_idle:
                    await anyio.lowlevel.checkpoint()


# --- direct delivery


class CrowdedLanes:
    """Lanes that wait for a gate before they work."""

    def __init__(self, daemon: Assembly) -> None:
        self.gate = anyio.Event()
        self.served: list[str] = []
        self.most = 0
        self._daemon = daemon
        self._running = 0

    async def run(self, lane: Lane) -> None:
        self._running += 1
        self.most = max(self.most, self._running)
        await self.gate.wait()
        for lease in await lane.lease(max_messages=100, max_bytes=1 << 20):
            self.served.append(lane.domain or "")
            deliver(self._daemon, lease)
        self._running -= 1


DOMAINS = [f"d{number:02}.example" for number in range(2 * MAX_DIRECT_LANES + 5)]


async def test_direct_lanes_are_bounded_and_every_domain_gets_its_turn() -> None:
    daemon = Assembly(rules(direct()))
    lanes = CrowdedLanes(daemon)
    for domain in DOMAINS:
        await daemon.accept(domain, f"bob@{domain}", tell=False)
    async with started(daemon, lanes.run):
        lanes.gate.set()
        await daemon.settle()
        assert sorted(lanes.served) == DOMAINS
        assert lanes.most == MAX_DIRECT_LANES


async def test_domains_get_their_turn_although_those_before_them_had_nothing_to_do() -> None:
    daemon = Assembly(rules(direct()))
    lanes = CrowdedLanes(daemon)
    for domain in DOMAINS:
        await daemon.accept(domain, f"bob@{domain}", tell=False)
    async with started(daemon, lanes.run):
        await daemon.spool.hold(DOMAINS[:MAX_DIRECT_LANES], "held by somebody")
        lanes.gate.set()
        await daemon.settle()
        assert sorted(lanes.served) == DOMAINS[MAX_DIRECT_LANES:]


# --- another configuration


async def test_recipients_of_an_older_configuration_wait_until_they_are_classified_anew() -> None:
    async with Assembly(rules(smarthost("old")), up=(), down=("dsl",)).running() as daemon:
        for number in range(5):
            await daemon.accept(f"m{number}", "bob@far.example")
        after = rules(smarthost("new", ("umts",)), generation="2")
        daemon.directory.rules, daemon.board.states["umts"] = after, LinkState.UP
        daemon.lanes.transports = daemon.transports()
        daemon.scheduler.reconfigure(after)
        await daemon.settle()
        assert daemon.peers.taken == []
        await daemon.housekeeper.reclassify()
        await daemon.settle()
        assert len(daemon.peers.taken) == 5


async def test_a_lane_ends_when_its_route_is_gone() -> None:
    async with Assembly(rules(smarthost("old"))).running() as daemon:
        daemon.peers.gate = anyio.Event()
        await daemon.accept("m1", "bob@far.example")
        after = rules(smarthost("new", ("umts",)), generation="2")
        daemon.directory.rules = after
        daemon.scheduler.reconfigure(after)
        await daemon.accept("m2", "bob@far.example")
        daemon.peers.gate.set()
        await daemon.settle()
        assert daemon.peers.taken == [("m1", "bob@far.example")]
        assert not daemon.scheduler.is_sending()


@pytest.mark.parametrize(
    ("changed", "calls"), [(["isp"], ["one.example", "two.example"]), (["another"], ["one.example"])]
)
async def test_a_connection_over_a_route_that_is_another_now_gets_nothing_more(
    changed: list[str], calls: list[str]
) -> None:
    """It goes to the old smarthost, with the old login and the old return addresses."""
    async with Assembly(rules(smarthost("isp"), hops=(ONE,))).running() as daemon:
        gate = daemon.peers.gate = anyio.Event()
        await daemon.accept("m1", "bob@far.example")
        daemon.directory.rules = after = rules(smarthost("isp"), hops=(TWO,))
        daemon.scheduler.reconfigure(after, changed)
        await daemon.accept("m2", "bob@far.example")
        gate.set()
        await daemon.settle()
        assert [name for name, _ in daemon.peers.taken] == ["m1", "m2"]
        assert daemon.peers.calls == calls


async def test_a_connection_that_hangs_over_a_route_that_is_another_now_is_not_waited_for() -> None:
    async with Assembly(rules(smarthost("isp"), hops=(ONE,))).running() as daemon:
        daemon.peers.gate, daemon.peers.begins_late = anyio.Event(), True
        await daemon.accept("m1", "bob@far.example")
        daemon.peers.gate = None
        daemon.directory.rules = after = rules(smarthost("isp"), hops=(TWO,))
        daemon.scheduler.reconfigure(after, ["isp"])
        await daemon.settle()
        assert daemon.peers.calls == ["one.example", "two.example"]
        assert daemon.states() == []


async def test_what_an_old_connection_comes_to_says_nothing_of_the_new_route() -> None:
    """It fails nothing by the old rules, pauses nothing, and asks no other smarthost that is configured no more."""
    old, calls, gate = HostPort("old.example", 25), [], anyio.Event()

    async def send(next_hop: HostPort, options: Options, feed: Feed, memory: Memory) -> SessionEnd:
        calls.append(next_hop.host)
        for transaction in await feed.take(max_transactions=1, max_bytes=1):
            await feed.begin([transaction])
            await gate.wait()
            feed.settle(transaction, [NotTried(Culprit.CONNECTION, "no luck")])
        return SessionEnd(Culprit.CONNECTION, "no luck")

    route = replace(smarthost("isp"), fails_on_connect_error=True)
    async with Assembly(rules(route, hops=(ONE, old))).running() as daemon:
        daemon.lanes._send = send
        await daemon.accept("m1", "bob@far.example", tell=False)
        await daemon.accept("m2", "bob@far.example")
        daemon.directory.rules = after = rules(smarthost("isp"), hops=(TWO,))
        daemon.scheduler.reconfigure(after, ["isp"])
        daemon.lanes._send = daemon.peers.send
        gate.set()
        await daemon.settle()
        assert calls == ["one.example"]
        assert daemon.scheduler.paused_routes() == {}
        assert daemon.peers.calls == ["two.example"]
        assert daemon.states() == []


# --- the end


async def test_a_stop_gives_back_what_was_being_sent() -> None:
    """`running` looks for leases at its end."""
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.gate = anyio.Event()
        for number in range(20):
            await daemon.accept(f"m{number}", "bob@far.example")
        assert State.LEASED in daemon.states()
    assert set(daemon.states()) == {State.QUEUED}


async def test_a_second_connection_is_opened_only_when_it_was_measured_to_pay() -> None:
    """More about that is in `test_parallel`."""
    async with Assembly(rules(smarthost(), connections={"isp": 3})).running() as daemon:
        daemon.peers.gate = anyio.Event()
        for number in range(300):
            await daemon.accept(f"m{number}", f"u{number}@far.example", tell=False)
        daemon.scheduler.note_classes(await daemon.spool.classes())
        await daemon.settle()
        assert len(daemon.peers.calls) == 1
        (feed,) = daemon.peers.feeds
        feed.note_speed(Speed(setup_seconds=1, message_seconds=0.3))
        await daemon.settle()
        assert len(daemon.peers.calls) == 3
        daemon.peers.gate.set()
        await daemon.settle()
        assert len(daemon.peers.taken) == 300


async def test_connections_that_fail_together_pause_the_next_hop_once() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        first = daemon.pauses.pause("isp", "mail.isp.example:587", Culprit.CONNECTION, "refused")
        second = daemon.pauses.pause("isp", "mail.isp.example:587", Culprit.CONNECTION, "refused")
        assert second == first


async def test_local_mail_that_is_queued_only_waits_for_a_flush() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        marked = daemon.local("joe")._replace(route_class=LOCAL_CLASS.marked(QUEUE_ONLY))
        await daemon.accept("m1", marked)
        await daemon.advance(HOUR)
        assert daemon.states() == [State.QUEUED]
        await daemon.scheduler.flush()
        await daemon.settle()
        assert daemon.states() == []
