"""The list of the queue, page by page, from a daemon that only counts what it is asked for."""

import argparse
from typing import Any

import pytest

from masqmail.cli import queue_commands, show, text
from masqmail.cli.queue_commands import FIRST_PAGE, PAGE


class LongQueue:
    """A daemon with so many messages."""

    def __init__(self, length: int) -> None:
        self.asked: list[dict[str, str]] = []
        self._length = length

    def get(self, *parts: str, **query: str) -> list[dict[str, Any]]:
        self.asked.append(query)
        first = int(query["after"] or -1) + 1
        return [message(n) for n in range(first, min(first + int(query["limit"]), self._length))]


def message(number: int) -> dict[str, Any]:
    recipient = {
        "address": "ann@example.net",
        "state": "queued",
        "reason": "waits for route isp",
        "next_attempt_at": None,
    }
    return {
        "id": f"{number:07}",
        "size": 100,
        "received_at": "2026-11-21T03:00:00Z",
        "sender": "bob@example.org",
        "recipients": [recipient],
    }


def test_the_first_lines_come_after_one_short_page() -> None:
    daemon = LongQueue(1_000_000)
    lines = show.queue(queue_commands._messages(daemon))  # type: ignore[arg-type]
    seen = [next(lines) for _ in range(2 * FIRST_PAGE)]
    assert seen[-2].startswith(f"{FIRST_PAGE - 1:07}  100 B")
    assert daemon.asked == [{"limit": str(FIRST_PAGE), "after": ""}]


@pytest.mark.parametrize("length", [0, 1, FIRST_PAGE - 1, FIRST_PAGE, FIRST_PAGE + 1, FIRST_PAGE + PAGE, 1300])
def test_every_message_is_listed_once(
    length: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(queue_commands, "daemon", lambda options: LongQueue(length))
    assert queue_commands.listing(argparse.Namespace(json=False)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:7] for line in lines[:-1:2]] == [f"{number:07}" for number in range(length)]
    count = text.count
    end = f"{count(length, 'message')}, {count(length, 'recipient')}" if length else "The queue is empty."
    assert lines[-1] == end
