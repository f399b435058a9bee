"""The control socket: who may ask what, and the documents that come back."""

import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from masqmail.daemon.control import SLICE
from masqmail.daemon.http import HttpError, Request
from masqmail.retrieval.account import FetchFailure
from masqmail.spool.api import QueuedMessage
from masqmail.spool.states import State
from support.controlroom import ANN, DAEMON_UID, HELPER, JOHN, ControlRoom, control_room
from support.fetchroom import Room, account

pytestmark = pytest.mark.anyio


async def _refused(
    room: ControlRoom, method: str, path: str, uid: int | None = 0, **document: object
) -> tuple[int, str]:
    with pytest.raises(HttpError) as refused:
        await room.ask(method, path, uid, **document)
    return refused.value.status, refused.value.text


async def _states(room: ControlRoom) -> dict[str, list[str]]:
    listed = await room.spool.listing()
    return {item.message.queue_id: [recipient.state.value for recipient in item.recipients] for item in listed}


async def _queue(room: ControlRoom, path: str = "/v1/queue", uid: int = 0) -> list[str]:
    return [message["id"] for message in json.loads(await room.ask("GET", path, uid))]


# --- who sees what


@pytest.mark.parametrize("uid", [0, DAEMON_UID, HELPER])
async def test_root_and_the_daemons_user_and_group_see_everything(uid: int) -> None:
    async with control_room() as room:
        await room.accept("1", owner_uid=JOHN)
        await room.accept("2")
        assert await _queue(room, uid=uid) == ["1", "2"]
        assert (await room.ask("GET", "/v1/queue/2", uid))["id"] == "2"
        assert len(await room.ask("GET", "/v1/log", uid)) == 2


async def test_others_see_their_own_messages() -> None:
    async with control_room() as room:
        await room.accept("1", owner_uid=JOHN)
        await room.accept("2", owner_uid=ANN)
        await room.accept("3")
        assert await _queue(room, uid=JOHN) == ["1"]
        assert await room.ask("GET", "/v1/queue/1/body", JOHN) == b"Hello\r\n"
        assert [entry["event"] for entry in await room.ask("GET", "/v1/log?id=1", JOHN)] == ["received"]


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("GET", "/v1/queue/2", {}),
        ("GET", "/v1/queue/2/headers", {}),
        ("GET", "/v1/queue/2/body", {}),
        ("GET", "/v1/log", {}),
        ("GET", "/v1/log?id=2", {}),
        ("GET", "/v1/explain?address=root", {}),
        ("POST", "/v1/queue/remove", {"ids": ["1", "2"]}),
        ("POST", "/v1/queue/hold", {"ids": ["1"]}),
        ("POST", "/v1/queue/release", {"ids": ["1"]}),
        ("POST", "/v1/queue/retry", {"ids": ["1"]}),
        ("POST", "/v1/queue/bounce", {"ids": ["1"]}),
        ("POST", "/v1/link/dsl", {"state": "up"}),
        ("POST", "/v1/flush", {}),
    ],
)
@pytest.mark.parametrize("uid", [JOHN, None])
async def test_others_are_refused_the_rest(
    uid: int | None, method: str, path: str, document: dict[str, object]
) -> None:
    async with control_room() as room:
        await room.accept("1", owner_uid=JOHN)
        await room.accept("2", owner_uid=ANN)
        assert (await _refused(room, method, path, uid, **document))[0] == 403
        assert await _states(room) == {"1": ["queued"], "2": ["queued"]}


async def test_others_remove_their_own_messages_and_no_others() -> None:
    async with control_room() as room:
        for queue_id, owner in (("1", JOHN), ("2", ANN), ("3", JOHN), ("4", None)):
            await room.accept(queue_id, owner_uid=owner)
        assert await room.ask("POST", "/v1/queue/remove", JOHN, ids=["1"]) == {"messages": 1, "unknown": []}
        assert await room.ask("POST", "/v1/queue/remove", JOHN, all=True) == {"messages": 1, "unknown": []}
        assert set(await _states(room)) == {"2", "4"}


