"""What people see: the exact text for documents as the daemon sends them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from masqmail.cli import show, text

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    real = text.since
    monkeypatch.setattr(text, "since", lambda instant: real(instant, NOW))
    monkeypatch.setattr(text, "local_time", lambda instant: instant.replace("T", " ").removesuffix("Z"))


def _ago(**span: float) -> str:
    return (NOW - timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%SZ")


QUEUE = {"messages": 0, "recipients": 0, "held": 0, "deferred": 0, "bytes": 0, "oldest_at": None}


def _status(**changes: Any) -> dict[str, Any]:
    return {"version": "2.0", "host": "laptop", "links": [], "routes": [], "queue": QUEUE, "problems": [], **changes}


def _recipient(address: str = "ann@net.example", **changes: Any) -> dict[str, Any]:
    return {
        "address": address, "original": address, "state": "queued", "route": "gmx", "attempts": 0,
        "last_attempt_at": None, "next_attempt_at": None, "last_status": None, "reason": "due over route gmx",
        **changes,
    }  # fmt: skip


def _message(*recipients: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "id": "1m7xrv4bpaymcx", "sender": "john@home.example", "size": 1234, "received_at": _ago(minutes=3),
        "received_from": "john (uid 1000)", "priority": 0, "recipients": list(recipients or [_recipient()]),
        **changes,
    }  # fmt: skip


def _lines(*lines: str) -> str:
    return "\n".join(lines)


def test_the_status_of_a_new_host() -> None:
    assert show.status(_status()) == _lines(
        "MasqMail 2.0 on laptop",
        "",
        "Links",
        "  none",
        "",
        "Routes",
        "  none: mail to other hosts waits until there is one",
        "",
        "Queue: empty",
    )


def test_the_status_says_what_becomes_of_fetch_accounts() -> None:
    new = {"name": "isp", "state": "ready", "reason": "not fetched yet", "last_at": None, "next_at": None}
    times = {"last_at": _ago(minutes=20), "next_at": _ago(minutes=-5)}
    known = {**new, "name": "other", "state": "failed", "reason": "no", **times}
    shown = show.status(_status(fetch=[new, known]))
    told = "no; last fetched 20 min ago; next time in 5 min"
    lines = ("Fetch", "  isp    ready   not fetched yet", f"  other  failed  {told}", "", "Queue: empty")
    assert shown.endswith(_lines(*lines))


def test_the_status_of_a_busy_host() -> None:
    document = _status(
        links=[
            {"name": "dsl", "state": "down", "source": "detector", "reason": "no carrier", "since": _ago(hours=2)},
            {"name": "wifi", "state": "up", "source": "manual", "reason": "by hand", "since": _ago(hours=1)},
        ],
        routes=[
            {"name": "gmx", "state": "waiting", "reason": "link dsl: no carrier", "queued": 3},
            {"name": "lan", "state": "ready", "reason": "link wifi is up", "queued": 0, "next_attempt_at": None},
            {"name": "old", "state": "paused", "reason": "no answer", "queued": 1,
             "next_attempt_at": _ago(minutes=-5)},
        ],
        queue={
            "messages": 2, "recipients": 4, "held": 1, "deferred": 2, "bytes": 51_000, "oldest_at": _ago(days=2),
        },
        problems=["the alias file /etc/aliases cannot be read: No such file or directory"],
    )  # fmt: skip
    assert show.status(document) == _lines(
        "MasqMail 2.0 on laptop",
        "",
        "Links",
        "  dsl   down  no carrier",
        "  wifi  up    by hand",
        "",
        "Routes",
        "  gmx  waiting  3 waiting; link dsl: no carrier",
        "  lan  ready    link wifi is up",
        "  old  paused   1 waiting; no answer; next try in 5 min",
        "",
        "Queue: 2 messages, 4 recipients, 51 KB, 2 deferred, 1 held, the oldest came 2 d ago",
        "Attention: the alias file /etc/aliases cannot be read: No such file or directory",
    )


def test_links_with_the_time_since_when() -> None:
    document = [
        {"name": "dsl", "state": "up", "source": "detector", "reason": "carrier on ppp0", "since": _ago(minutes=3)},
        {"name": "office", "state": "unknown", "source": "detector", "reason": "it failed", "since": _ago()},
    ]
    assert show.links(document) == _lines(
        "dsl     up       for 3 min  carrier on ppp0",
        "office  unknown  just now   it failed",
    )


def test_an_empty_queue_in_plain_words() -> None:
    assert list(show.queue([])) == ["The queue is empty."]


def test_the_queue_tells_when_a_route_that_pauses_is_tried_again() -> None:
    waiting = _recipient(reason="waits for route gmx, paused: no answer", next_attempt_at=_ago(minutes=-5))
    told = next(line for line in show.queue([_message(waiting)]) if "ann@net" in line)
    assert told == "    queued  ann@net.example  waits for route gmx, paused: no answer; next try in 5 min"


def test_the_queue_tells_what_waits_for_what_and_hides_what_has_ended() -> None:
    document = [
        _message(
            _recipient("bob@net.example", state="delivered", reason="250 OK"),
            _recipient("carl@net.example", state="deferred", reason="451 later", next_attempt_at=_ago(minutes=-4)),
            _recipient("ann@net.example"),
            _recipient("dora@net.example"),
        ),
        _message(_recipient("root", state="held", reason="held by john"), id="2", sender="<>"),
    ]
    assert list(show.queue(document)) == [
        "1m7xrv4bpaymcx  1.2 KB, 3 min ago, from john@home.example",
        "    deferred  carl@net.example  451 later; next try in 4 min\n"
        "    queued    ann@net.example   due over route gmx\n"
        "    queued    dora@net.example  (as above)",
        "2  1.2 KB, 3 min ago, from <>",
        "    held  root  held by john",
        "2 messages, 4 recipients",
    ]


def test_a_message_to_a_crowd_does_not_fill_the_screen() -> None:
    lines = list(show.queue([_message(*(_recipient(f"ann{number}@net.example") for number in range(1000)))]))
    assert lines[1].count("\n") == show.MAX_RECIPIENTS - 1
    assert lines[2] == "    and 980 more; see masqmail queue show 1m7xrv4bpaymcx"
    assert lines[3] == "1 message, 1000 recipients"


def test_one_message_with_everything_that_happened_to_it() -> None:
    history = [
        {"at": _ago(minutes=3), "id": "1", "event": "received", "recipient": "", "route": "", "host": "",
         "status": "", "text": "1234 bytes from john@home.example, handed in by john (uid 1000)"},
        {"at": _ago(minutes=2), "id": "1", "event": "deferred", "recipient": "ann@net.example", "route": "gmx",
         "host": "mail.gmx.example:587", "status": "451 4.3.0 later", "text": "451 4.3.0 later"},
        {"at": _ago(minutes=1), "id": "1", "event": "held", "recipient": "", "route": "", "host": "", "status": "",
         "text": "held by john"},
    ]  # fmt: skip
    recipients = [
        _recipient(state="deferred", attempts=1, last_attempt_at=_ago(minutes=2), next_attempt_at=_ago(minutes=-1),
                   last_status="451 4.3.0 later", reason="451 4.3.0 later", original="staff@home.example"),
        _recipient("bob@net.example", route=None, reason="waits", last_status="450 no"),
    ]  # fmt: skip
    assert show.message(_message(*recipients, history=history)) == _lines(
        "1m7xrv4bpaymcx",
        "  from      john@home.example",
        "  received  2026-03-01 11:57:00 (3 min ago)",
        "  by        john (uid 1000)",
        "  size      1.2 KB",
        "",
        "  ann@net.example: deferred",
        "    asked for  staff@home.example",
        "    why        451 4.3.0 later",
        "    route      gmx",
        "    attempts   1",
        "    last try   2 min ago",
        "    next try   in 1 min",
        "",
        "  bob@net.example: queued",
        "    why          waits",
        "    last answer  450 no",
        "",
        "What happened",
        "  2026-03-01 11:57:00  received  1234 bytes from john@home.example, handed in by john (uid 1000)",
        "  2026-03-01 11:58:00  deferred  ann@net.example over gmx at mail.gmx.example:587: 451 4.3.0 later",
        "  2026-03-01 11:59:00  held      held by john",
    )


def test_a_log_without_lines() -> None:
    assert show.history([]) == "Nothing has happened yet."


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        ({"delivered": 3, "failed": 0, "waiting": 1}, "3 delivered, 1 waiting"),
        ({"delivered": 3, "failed": 2, "waiting": 0}, "3 delivered, 2 failed, 0 waiting"),
    ],
)
def test_the_progress_of_a_flush(document: dict[str, int], shown: str) -> None:
    assert show.progress(document) == shown


def test_the_explanation_of_a_remote_address() -> None:
    plan = {
        "recipient": "ann@net.example", "action": "deliver-remote", "route": "gmx", "link": "dsl",
        "next_hop": "mail.gmx.example:587", "reason": "gmx: link dsl is up",
        "rewrites": [{"field": "return_path", "from": "john@home.example", "to": "js@gmx.example"}],
        "considered": [
            {"route": "lan", "taken": False, "reason": "recipient ann@net.example is not in recipients"},
            {"route": "gmx", "taken": True, "reason": "link dsl is up: carrier on ppp0"},
        ],
    }  # fmt: skip
    document = {
        "address": "ann@net.example", "sender": "john@home.example", "local": False, "expanded": [], "plan": [plan],
    }  # fmt: skip
    assert show.explanation(document) == _lines(
        "ann@net.example is on another host; mail for it from john@home.example",
        "",
        "ann@net.example is sent over route gmx and link dsl to mail.gmx.example:587",
        "  lan  passed over  recipient ann@net.example is not in recipients",
        "  gmx  taken        link dsl is up: carrier on ppp0",
        "  return_path  john@home.example becomes js@gmx.example",
    )


def test_the_explanation_of_an_alias() -> None:
    def plan(recipient: str, action: str, reason: str) -> dict[str, Any]:
        nothing = {"route": None, "link": None, "next_hop": None, "rewrites": [], "considered": []}
        return {"recipient": recipient, "action": action, "reason": reason, **nothing}

    document = {
        "address": "staff", "sender": "<>", "local": True, "expanded": ["john", "|run"],
        "plan": [
            plan("john", "deliver-local", "a mailbox of this host"),
            plan("|run", "pipe", "a program of this host"),
            plan("joan", "fail", "there is no user joan"),
            plan("ann@net.example", "wait", "no route is meant for it"),
        ],
    }  # fmt: skip
    assert show.explanation(document) == _lines(
        "staff is on this host; mail for it from <>",
        "Aliases lead to john, |run",
        "",
        "john is delivered on this host",
        "  a mailbox of this host",
        "",
        "|run is given to a program",
        "  a program of this host",
        "",
        "joan fails",
        "  there is no user joan",
        "",
        "ann@net.example waits",
        "  no route is meant for it",
    )
