"""The program of a pipe route: its words, environment and input, and what its end means."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from masqmail.delivery import local
from masqmail.delivery.files import NotUsable
from masqmail.delivery.job import LocalJob
from masqmail.delivery.local import LocalSettings, Plan, plan_for
from masqmail.delivery.piperoute import PipeProgram
from masqmail.delivery.variables import variables_of
from masqmail.mail.address import Mailbox
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, Outcome
from masqmail.spool.api import TargetKind
from masqmail.system.accounts import Account, own_account
from support import local as support

CONTENT = [b"Subject: offer\r\n\r\nFrom here on\r\nit is text\r\n"]
VARIABLES = variables_of(
    user="", recipient=Mailbox("+49 89; $(id)", "fax"), sender=Mailbox("js", "isp.example"), queue_id="q1"
)
JOB = LocalJob(TargetKind.REMOTE, "fax", "q1", VARIABLES)


def settings(program: PipeProgram, timeout_seconds: float = 30.0) -> LocalSettings:
    return LocalSettings(
        "gw.example", "fax", support.settings(Path("/")).mailbox_of, timeout_seconds, "", {"fax": program}
    )


def plan(program: PipeProgram, timeout_seconds: float = 30.0) -> Plan:
    """What becomes of a job when we need not be root to do it."""
    return plan_for(JOB, settings(program, timeout_seconds), lambda name: support.account(name, 1, 1, "/"))


def run(program: PipeProgram, timeout_seconds: float = 30.0) -> Outcome:
    return local.deliver(plan(program, timeout_seconds), CONTENT)


def shell(script: str, *words: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script, "sendfax", *words)


def written(folder: Path, script: str = "", words: Sequence[str] = (), **settings: bool) -> str:
    """What a program finds in its input, after what a script says."""
    output = folder / "output"
    command = shell(f'(umask 0; {script or ":"}; cat) > "{output}"; chmod 0644 "{output}"', *words)
    assert isinstance(run(PipeProgram(command, **settings)), Delivered)
    return output.read_text()


def test_each_argument_stays_one_and_no_shell_sees_it(tmp_path: Path) -> None:
    words = ["${recipient_local}", "${sender}", "a b"]
    assert written(tmp_path, 'for word; do echo "<$word>"; done', words).startswith(
        "<+49 89; $(id)>\n<js@isp.example>\n<a b>\n"
    )


def test_the_program_gets_the_promised_environment_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "sesame")
    found = written(tmp_path, "env").partition("Subject:")[0]
    values = dict(line.split("=", 1) for line in found.splitlines())
    promised = "SENDER RETURN_PATH SENDER_DOMAIN SENDER_LOCAL RECEIVED_HOST LOCAL_PART USER LOGNAME MESSAGE_ID"
    assert set(values) - {"PWD", "_", "SHLVL", "OLDPWD"} == {
        *promised.split(),
        *("QUALIFY_DOMAIN", "HOME", "PATH", "SHELL", "DOMAIN"),
    }
    assert (values["SENDER"], values["DOMAIN"], values["MESSAGE_ID"]) == ("js@isp.example", "fax", "q1")
    assert values["USER"] == values["LOCAL_PART"] == "+49 89; $(id)"


def test_the_message_has_unix_line_ends_and_nothing_is_added(tmp_path: Path) -> None:
    assert written(tmp_path) == "Subject: offer\n\nFrom here on\nit is text\n"


def test_a_from_line_and_escaped_from_lines_come_when_they_are_wanted(tmp_path: Path) -> None:
    assert re.fullmatch(
        r"From js@isp\.example \w{3} \w{3} [ \d]\d [\d:]{8} \d{4}\nSubject: offer\n\nFrom here on\nit is text\n",
        written(tmp_path, from_line=True),
    )
    assert written(tmp_path, escape_from=True) == "Subject: offer\n\n>From here on\nit is text\n"


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
    outcome = run(PipeProgram(shell("exec sleep 100")), timeout_seconds=0.05)
    assert isinstance(outcome, Deferred) and outcome.reason == "sh did not end in time"


@pytest.mark.parametrize("command", [("/nonexistent/sendfax",), ("/etc/passwd",)])
def test_a_program_that_cannot_be_started_defers_with_the_reason(command: tuple[str, ...]) -> None:
    outcome = run(PipeProgram(command))
    assert isinstance(outcome, Deferred) and outcome.culprit is Culprit.LOCAL
    assert command[0] in outcome.reason


def test_an_unknown_variable_is_told_with_the_route() -> None:
    with pytest.raises(NotUsable, match=r"fax: \$\{nothing\} is unknown"):
        plan(PipeProgram(("/bin/echo", "${nothing}")))


def test_a_route_that_is_gone_has_no_program() -> None:
    job = replace(JOB, target="sms")
    with pytest.raises(NotUsable, match="the route sms has no program now"):
        plan_for(job, settings(PipeProgram(("/bin/true",))), lambda name: None)


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        (None, "there is no account fax now"),
        (
            Account("toor", 0, 0, "/root", "/bin/sh"),
            "alias_user is toor: what aliases and routes name is never root's",
        ),
    ],
)
def test_no_program_of_a_route_runs_as_root(
    account: Account | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(NotUsable) as caught:
        plan_for(JOB, settings(PipeProgram(("/bin/true",))), lambda name: account)
    assert str(caught.value) == reason


def test_root_has_the_alias_user_run_it_and_anybody_else_runs_it_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    program = PipeProgram(("/bin/true",))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert plan(program).account == support.account("fax", 1, 1, "/")
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert plan(program).account == own_account()
