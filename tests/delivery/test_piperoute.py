"""The program of a pipe route: its words, environment and input, and what its end means."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from masqmail.delivery.job import Content
from masqmail.delivery.piperoute import PipeProgram, deliver
from masqmail.delivery.variables import variables_of
from masqmail.mail.address import Mailbox
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, Outcome
from masqmail.system.accounts import Account

CONTENT = Content(b"Subject: offer\r\n", b"From here on\r\nit is text\r\n")
VARIABLES = variables_of(
    user="", recipient=Mailbox("+49 89; $(id)", "fax"), sender=Mailbox("js", "isp.example"), queue_id="q1"
)


def run(program: PipeProgram, **changes: str) -> Outcome:
    nobody = Account("nobody", 65534, 65534, "/", "/bin/sh")
    return deliver(
        program, CONTENT, replace(VARIABLES, **changes), host_name="gw.example", find_account=lambda name: nobody
    )


def shell(script: str, *words: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script, "sendfax", *words)


def written(folder: Path, script: str = "", words: Sequence[str] = (), **settings: bool) -> str:
    """What a program finds in its input, after what a script says."""
    folder.chmod(0o777)
    output = folder / "output"
    command = shell(f'(umask 0; {script or ":"}; cat) > "{output}"; chmod 0644 "{output}"', *words)
    assert isinstance(run(PipeProgram(command, **settings)), Delivered)
    return output.read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that another account can reach."""
    for parent in tmp_path.parents[:3]:
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(0o755)
    return tmp_path


def test_each_argument_stays_one_and_no_shell_sees_it(folder: Path) -> None:
    words = ["${recipient_local}", "${sender}", "a b"]
    assert written(folder, 'for word; do echo "<$word>"; done', words).startswith(
        "<+49 89; $(id)>\n<js@isp.example>\n<a b>\n"
    )


def test_the_program_gets_the_promised_environment_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "sesame")
    found = written(folder, "env").partition("Subject:")[0]
    values = dict(line.split("=", 1) for line in found.splitlines())
    promised = "SENDER RETURN_PATH SENDER_DOMAIN SENDER_LOCAL RECEIVED_HOST LOCAL_PART USER LOGNAME MESSAGE_ID"
    assert set(values) - {"PWD", "_", "SHLVL", "OLDPWD"} == {
        *promised.split(),
        *("QUALIFY_DOMAIN", "HOME", "PATH", "SHELL", "DOMAIN"),
    }
    assert (values["SENDER"], values["DOMAIN"], values["MESSAGE_ID"]) == ("js@isp.example", "fax", "q1")
    assert values["USER"] == values["LOCAL_PART"] == "+49 89; $(id)"


def test_the_message_has_unix_line_ends_and_nothing_is_added(folder: Path) -> None:
    assert written(folder) == "Subject: offer\n\nFrom here on\nit is text\n"


def test_a_from_line_and_escaped_from_lines_come_when_they_are_wanted(folder: Path) -> None:
    assert re.fullmatch(
        r"From js@isp\.example \w{3} \w{3} [ \d]\d [\d:]{8} \d{4}\nSubject: offer\n\nFrom here on\nit is text\n",
        written(folder, from_line=True),
    )
    assert written(folder, escape_from=True) == "Subject: offer\n\n>From here on\nit is text\n"


def test_a_success_is_reported_as_relayed() -> None:
    outcome = run(PipeProgram(shell("cat >/dev/null")))
    assert isinstance(outcome, Delivered) and outcome.handover is Handover.RELAYED


@pytest.mark.parametrize(
    ("script", "kind", "reason"),
    [
        ("echo line busy; exit 75", Deferred, "line busy"),
        ("echo dialling; echo no such number >&2; exit 1", Failed, "no such number (exit code 1)"),
        ("kill -9 $$", Deferred, "sh was ended by SIGKILL"),
    ],
)
def test_the_exit_code_decides_and_the_last_line_is_the_reason(script: str, kind: type, reason: str) -> None:
    outcome = run(PipeProgram(shell(script)))
    assert isinstance(outcome, Deferred | Failed)
    assert (type(outcome), outcome.reason) == (kind, reason)


def test_a_program_that_takes_too_long_is_ended_and_defers() -> None:
    outcome = run(PipeProgram(shell("exec sleep 100"), timeout_seconds=0.05))
    assert isinstance(outcome, Deferred) and outcome.reason == "sh did not end in time"


@pytest.mark.parametrize("command", [("/nonexistent/sendfax",), ("/etc/passwd",), ("/bin/echo", "${nothing}")])
def test_a_program_that_cannot_be_started_defers_with_the_reason(command: tuple[str, ...]) -> None:
    outcome = run(PipeProgram(command))
    assert isinstance(outcome, Deferred) and outcome.culprit is Culprit.LOCAL
    assert command[0] in outcome.reason or "nothing" in outcome.reason


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        (None, "the daemon is root, and there is no account fax to run /bin/true"),
        (Account("toor", 0, 0, "/root", "/bin/sh"), "alias_user is toor: no program of a route runs as root"),
    ],
)
def test_no_program_of_a_route_runs_as_root(
    account: Account | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program = PipeProgram(("/bin/true",), account="fax")
    outcome = deliver(program, CONTENT, VARIABLES, host_name="gw.example", find_account=lambda name: account)
    assert isinstance(outcome, Deferred) and outcome.reason == reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_has_another_account_run_it_for_good(folder: Path) -> None:
    assert written(folder, "id -u; id -ru; id -G").splitlines()[:3] == ["65534"] * 3
