"""`masqmail fetch` as a person sees it, with a daemon that says what the test wants."""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from masqmail.cli import fetch_command
from masqmail.cli.run import run

TOOK = "2 messages taken (3.0 KB)"
DONE = {"account": "isp", "state": "done", "taken": 2, "expected": 2, "bytes": 3000, "reason": TOOK}
FAILED = {"account": "gmx", "state": "failed", "taken": 0, "expected": 0, "bytes": 0, "reason": "connection lost"}


class FakeDaemon:
    """Answers with these documents, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: list[dict[str, Any]] = []
        self.asked: dict[str, object] = {}

    def follow(self, *parts: str, **document: object) -> Iterator[dict[str, Any]]:
        assert parts == ("fetch",)
        self.asked = document
        yield from self.answer


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    fake = FakeDaemon()
    monkeypatch.setattr(fetch_command, "daemon", lambda options: fake)
    return fake


def test_without_a_name_every_account_is_meant(daemon: FakeDaemon) -> None:
    assert run(["fetch"]) == os.EX_OK
    assert daemon.asked == {"accounts": [], "messages": [], "online": False}


def test_all_that_was_said_is_passed_on(daemon: FakeDaemon) -> None:
    assert run(["fetch", "isp", "--message", "m 1", "--link", "dsl", "--online"]) == os.EX_OK
    assert daemon.asked == {"accounts": ["isp"], "messages": ["m 1"], "link": "dsl", "online": True}


@pytest.mark.parametrize("names", [[], ["isp", "gmx"]])
def test_a_message_is_in_one_account(
    daemon: FakeDaemon, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fetch", *names, "--message", "m1"]) == os.EX_USAGE
    assert daemon.asked == {}
    assert "--message needs the name of the account" in capsys.readouterr().err


def test_without_a_terminal_only_the_end_is_said(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answer = [{**DONE, "state": "fetching"}, DONE]
    assert run(["fetch"]) == os.EX_OK
    assert capsys.readouterr().out == "isp: 2 messages taken (3.0 KB)\n"


def test_an_account_that_failed_is_another_exit_code(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answer = [FAILED, DONE, {**FAILED, "account": "web", "taken": 1}]
    assert run(["fetch"]) == os.EX_TEMPFAIL
    assert capsys.readouterr().out.splitlines() == [
        "gmx: failed: connection lost",
        "isp: 2 messages taken (3.0 KB)",
        "web: failed: 1 message taken, then connection lost",
    ]


def test_programs_get_the_end_of_each_account(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answer = [{**DONE, "state": "fetching"}, FAILED, DONE]
    assert run(["fetch", "--json"]) == os.EX_TEMPFAIL
    assert json.loads(capsys.readouterr().out) == [FAILED, DONE]


def test_a_terminal_has_a_line_for_each_account_that_is_written_anew(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    waiting = {**FAILED, "state": "waiting", "reason": "waits"}
    daemon.answer = [{**DONE, "state": "fetching", "taken": 1, "bytes": 500}, waiting, DONE, FAILED]
    run(["fetch"])
    shown = capsys.readouterr().out.replace("\x1b[2K\x1b[?7l", "").replace("\x1b[?7h", "").split("\r")
    assert shown == [
        "",
        "isp: 1 of 2, 500 B\n\x1b[1A",
        "isp: 1 of 2, 500 B\ngmx: waits\n\x1b[2A",
        "isp: 2 messages taken (3.0 KB)\ngmx: waits\n\x1b[2A",
        "isp: 2 messages taken (3.0 KB)\ngmx: failed: connection lost\n",
    ]


def test_what_a_server_said_cannot_trouble_the_terminal(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answer = [{**FAILED, "reason": "\x1b[2J no"}]
    run(["fetch"])
    assert "\x1b" not in capsys.readouterr().out


def test_no_account_is_no_failure(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fetch"]) == os.EX_OK
    assert capsys.readouterr().out == ""
