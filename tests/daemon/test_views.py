"""The reasons of what waits are those of this moment; times are UTC, states those of INTERFACE."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from masqmail.daemon import views
from masqmail.daemon.directory import LOCAL_CLASS
from masqmail.mail.outcome import Culprit
from masqmail.mail.status import Status
from masqmail.spool.api import Attempt, HistoryEntry, NewMessage, NewRecipient, Record, TargetKind
from masqmail.spool.states import State
from support.configuration import configuration
from support.controlroom import TEXT, ControlRoom, control_room

pytestmark = pytest.mark.anyio


async def _shown(room: ControlRoom, queue_id: str = "1") -> dict[str, Any]:
    found = await room.spool.find(queue_id)
    assert found is not None
    document: dict[str, Any] = views.QueueView(room.scheduler, room.clock.now()).message(found)
    return document


async def _recipient(room: ControlRoom) -> dict[str, Any]:
    [recipient] = (await _shown(room))["recipients"]
    return dict(recipient)


async def _end_lease(room: ControlRoom, state: State, reason: str, **more: Any) -> None:
    [lease] = await room.spool.lease("x", list(await room.spool.classes()), now=room.clock.now())
    route_class = lease.recipients[0].route_class
    await room.spool.record([Record(lease.recipients[0].id, state, reason, route_class, **more)])


def test_instants_are_utc_to_the_second() -> None:
    moment = datetime(2026, 3, 1, 12, 30, 15, 999, tzinfo=UTC)
    assert views.instant(moment) == "2026-03-01T12:30:15Z"
    assert views.instant(None) is None


async def test_a_message_has_every_key_of_the_interface() -> None:
    async with control_room() as room:
        await room.accept("1")
        shown = await _shown(room)
        [recipient] = shown.pop("recipients")
        assert shown == {
            "id": "1",
            "sender": "john@home.example",
            "size": 24,
            "received_at": views.instant(room.clock.now()),
            "received_from": "john (uid 1000)",
            "priority": 0,
        }
        assert recipient == {
            "address": "ann@net.example",
            "original": "ann@net.example",
            "state": "queued",
            "route": "gmx",
            "attempts": 0,
            "last_attempt_at": None,
            "next_attempt_at": None,
            "last_status": None,
            "reason": "waits for route gmx, link dsl is down: nobody has declared it up (`masqmail link up dsl`);"
            " route backup, link wifi is down: nobody has declared it up (`masqmail link up wifi`)",
        }


async def test_the_reason_follows_the_links() -> None:
    async with control_room() as room:
        await room.accept("1")
        await room.operator.set_link("wifi", "up")
        found = await _recipient(room)
        assert (found["route"], found["reason"]) == ("backup", "due over route backup")


async def test_a_pause_is_a_reason_and_said_once() -> None:
    async with control_room() as room:
        await room.accept("1", routes=("gmx",))
        await room.operator.set_link("dsl", "up")
        await _end_lease(room, State.QUEUED, "no answer from mail.gmx.example")
        assert (await _recipient(room))["reason"] == "due over route gmx; before: no answer from mail.gmx.example"
        room.pauses.pause("gmx", "mail.gmx.example:587", Culprit.CONNECTION, "no answer from mail.gmx.example")
        reason = (await _recipient(room))["reason"]
        assert reason == "waits for route gmx, paused: no answer from mail.gmx.example"


async def test_what_was_deferred_says_why_and_when_it_is_tried_again() -> None:
    async with control_room() as room:
        await room.accept("1", routes=("gmx",))
        now = room.clock.now()
        status = Status(451, "4.3.0", "come back later")
        attempt = Attempt(now, "gmx", "mail.gmx.example:587", spent=True)
        due = now + timedelta(minutes=5)
        await _end_lease(room, State.DEFERRED, "451 later", status=status, due=due, attempt=attempt)
        found = await _recipient(room)
        assert (found["state"], found["reason"], found["attempts"]) == ("deferred", "451 later", 1)
        assert found["next_attempt_at"] == views.instant(due)
        assert found["last_attempt_at"] == views.instant(now)
        assert found["last_status"] == "451 4.3.0 come back later"


async def _deferred(room: ControlRoom) -> None:
    """A message that was tried, and whose next attempt is due in five minutes."""
    await room.accept("1", routes=("gmx",))
    due = room.clock.now() + timedelta(minutes=5)
    attempt = Attempt(room.clock.now(), "gmx", "mail.gmx.example:587", spent=True)
    await _end_lease(room, State.DEFERRED, "451 later", due=due, attempt=attempt)


async def test_what_was_deferred_is_queued_for_its_link_once_it_is_due() -> None:
    async with control_room() as room:
        await _deferred(room)
        room.clock.advance(timedelta(minutes=5) - timedelta(seconds=1))
        assert (await _recipient(room))["state"] == "deferred"
        room.clock.advance(timedelta(seconds=1))
        found = await _recipient(room)
        assert (found["state"], found["route"], found["next_attempt_at"]) == ("queued", "gmx", None)
        down = "link dsl is down: nobody has declared it up (`masqmail link up dsl`)"
        assert found["reason"] == f"waits for route gmx, {down}; before: 451 later"
        assert found["attempts"] == 1 and found["last_attempt_at"]
        await room.operator.set_link("dsl", "up")
        assert (await _recipient(room))["reason"] == "due over route gmx; before: 451 later"


async def test_what_was_deferred_and_is_due_says_when_the_pause_ends_that_it_waits_for() -> None:
    async with control_room() as room:
        await _deferred(room)
        room.clock.advance(timedelta(minutes=6))
        await room.operator.set_link("dsl", "up")
        pause = room.pauses.pause("gmx", "mail.gmx.example:587", Culprit.LOGIN, "the login was refused")
        found = await _recipient(room)
        assert found["reason"] == "waits for route gmx, paused: the login was refused; before: 451 later"
        assert found["next_attempt_at"] == views.instant(room.pauses.ends_at(pause))


@pytest.mark.parametrize(
    ("accepted", "route", "reason"),
    [
        ({"mark": "queue-only"}, "gmx", "waits until somebody flushes the queue"),
        ({"mark": "queue-only", "routes": ("local",)}, "local", "waits until somebody flushes the queue"),
        ({"routes": ()}, None, "no route is meant for it (`masqmail explain` says why)"),
        ({"routes": ("local",)}, "local", "due for local delivery"),
        ({"routes": ("gone",)}, "gone", "waits for route gone, it is not configured any more"),
    ],
)
async def test_other_reasons_to_wait(accepted: dict[str, Any], route: str | None, reason: str) -> None:
    async with control_room() as room:
        await room.accept("1", **accepted)
        found = await _recipient(room)
        assert (found["route"], found["reason"]) == (route, reason)


async def test_a_host_without_routes_says_so() -> None:
    async with control_room(TEXT.partition("[routes.")[0]) as room:
        await room.accept("1", routes=())
        assert (await _recipient(room))["reason"] == "no route to other hosts is configured"


async def test_what_is_being_sent_is_queued() -> None:
    async with control_room() as room:
        await room.accept("1")
        await room.spool.lease("x", list(await room.spool.classes()), now=room.clock.now())
        found = await _recipient(room)
        assert (found["state"], found["reason"]) == ("queued", "being sent now")
        assert found["route"] == "gmx"


async def test_a_message_is_listed_with_what_has_ended_until_all_of_it_has() -> None:
    async with control_room() as room:
        await room.accept("1", "ann@net.example", "bob@net.example")
        [lease] = await room.spool.lease("x", list(await room.spool.classes()), now=room.clock.now())
        ann = lease.recipients[0]
        await room.spool.record([Record(ann.id, State.DELIVERED, "250 OK", ann.route_class)])
        states = [(item["address"], item["state"]) for item in (await _shown(room))["recipients"]]
        assert states == [("ann@net.example", "delivered"), ("bob@net.example", "queued")]


def test_a_line_of_history() -> None:
    at = datetime(2026, 3, 1, 13, tzinfo=timezone(timedelta(0)))
    entry = HistoryEntry(at, "1", "delivered", "ann@net.example", "gmx", "mx", "250 2.0.0 OK", "taken")
    assert views.history_entry(entry) == {
        "at": "2026-03-01T13:00:00Z",
        "id": "1",
        "event": "delivered",
        "recipient": "ann@net.example",
        "route": "gmx",
        "host": "mx",
        "status": "250 2.0.0 OK",
        "text": "taken",
    }


async def test_what_waits_for_a_pause_says_when_it_ends() -> None:
    async with control_room() as room:
        await room.accept("1", routes=("gmx",))
        await room.operator.set_link("dsl", "up")
        pause = room.pauses.pause("gmx", "mail.gmx.example:587", Culprit.LOGIN, "the login was refused")
        assert (await _recipient(room))["next_attempt_at"] == views.instant(room.pauses.ends_at(pause))


@pytest.mark.parametrize(
    ("kind", "target", "source", "address"),
    [
        (TargetKind.MAILBOX, "joe", "", "joe+lists@localhost"),
        (TargetKind.MAILBOX, "joe", "/etc/aliases:list", "joe@home.example"),
        (TargetKind.PIPE, "|/bin/true", "/etc/aliases:list", "|/bin/true"),
    ],
)
async def test_a_mailbox_of_this_host_is_shown_by_an_address(
    kind: TargetKind, target: str, source: str, address: str
) -> None:
    async with control_room() as room:
        recipient = NewRecipient(target, "joe+lists@localhost", kind, LOCAL_CLASS, source=source)
        await room.spool.accept(
            [NewMessage("1", None, [recipient], b"Subject: x\r\n", b"", room.clock.now(), "joe (uid 1000)")]
        )
        assert (await _recipient(room))["address"] == address


def test_a_fetch_account_says_which_routes_log_in_to_it() -> None:
    route = '[routes.{0}]\nsmarthost = "mail.example"\npop_before_smtp = "first"\n'
    account = '[fetch.first]\nprotocol = "pop3"\nserver = "pop.example"\nusername = "a"\npassword_file = "b"\n'
    routes = configuration(route.format("out") + route.format("away") + account).routes.values()
    first, second = ({"name": name, "state": "ready", "reason": "nothing new"} for name in ("first", "second"))
    both = "nothing new; it is logged in to before mail is sent over out, away"
    assert views.with_routes([first, second], routes) == [{**first, "reason": both}, second]