async def test_everybody_sees_the_status_but_not_what_is_wrong_inside() -> None:
    async with control_room() as room:
        room.operator.problems.append(lambda: ["the alias file /etc/aliases cannot be read"])
        await room.accept("1")
        own, full = await room.ask("GET", "/v1/status", JOHN), await room.ask("GET", "/v1/status")
        assert own["queue"]["messages"] == 1
        assert (len(own["problems"]), len(full["problems"])) == (0, 1)
        assert [link["name"] for link in await room.ask("GET", "/v1/link", JOHN)][-2:] == ["dsl", "wifi"]


# --- the queue


async def test_the_whole_queue_or_a_page_of_it() -> None:
    async with control_room() as room:
        for number in range(SLICE + 5):
            await room.accept(f"{number:03}")
        assert len(await _queue(room)) == SLICE + 5
        assert await _queue(room, "/v1/queue?limit=2&after=003") == ["004", "005"]
        assert await _queue(room, f"/v1/queue?limit={SLICE + 2}&after=001") == [
            f"{n:03}" for n in range(2, SLICE + 4)
        ]
        assert await _queue(room, "/v1/queue?limit=0") == []
        assert (await _refused(room, "GET", "/v1/queue?limit=-1"))[0] == 400


async def test_a_long_queue_is_read_while_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first piece needs one slice of the queue; who reads no further costs no more."""
    async with control_room() as room:
        for number in range(3 * SLICE):
            await room.accept(f"{number:03}")
        listing, slices = room.spool.listing, []

        def counted(**page: Any) -> Awaitable[list[QueuedMessage]]:
            slices.append(page["limit"])
            return listing(**page)

        monkeypatch.setattr(room.spool, "listing", counted)
        response = await room.control.handle(Request("GET", ("v1", "queue"), {}, {}, 0, 0))
        assert response.content is not None
        first = await anext(response.content)
        assert (slices, first.count(b'"id"')) == ([SLICE], SLICE)
        rest = [piece async for piece in response.content]
        assert len(json.loads(first + b"".join(rest))) == 3 * SLICE


async def test_headers_and_body_as_they_are() -> None:
    async with control_room() as room:
        await room.accept("1", header=b"Subject: \xff\r\n", body=b"")
        assert await room.ask("GET", "/v1/queue/1/headers") == b"Subject: \xff\r\n"
        assert await room.ask("GET", "/v1/queue/1/body") == b""


async def test_a_big_body_comes_in_pieces_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    file = tmp_path / "body"
    file.write_bytes(b"0123456789" * 100_000)
    async with control_room() as room:
        await room.accept("1")
        found = await room.spool.find("1")
        assert found is not None
        stored = replace(found, message=replace(found.message, body=file))

        async def find(queue_id: str, *, with_body: bool) -> object:
            return stored

        monkeypatch.setattr(room.spool, "find", find)
        assert await room.ask("GET", "/v1/queue/1/body") == file.read_bytes()
        file.unlink()
        assert (await _refused(room, "GET", "/v1/queue/1/body"))[0] == 404


async def test_a_message_that_is_not_there() -> None:
    async with control_room() as room:
        await room.accept("1")
        await room.ask("POST", "/v1/queue/remove", ids=["1"])
        assert await _refused(room, "GET", "/v1/queue/2") == (404, "there is no message 2 in the queue")
        status, text = await _refused(room, "GET", "/v1/queue/1")
        assert (status, text) == (404, "message 1 has left the queue; `masqmail log 1` says what became of it")
        assert await _refused(room, "GET", "/v1/queue/1", JOHN) == (404, "there is no message 1 in the queue")
        assert [entry["event"] for entry in await room.ask("GET", "/v1/log?id=1")] == ["received", "removed"]
        assert (await _refused(room, "GET", "/v1/log?id=2"))[0] == 404


# --- actions


async def test_only_showing_a_body_and_giving_a_message_back_read_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies may lie on a slow disk, and there may be a hundred thousand."""
    async with control_room() as room:
        await room.accept("1", owner_uid=JOHN)
        find, read = room.spool.find, []

        def noted(queue_id: str, *, with_body: bool = True) -> Awaitable[QueuedMessage | None]:
            if with_body:
                read.append(queue_id)
            return find(queue_id, with_body=with_body)

        monkeypatch.setattr(room.spool, "find", noted)
        for uid in (0, JOHN):
            for path in ("/v1/queue", "/v1/queue/1", "/v1/queue/1/headers", "/v1/log?id=1"):
                await room.ask("GET", path, uid)
        for action in ("hold", "release", "retry"):
            await room.ask("POST", f"/v1/queue/{action}", ids=["1"])
        assert read == []
        await room.ask("GET", "/v1/queue/1/body")
        await room.ask("POST", "/v1/queue/bounce", ids=["1"])
        assert read == ["1", "1"]
        await room.accept("2", owner_uid=JOHN)
        await room.ask("POST", "/v1/queue/remove", JOHN, ids=["2"])
        assert read == ["1", "1"]


