"""What has to be done now and then."""

from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from masqmail.daemon.directory import LOCAL_CLASS
from masqmail.delivery.smtp import SessionEnd
from masqmail.mail.outcome import Culprit
from masqmail.routing.link import LinkState
from masqmail.routing.route import RouteClass
from masqmail.routing.schedule import Lifetime
from masqmail.spool.api import QueuedMessage, Record
from masqmail.spool.states import State
from masqmail.system.events import SPOOL_LOW
from support.assembly import DAY, HOUR, MINUTE, Assembly, rules, smarthost

pytestmark = pytest.mark.anyio

REFUSED = SessionEnd(Culprit.CONNECTION, "cannot connect: connection refused")


async def keep_house(daemon: Assembly, time: timedelta, step: timedelta = 10 * MINUTE) -> None:
    """Lets time pass, with rounds of the housekeeper."""
    while time > timedelta(0):
        await daemon.advance(step)
        await daemon.housekeeper.look_around()
        await daemon.settle()
        time -= step


async def test_the_postmaster_hears_once_of_a_route_that_does_not_work() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.ends["mail.isp.example"] = REFUSED
        await daemon.accept("m1", "bob@far.example")
        await keep_house(daemon, 3 * HOUR)
        assert daemon.reports() == []
        await keep_house(daemon, DAY)
        ((who, notice),) = daemon.reports()
        assert who == "root"
        assert "Subject: Route isp does not work" in notice
        assert "connection refused" in notice


async def test_a_failure_says_nothing_while_the_link_is_down() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.ends["mail.isp.example"] = REFUSED
        await daemon.accept("m1", "bob@far.example")
        await daemon.link("dsl", LinkState.DOWN)
        await keep_house(daemon, DAY)
        assert daemon.reports() == []


async def test_time_in_which_the_machine_sleeps_is_no_trouble() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.ends["mail.isp.example"] = REFUSED
        await daemon.accept("m1", "bob@far.example")
        daemon.clock.suspend(DAY)
        await keep_house(daemon, HOUR)
        assert daemon.reports() == []


async def test_mail_without_a_route_is_told_of_once_also_over_restarts() -> None:
    daemon = Assembly(rules())
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example")
        await keep_house(daemon, HOUR)
        assert [who for who, _ in daemon.reports()] == ["root"]
        assert "masqmail explain" in daemon.reports()[0][1]
    after = Assembly(rules(), spool=daemon.spool, clock=daemon.clock)
    async with after.running():
        await keep_house(after, HOUR)
        assert after.reports() == []


async def test_mail_without_a_route_is_told_of_again_when_it_happens_again() -> None:
    async with Assembly(rules()).running() as daemon:
        await daemon.accept("m1", "bob@far.example")
        await daemon.housekeeper.look_around()
        await daemon.spool.remove(["m1"], daemon.clock.now(), "removed")
        await daemon.housekeeper.look_around()
        await daemon.accept("m2", "bob@far.example")
        await daemon.housekeeper.look_around()
        await daemon.settle()
        assert len(daemon.reports()) == 2


async def test_a_notice_that_finds_no_room_is_written_later() -> None:
    async with Assembly(rules()).running() as daemon:
        await daemon.accept("m1", "bob@far.example")
        daemon.spool.capacity_bytes = 0
        await daemon.housekeeper.look_around()
        daemon.spool.capacity_bytes = 1 << 20
        await daemon.housekeeper.look_around()
        await daemon.settle()
        assert len(daemon.reports()) == 1


async def test_a_clock_set_back_leaves_nothing_due_too_far_away() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        await daemon.accept("m1", "bob@far.example", tell=False)
        (lease,) = await daemon.lease_all()
        item = lease.recipients[0]
        due = daemon.clock.now() + HOUR
        await daemon.spool.record([Record(item.id, State.DEFERRED, "later", item.route_class, due=due)])
        daemon.scheduler.note_classes({item.route_class})
        daemon.clock.set_now(daemon.clock.now() - DAY)
        await daemon.housekeeper.look_around()
        await daemon.settle()
        assert daemon.peers.taken == [("m1", "bob@far.example")]


async def test_a_clock_set_forward_makes_due_what_is_due_by_now() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        await daemon.accept("m1", "bob@far.example", tell=False)
        (lease,) = await daemon.lease_all()
        item = lease.recipients[0]
        due = daemon.clock.now() + HOUR
        await daemon.spool.record([Record(item.id, State.DEFERRED, "later", item.route_class, due=due)])
        daemon.scheduler.note_classes({item.route_class})
        await daemon.settle()
        daemon.clock.set_now(daemon.clock.now() + DAY)
        await daemon.housekeeper.look_around()
        await daemon.settle()
        assert daemon.peers.taken == [("m1", "bob@far.example")]


