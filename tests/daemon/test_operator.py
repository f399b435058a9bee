"""Seeing and flushing: what counts as delivered and as waiting, and what a flush may and may not do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from masqmail.daemon.lane import Lane
from masqmail.mail.outcome import Culprit, Delivered, Failed, NotTried, Outcome
from masqmail.mail.status import MAILBOX_UNKNOWN, OK
from masqmail.spool.api import SpoolError
from support.controlroom import ControlRoom, control_room

pytestmark = pytest.mark.anyio

EVERYTHING = {"routes": None, "assume_up": "", "wait": True}


@asynccontextmanager
async def scheduled(room: ControlRoom, outcome: Outcome) -> AsyncIterator[set[str]]:
    """The scheduler runs, with lanes in which every recipient has the same outcome. Yields the routes they took."""
    routes = set[str]()

    async def run_lane(lane: Lane) -> None:
        routes.add(lane.route_name)
        route = room.directory.rules.route(lane.route_name)
        while leases := await lane.lease(max_messages=1, max_bytes=1):
            for lease in leases:
                room.desk.settle(lease, route, [outcome for _ in lease.recipients])
            await room.desk.finish()
            if isinstance(outcome, NotTried):
                room.pauses.pause(lane.route_name, "mail.gmx.example:587", outcome.culprit, outcome.reason)
                return

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(room.scheduler.run, run_lane, room.desk.end_runs)
        await anyio.wait_all_tasks_blocked()
        yield routes
        tasks.cancel_scope.cancel()


async def _flush(room: ControlRoom, **asked: Any) -> list[Any]:
    with anyio.fail_after(5):
        return [document async for document in room.operator.flush(**{**EVERYTHING, **asked})]


def _delivered() -> Outcome:
    return Delivered(OK, "mail.gmx.example:587")


async def test_a_flush_that_waits_ends_with_everything_delivered() -> None:
    async with control_room() as room:
        await room.accept("1", "ann@net.example", "bob@net.example")
        await room.accept("2")
        async with scheduled(room, _delivered()):
            await room.operator.set_link("dsl", "up")
            assert (await _flush(room))[-1] == {"delivered": 3, "failed": 0, "waiting": 0}


async def test_what_was_delivered_before_does_not_count() -> None:
    async with control_room() as room:
        await room.operator.set_link("dsl", "up")
        await room.accept("1")
        async with scheduled(room, _delivered()):
            await _flush(room)
            assert (await _flush(room))[-1] == {"delivered": 0, "failed": 0, "waiting": 0}


async def test_what_fails_is_counted_as_failed() -> None:
    async with control_room() as room:
        await room.accept("1")
        refused = Failed(MAILBOX_UNKNOWN, Culprit.RECIPIENT, "550 nobody")
        async with scheduled(room, refused):
            await room.operator.set_link("dsl", "up")
            last = (await _flush(room, routes={"gmx"}))[-1]
            assert (last["failed"], last["delivered"]) == (1, 0)


async def test_a_flush_never_treats_a_link_as_up() -> None:
    async with control_room() as room:
        await room.accept("1")
        async with scheduled(room, _delivered()) as routes:
            assert (await _flush(room))[-1] == {"delivered": 0, "failed": 0, "waiting": 1}
            assert routes == set()


async def test_a_link_assumed_up_is_so_until_everything_was_tried_once() -> None:
    async with control_room() as room:
        await room.accept("1")
        async with scheduled(room, _delivered()):
            assert (await _flush(room, routes={"gmx"}, assume_up="dsl", wait=False))[-1]["delivered"] == 1
            await room.accept("2")
            room.scheduler.note_classes(await room.spool.classes())
            await anyio.wait_all_tasks_blocked()
            assert (await room.spool.counts()).queued == 1


async def test_a_link_is_not_assumed_up_any_more_when_whoever_asked_has_gone() -> None:
    async with control_room() as room:
        await room.accept("1")
        series = room.operator.flush({"gmx"}, assume_up="dsl", wait=True)
        await anext(series)
        assert room.scheduler.is_open("gmx")
        await series.aclose()
        assert not room.scheduler.is_open("gmx")


async def test_a_flush_forgets_pauses_and_frees_what_only_waited_for_it() -> None:
    async with control_room() as room:
        await room.accept("1", mark="queue-only")
        await room.operator.set_link("dsl", "up")
        room.pauses.pause("gmx", "mail.gmx.example:587", Culprit.CONNECTION, "no answer")
        async with scheduled(room, _delivered()):
            assert (await _flush(room, routes={"gmx"}))[-1]["delivered"] == 1


async def test_a_flush_of_one_route_leaves_the_others_alone() -> None:
    async with control_room() as room:
        await room.accept("1", mark="queue-only", routes=("gmx",))
        await room.accept("2", mark="queue-only", routes=("backup",))
        await room.operator.set_link("dsl", "up")
        await room.operator.set_link("wifi", "up")
        async with scheduled(room, _delivered()) as routes:
            assert (await _flush(room, routes={"backup"}))[-1] == {"delivered": 1, "failed": 0, "waiting": 0}
            assert routes == {"backup"}


async def test_held_recipients_are_not_waiting() -> None:
    async with control_room() as room:
        await room.accept("1")
        await room.operator.act("hold", ["1"], "john")
        async with scheduled(room, _delivered()):
            assert (await _flush(room))[-1]["waiting"] == 0
            assert (await _flush(room, routes={"gmx"}))[-1]["waiting"] == 0


async def test_what_could_not_be_sent_is_still_waiting_when_nobody_works_any_more() -> None:
    async with control_room() as room:
        await room.accept("1", routes=("gmx",))
        await room.operator.set_link("dsl", "up")
        async with scheduled(room, NotTried(Culprit.CONNECTION, "no answer")):
            assert (await _flush(room))[-1] == {"delivered": 0, "failed": 0, "waiting": 1}


async def test_a_link_declared_survives_a_restart_but_not_a_reboot() -> None:
    async with control_room() as room:
        await room.operator.set_link("dsl", "up")
        assert "this boot" in (await room.spool.recall("links declared by hand") or "")


async def test_the_status_of_everything() -> None:
    async with control_room() as room:
        await room.accept("1", "ann@net.example", "bob@net.example")
        await room.accept("2", "carl@other.example", routes=())
        await room.operator.act("hold", ["1"], "john")
        await room.operator.set_link("wifi", "up")
        room.pauses.pause("backup", "mail.backup.example:587", Culprit.LOGIN, "535 wrong password")
        status: Any = await room.operator.status()
        assert status["host"] == "home.example"
        assert status["routes"] == [
            {
                "name": "gmx",
                "state": "waiting",
                "reason": "link dsl: nobody has declared it up (`masqmail link up dsl`)",
                "queued": 2,
                "next_attempt_at": None,
            },
            {
                "name": "backup",
                "state": "paused",
                "reason": "535 wrong password",
                "queued": 0,
                "next_attempt_at": status["routes"][1]["next_attempt_at"],
            },
        ]
        assert status["routes"][1]["next_attempt_at"].endswith("Z")
        assert {key: status["queue"][key] for key in ("messages", "recipients", "held", "deferred")} == {
            "messages": 2,
            "recipients": 3,
            "held": 2,
            "deferred": 0,
        }
        assert status["problems"] == ["no route is meant for 1 recipient in the queue; see `masqmail queue`"]


async def test_the_spool_failing_in_the_middle_of_a_flush_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    async with control_room() as room:

        async def broken() -> Any:
            raise SpoolError("the queue file refused")

        monkeypatch.setattr(room.spool, "counts", broken)
        with pytest.raises(SpoolError):
            await _flush(room)