async def test_messages_really_changed_are_counted_and_unknown_ones_named() -> None:
    async with control_room() as room:
        await room.accept("1", "ann@net.example", "bob@net.example")
        await room.accept("2")
        assert await room.ask("POST", "/v1/queue/hold", ids=["1", "nope", "1"]) == {
            "messages": 1,
            "unknown": ["nope"],
        }
        assert await room.ask("POST", "/v1/queue/hold", ids=["1", "2"]) == {"messages": 1, "unknown": []}
        assert await _states(room) == {"1": ["held", "held"], "2": ["held"]}
        assert await room.ask("POST", "/v1/queue/release", all=True) == {"messages": 2, "unknown": []}
        assert await room.ask("POST", "/v1/queue/release", all=True) == {"messages": 0, "unknown": []}


@pytest.mark.parametrize(
    ("conditions", "held"),
    [
        ({"sender": "*@home.example"}, ["1", "3"]),
        ({"sender": "<>"}, ["2"]),
        ({"recipient": "bob@*"}, ["2"]),
        ({"route": "backup"}, ["1", "2"]),
        ({"route": "backup", "sender": "john"}, ["1"]),
        ({"older_than": "90m"}, ["1"]),
        ({"older_than": "10m"}, ["1", "2"]),
        ({"ids": ["1", "3"], "route": "backup"}, ["1"]),
        ({"all": True}, ["1", "2", "3"]),
        ({"all": True, "ids": []}, []),
    ],
)
async def test_conditions_select_messages(conditions: dict[str, object], held: list[str]) -> None:
    async with control_room() as room:
        await room.accept("1")
        room.clock.advance(timedelta(hours=1))
        await room.accept("2", "bob@net.example", sender="<>")
        room.clock.advance(timedelta(hours=1))
        await room.accept("3", routes=("gmx",))
        await room.ask("POST", "/v1/queue/hold", **conditions)
        assert [name for name, states in (await _states(room)).items() if states == ["held"]] == held


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({}, 400),
        ({"all": False}, 400),
        ({"all": 1}, 400),
        ({"ids": "1"}, 400),
        ({"ids": [1]}, 400),
        ({"ids": ["1", ""]}, 400),
        ({"sender": 5}, 400),
        ({"sender": ""}, 400),
        ({"all": True, "sender": ""}, 400),  # what a variable that is not set leaves
        ({"all": True, "route": None}, 400),
        ({"all": True, "sendr": "bob@*"}, 400),
        ({"ids": ["1"], "older-than": "4h"}, 400),
        ({"older_than": "yesterday"}, 400),
        ({"older_than": "99999d"}, 400),
        ({"route": "gxm"}, 404),
    ],
)
async def test_a_selection_that_cannot_be_meant_changes_nothing(document: dict[str, object], status: int) -> None:
    async with control_room() as room:
        await room.accept("1")
        assert (await _refused(room, "POST", "/v1/queue/remove", **document))[0] == status
        assert await _states(room) == {"1": ["queued"]}


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/v1/link/dsl", {"state": "up", "for": "1h"}),
        ("/v1/flush", {"rout": "gmx"}),
        ("/v1/flush", {"route": ""}),
        ("/v1/flush", {"wait": "yes"}),
        ("/v1/fetch", {"account": "gmx"}),
        ("/v1/fetch", {"online": 1}),
    ],
)
async def test_a_key_with_a_slip_is_refused_and_not_passed_over(path: str, document: dict[str, object]) -> None:
    async with control_room() as room:
        assert (await _refused(room, "POST", path, **document))[0] == 400


async def test_what_is_being_sent_is_held_when_it_comes_back() -> None:
    async with control_room() as room:
        await room.accept("1")
        [lease] = await room.spool.lease("x", list(await room.spool.classes()), now=room.clock.now())
        assert (await room.ask("POST", "/v1/queue/hold", ids=["1"]))["messages"] == 1
        shown = (await room.ask("GET", "/v1/queue/1"))["recipients"][0]
        assert (shown["state"], shown["reason"]) == ("queued", "being sent now")
        room.desk.give_back([lease])
        assert await _states(room) == {"1": ["held"]}