async def test_classes_of_an_older_configuration_are_computed_anew_in_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Local ones have no generation, and keep nobody from his turn."""
    monkeypatch.setattr("masqmail.daemon.housekeeping.BATCH", 2)
    daemon = Assembly(rules(smarthost("old")))
    for number in range(3):
        await daemon.accept(f"l{number}", daemon.local("ann"), tell=False)
        await daemon.accept(f"m{number}", "bob@far.example", tell=False)
    after = rules(smarthost("new"), generation="2")
    daemon.directory.rules = after
    daemon.scheduler.reconfigure(after)
    await daemon.housekeeper.reclassify()
    assert set(await daemon.spool.classes()) == {
        LOCAL_CLASS,
        RouteClass(("new",), generation="2"),
    }


async def test_held_recipients_are_classified_anew_as_well() -> None:
    daemon = Assembly(rules(smarthost("old")))
    await daemon.accept("m1", "bob@far.example", tell=False)
    await daemon.spool.hold(["m1"], "held")
    after = rules(smarthost("new"), generation="2")
    daemon.directory.rules = after
    daemon.scheduler.reconfigure(after)
    await daemon.housekeeper.reclassify()
    (recipient,) = daemon.recipients()
    assert (recipient.state, recipient.route_class.routes) == (State.HELD, ("new",))


async def test_mail_has_the_right_of_way_while_classes_are_computed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a batch comes a rest, twice as long as the batch took."""
    monkeypatch.setattr("masqmail.daemon.housekeeping.BATCH", 1)
    daemon = Assembly(rules(smarthost("old")))
    for number in range(2):
        await daemon.accept(f"m{number}", "bob@far.example", tell=False)
    after = rules(smarthost("new"), generation="2")
    daemon.directory.rules = after
    daemon.scheduler.reconfigure(after)
    stale = daemon.spool.stale

    async def slow(generation: str, limit: int = 1) -> list[QueuedMessage]:
        daemon.clock.advance(timedelta(seconds=3))
        found: list[QueuedMessage] = await stale(generation, limit)
        return found

    monkeypatch.setattr(daemon.spool, "stale", slow)
    left = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(daemon.housekeeper.reclassify)
        for _ in range(4):
            await daemon.settle()
            left.append(len(await stale("2", 10)))
            await daemon.advance(timedelta(seconds=3))
        await daemon.advance(timedelta(seconds=30))
    assert left == [1, 1, 0, 0]


async def test_space_is_given_back_once_a_minute_beside_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round that takes long keeps nothing from being given back, and the other way round."""
    daemon = Assembly(rules())
    done: list[str] = []

    async def look_around() -> None:
        done.append("looked")

    async def tidy() -> None:
        done.append("tidied")
        await anyio.Event().wait()  # never ends

    monkeypatch.setattr(daemon.housekeeper, "look_around", look_around)
    monkeypatch.setattr(daemon.spool, "tidy", tidy)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(daemon.housekeeper.run)
        await daemon.settle()
        assert done == ["looked"]
        await daemon.advance(2 * MINUTE)
        assert done.count("tidied") == 1
        assert done.count("looked") == 3
        tasks.cancel_scope.cancel()


async def test_old_history_is_trimmed_once_an_hour() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        await daemon.accept("m1", "bob@far.example")
        daemon.clock.suspend(29 * DAY)
        await keep_house(daemon, HOUR)
        await daemon.housekeeper.give_space_back()
        assert await daemon.spool.history("m1")
        daemon.clock.suspend(DAY)
        await daemon.housekeeper.give_space_back()
        assert not await daemon.spool.history("m1")


async def test_a_round_begins_at_once_for_mail_without_a_route_and_early_for_an_early_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    daemon = Assembly(replace(rules(), lifetime=Lifetime((timedelta(seconds=5),), DAY)))
    rounds = 0

    async def look_around() -> None:
        nonlocal rounds
        rounds += 1

    monkeypatch.setattr(daemon.housekeeper, "look_around", look_around)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(daemon.housekeeper.run)
        await daemon.settle()
        daemon.housekeeper.note_classes({LOCAL_CLASS, RouteClass(("isp",))})
        await daemon.settle()
        assert rounds == 1
        daemon.housekeeper.note_classes({LOCAL_CLASS, RouteClass(())})
        await daemon.settle()
        assert rounds == 2
        daemon.housekeeper.look_soon()
        await daemon.settle()
        assert rounds == 3
        await daemon.advance(timedelta(seconds=5))
        assert rounds == 4
        tasks.cancel_scope.cancel()


async def test_an_error_of_ours_spoils_one_round_and_not_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Assembly(rules())
    rounds = 0

    async def look_around() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise RuntimeError("a bug")

    monkeypatch.setattr(daemon.housekeeper, "look_around", look_around)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(daemon.housekeeper.run)
        await daemon.settle()
        await daemon.advance(2 * MINUTE)
        assert rounds == 3
        tasks.cancel_scope.cancel()


async def test_a_disk_without_room_is_told_once_each_time(caplog: pytest.LogCaptureFixture) -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        with caplog.at_level("WARNING", logger="masqmail"):
            for capacity in (-1, -1, 1_000_000, -1):
                daemon.spool.capacity_bytes = capacity
                await keep_house(daemon, MINUTE, MINUTE)
        assert [record.message for record in caplog.records].count(SPOOL_LOW) == 2