async def test_retry_also_frees_what_waits_for_a_flush() -> None:
    async with control_room() as room:
        await room.accept("1", mark="queue-only")
        assert (await room.ask("POST", "/v1/queue/retry", ids=["1"]))["messages"] == 1
        assert [found.mark for found in await room.spool.classes()] == [""]


async def test_bounce_gives_a_message_back_with_a_report() -> None:
    async with control_room() as room:
        await room.accept("1", "ann@net.example", "bob@net.example")
        assert (await room.ask("POST", "/v1/queue/bounce", ids=["1"]))["messages"] == 1
        [report] = await room.spool.listing()
        assert report.message.reverse_path is None
        assert report.recipients[0].original == "john@home.example"
        events = [entry["event"] for entry in await room.ask("GET", "/v1/log?id=1")]
        assert events == ["received", "held", "failed", "failed"]


async def test_a_report_is_not_answered_with_a_report() -> None:
    async with control_room() as room:
        await room.accept("1", sender="<>")
        assert (await room.ask("POST", "/v1/queue/bounce", ids=["1"]))["messages"] == 1
        assert await _states(room) == {}


async def test_what_is_being_sent_is_not_given_back() -> None:
    async with control_room() as room:
        await room.accept("1")
        [lease] = await room.spool.lease("x", list(await room.spool.classes()), now=room.clock.now())
        assert (await room.ask("POST", "/v1/queue/bounce", ids=["1"]))["messages"] == 0
        room.desk.give_back([lease])
        assert await _states(room) == {"1": [State.QUEUED.value]}
        events = [entry["event"] for entry in await room.ask("GET", "/v1/log?id=1")]
        assert events == ["received"]


async def test_what_was_held_while_it_is_sent_stays_held_when_it_is_not_given_back() -> None:
    async with control_room() as room:
        await room.accept("1")
        [lease] = await room.spool.lease("x", list(await room.spool.classes()), now=room.clock.now())
        await room.ask("POST", "/v1/queue/hold", ids=["1"])
        assert (await room.ask("POST", "/v1/queue/bounce", ids=["1"]))["messages"] == 0
        room.desk.give_back([lease])
        assert await _states(room) == {"1": [State.HELD.value]}
        events = [entry["event"] for entry in await room.ask("GET", "/v1/log?id=1")]
        assert events == ["received", "held"]


# --- the rest


async def test_links_are_declared_and_given_back() -> None:
    async with control_room() as room:
        up = await room.ask("POST", "/v1/link/dsl", state="up")
        assert (up["name"], up["state"], up["source"]) == ("dsl", "up", "manual")
        assert (await room.ask("POST", "/v1/link/dsl", state="auto"))["state"] == "down"
        assert await _refused(room, "POST", "/v1/link/dls", state="up") == (
            404,
            "there is no link 'dls'; there are internet, always, dsl, wifi",
        )
        assert (await _refused(room, "POST", "/v1/link/dsl", state="sideways"))[0] == 400
        assert (await _refused(room, "POST", "/v1/link/dsl"))[0] == 400


async def test_the_link_always_cannot_be_declared_down() -> None:
    async with control_room() as room:
        status, reason = await _refused(room, "POST", "/v1/link/always", state="down")
        assert (status, reason.partition(";")[0]) == (400, "the link always is up, always")
        for state in ("up", "auto"):
            assert (await room.ask("POST", "/v1/link/always", state=state))["name"] == "always"


async def test_a_log_of_no_lines_is_not_the_whole_log() -> None:
    async with control_room() as room:
        await room.accept("1")
        assert await _refused(room, "GET", "/v1/log?limit=0") == (400, "limit is a number above 0")
        assert len(await room.ask("GET", "/v1/log?limit=1")) == 1


async def test_an_explanation_by_the_verdicts_of_this_moment() -> None:
    async with control_room() as room:
        await room.ask("POST", "/v1/link/wifi", state="up")
        found = await room.ask("GET", "/v1/explain?address=ann@net.example&sender=<>")
        assert (found["address"], found["sender"], found["local"]) == ("ann@net.example", "<>", False)
        [plan] = found["plan"]
        assert (plan["action"], plan["route"], plan["link"]) == ("deliver-remote", "backup", "wifi")
        assert [(item["route"], item["taken"]) for item in plan["considered"]] == [("gmx", False), ("backup", True)]
        assert (await _refused(room, "GET", "/v1/explain?address=a@@b"))[0] == 422


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/v2/status"), ("POST", "/v1/status"), ("POST", "/v1/queue/eat"), ("GET", "/v1/flush")],
)
async def test_what_is_not_there_is_said_to_be_not_there(method: str, path: str) -> None:
    async with control_room() as room:
        assert (await _refused(room, method, path))[0] == 404


async def test_a_flush_of_what_does_not_exist_is_refused_before_it_begins() -> None:
    async with control_room() as room:
        for document in ({"route": "gxm"}, {"link": "dls"}, {"assume_up": "dls"}):
            assert (await _refused(room, "POST", "/v1/flush", **document))[0] == 404


# --- fetching


@asynccontextmanager
async def _fetching_room() -> AsyncIterator[tuple[Any, Room]]:
    """A control room whose operator fetches with a fetching half of its own."""
    async with control_room() as control, Room(account("isp"), account("gmx")).fetching() as room:
        control.operator.fetcher = room.fetcher
        yield control, room


async def _fetch(control: Any, **document: object) -> list[dict[str, Any]]:
    lines = (await control.ask("POST", "/v1/fetch", **document)).splitlines()
    return [json.loads(line) for line in lines]


async def test_fetch_tells_how_each_account_ends() -> None:
    async with _fetching_room() as (control, room):
        room.servers["isp"].mail["m1"] = 500
        room.servers["gmx"].failure = FetchFailure("no answer")
        documents = await _fetch(control)
        ends = {one["account"]: (one["state"], one["taken"], one["bytes"], one["reason"]) for one in documents}
        assert ends == {"isp": ("done", 1, 500, "1 message taken (500 B)"), "gmx": ("failed", 0, 0, "no answer")}


async def test_fetch_is_for_the_accounts_named_and_the_messages_of_one() -> None:
    async with _fetching_room() as (control, room):
        room.servers["isp"].mail.update(m1=1, m2=1)
        *_, end = await _fetch(control, accounts=["isp"], messages=["m2"])
        assert (end["account"], end["taken"]) == ("isp", 1)
        assert room.taken == [("isp", "m2")]


@pytest.mark.parametrize(
    ("document", "accounts"),
    [
        ({"link": "dsl"}, ["isp", "gmx"]),
        ({"link": "wifi"}, []),
        ({"online": True}, ["isp", "gmx"]),
        ({"online": True, "link": "wifi"}, []),
    ],
)
async def test_fetch_can_be_for_the_accounts_of_a_link(document: dict[str, object], accounts: list[str]) -> None:
    async with _fetching_room() as (control, _):
        assert sorted({one["account"] for one in await _fetch(control, **document)}) == sorted(accounts)


@pytest.mark.parametrize(
    ("document", "status", "text"),
    [
        ({"accounts": ["nobody"]}, 404, "there is no fetch account 'nobody'; there are isp, gmx"),
        ({"link": "moon"}, 404, "there is no link 'moon'"),
        ({"messages": ["m1"]}, 400, "say in which account the messages are"),
        ({"accounts": "isp"}, 400, '"accounts" is a list of texts'),
        ({"accounts": ["isp"], "messages": [1]}, 400, '"messages" is a list of texts'),
    ],
)
async def test_a_fetch_that_makes_no_sense_is_refused(document: dict[str, object], status: int, text: str) -> None:
    async with _fetching_room() as (control, _):
        with pytest.raises(HttpError, match=text) as refused:
            await _fetch(control, **document)
        assert refused.value.status == status


async def test_only_masters_may_fetch() -> None:
    async with _fetching_room() as (control, _):
        with pytest.raises(HttpError) as refused:
            await control.ask("POST", "/v1/fetch", uid=JOHN)
        assert refused.value.status == 403


async def test_without_accounts_there_is_nothing_to_fetch() -> None:
    async with control_room() as control:
        assert await _fetch(control) == []
        with pytest.raises(HttpError, match="there is no fetch account 'isp'; there are none"):
            await _fetch(control, accounts=["isp"])
