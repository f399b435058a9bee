"""A job becomes a plan, and whatever goes wrong on this host defers it."""

import errno
import os
import threading
from dataclasses import replace
from pathlib import Path

import anyio.to_thread
import pytest

from masqmail.delivery.files import NotUsable
from masqmail.delivery.job import LocalJob, LocalMethod, Mailstore
from masqmail.delivery.local import LocalSettings, Plan, deliver, plan_for
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, NotTried
from masqmail.spool.api import TargetKind
from masqmail.system.accounts import Account
from support import local as support
from support.scripted_server import ScriptedServer, listening

pytestmark = pytest.mark.anyio

CONTENT = [b"Subject: one\r\n\r\nbody\r\n"]
BOB = support.account("bob", os.geteuid(), os.getegid())
ALIAS = support.account("alias", os.geteuid() or 7, os.getegid() or 7, "/home/alias")
ACCOUNTS = {"bob": BOB, "alias": ALIAS, "root": support.account("root", 0, 0, "/root")}


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    (tmp_path / "mail").mkdir()
    return support.settings(tmp_path)


def plan(job: LocalJob, settings: LocalSettings) -> Plan:
    return plan_for(job, settings, ACCOUNTS.get)


def box_plan(path: Path, method: LocalMethod = LocalMethod.MBOX, account: Account = BOB) -> Plan:
    return Plan(support.job(TargetKind.MAILBOX, account.name), method, account, path=str(path))


def test_a_mailbox_is_where_the_configuration_says(settings: LocalSettings, tmp_path: Path) -> None:
    found = plan(support.job(TargetKind.MAILBOX, "bob"), settings)
    assert (found.method, found.account, found.path) == (LocalMethod.MBOX, BOB, f"{tmp_path}/mail/bob")


def test_a_user_may_have_a_method_of_his_own(tmp_path: Path) -> None:
    settings = support.settings(tmp_path, methods={"bob": LocalMethod.MAILDIR})
    found = plan(support.job(TargetKind.MAILBOX, "bob"), settings)
    assert (found.method, found.path) == (LocalMethod.MAILDIR, f"{tmp_path}/mail/bob.d")


def test_a_program_gets_its_words_and_its_environment_as_the_alias_user(settings: LocalSettings) -> None:
    found = plan(support.job(TargetKind.PIPE, "|/bin/fax '${recipient_local} x' -f${sender}"), settings)
    assert (found.method, found.account) == (LocalMethod.PIPE, ALIAS)
    assert found.command == ("/bin/fax", "fax+12 x", "-fann@example.org")
    assert (found.environment["HOME"], found.environment["QUALIFY_DOMAIN"]) == ("/home/alias", "gateway.example")


MDA = Mailstore(LocalMethod.MDA, command=("/bin/mda", "-d", "${recipient_local}", "-a${recipient} ${user}", "$HOME"))


def test_an_mda_runs_as_the_user_and_knows_who_that_is(tmp_path: Path) -> None:
    """Whichever alias or detail was asked for: the program looks the user up."""
    found = plan(support.job(TargetKind.MAILBOX, "bob"), support.settings(tmp_path, mailstores={"bob": MDA}))
    assert (found.method, found.account) == (LocalMethod.PIPE, BOB)
    assert found.command == ("/bin/mda", "-d", "bob", "-afax+12@home.example bob", "$HOME")
    assert {name: found.environment[name] for name in ("USER", "LOGNAME", "LOCAL_PART", "DOMAIN", "SENDER")} == {
        "USER": "bob",
        "LOGNAME": "bob",
        "LOCAL_PART": "bob",
        "DOMAIN": "home.example",
        "SENDER": "ann@example.org",
    }


def lmtp_settings(tmp_path: Path, place: str, delimiter: str = "+") -> LocalSettings:
    settings = support.settings(tmp_path, mailstores={"bob": Mailstore(LocalMethod.LMTP, place)})
    return replace(settings, recipient_delimiter=delimiter)


def lmtp_job(asked_for: str, **variables: str) -> LocalJob:
    job = support.job(TargetKind.MAILBOX, "bob")
    return replace(job, variables=replace(job.variables, recipient_local=asked_for, **variables))


@pytest.mark.parametrize(
    ("asked_for", "delimiter", "mailbox"),
    [("bob", "+", "bob"), ("Bob+lists", "+", "bob+lists"), ("alias+x", "+", "bob"), ("bob+x", "", "bob")],
)
def test_an_lmtp_server_knows_the_user_by_name_with_the_detail(
    tmp_path: Path, asked_for: str, delimiter: str, mailbox: str
) -> None:
    found = plan(lmtp_job(asked_for), lmtp_settings(tmp_path, "/run/${user}/lmtp", delimiter))
    assert (found.method, found.account, found.path) == (LocalMethod.LMTP, BOB, "/run/bob/lmtp")
    assert (str(found.mailbox), found.host_name) == (mailbox, "gateway.example")


def test_a_name_that_would_lead_to_another_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotUsable, match=r"the LMTP server of bob: .* cannot be part of a path"):
        plan(lmtp_job("../x"), lmtp_settings(tmp_path, "/run/${recipient_local}/lmtp"))


@pytest.mark.parametrize("sender", ["ann@example.org", ""])
async def test_a_letter_reaches_the_lmtp_server(tmp_path: Path, sender: str) -> None:
    settings = lmtp_settings(tmp_path, f"{tmp_path}/${{user}}.lmtp")
    job = replace(lmtp_job("bob+x", sender=sender), size_bytes=len(CONTENT[0]), is_8bit=True)
    server = ScriptedServer(lmtp=True)
    async with listening(lambda: server, path=tmp_path / "bob.lmtp"):
        outcome = await anyio.to_thread.run_sync(deliver, plan(job, settings), CONTENT)
    assert isinstance(outcome, Delivered)
    (taken,) = server.taken
    assert (taken.sender, taken.recipients, taken.content) == (sender, ("bob+x",), CONTENT[0])
    assert server.commands[0] == "LHLO gateway.example" and "BODY=8BITMIME" in server.commands[1]


def test_an_lmtp_server_that_is_away_is_no_failure(tmp_path: Path) -> None:
    outcome = deliver(plan(lmtp_job("bob"), lmtp_settings(tmp_path, "/nonexistent/lmtp")), CONTENT)
    assert outcome == NotTried(Culprit.CONNECTION, "cannot connect to /nonexistent/lmtp: no such file or directory")


@pytest.mark.parametrize(
    ("target", "method", "path"),
    [("/srv/archive", LocalMethod.MBOX, "/srv/archive"), ("/srv/box/", LocalMethod.MAILDIR, "/srv/box")],
)
def test_a_file_of_an_alias_is_written_by_the_alias_user(
    settings: LocalSettings, target: str, method: LocalMethod, path: str
) -> None:
    found = plan(support.job(TargetKind.FILE, target), settings)
    assert (found.method, found.account, found.path) == (method, ALIAS, path)


@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [
        (TargetKind.MAILBOX, "carol", "there is no account carol now"),
        (TargetKind.PIPE, "|fax 'x", "a quote is never closed"),
        (TargetKind.PIPE, "|fax ${x}", r"\$\{x\} is unknown"),
        (TargetKind.REMOTE, "a@b.example", "the route a@b.example has no program now"),
        (TargetKind.USER, "bob", "no target on this host"),
    ],
)
def test_what_cannot_be_planned_is_explained(
    settings: LocalSettings, kind: TargetKind, target: str, reason: str
) -> None:
    with pytest.raises(NotUsable, match=reason):
        plan(support.job(kind, target), settings)


@pytest.mark.parametrize(("kind", "target"), [(TargetKind.PIPE, "|true"), (TargetKind.FILE, "/tmp/x")])
def test_root_is_never_the_alias_user(tmp_path: Path, kind: TargetKind, target: str) -> None:
    with pytest.raises(NotUsable, match="never root's"):
        plan(support.job(kind, target), support.settings(tmp_path, alias_user="root"))


@pytest.mark.parametrize("method", [LocalMethod.MBOX, LocalMethod.MAILDIR])
def test_a_mailbox_gets_the_message(tmp_path: Path, method: LocalMethod) -> None:
    outcome = deliver(box_plan(tmp_path / "box", method), CONTENT)
    assert isinstance(outcome, Delivered)
    assert outcome.status.text == f"Delivered to {tmp_path}/box"
    path = next((tmp_path / "box" / "new").iterdir()) if method is LocalMethod.MAILDIR else tmp_path / "box"
    assert b"Subject: one\n\nbody\n" in path.read_bytes()


def test_a_repeat_into_a_maildir_says_so(tmp_path: Path) -> None:
    twice = [deliver(box_plan(tmp_path / "box", LocalMethod.MAILDIR), CONTENT) for _ in range(2)]
    assert [outcome.reason for outcome in twice if isinstance(outcome, Delivered)] == [
        "",
        "an earlier attempt had put it there",
    ]


def test_a_program_gets_the_message(tmp_path: Path) -> None:
    job = support.job(TargetKind.PIPE, "")
    program = Plan(job, LocalMethod.PIPE, BOB, command=("/bin/sh", "-c", f"cat > {tmp_path}/got"))
    assert isinstance(deliver(program, CONTENT), Delivered)
    assert (tmp_path / "got").read_bytes() == b"Subject: one\n\nbody\n"


def test_a_missing_program_defers() -> None:
    outcome = deliver(Plan(support.job(TargetKind.PIPE, ""), LocalMethod.PIPE, BOB, command=("/no/fax",)), CONTENT)
    assert isinstance(outcome, Deferred)
    assert outcome.reason == "cannot run /no/fax: No such file or directory"


def test_the_null_device_takes_everything() -> None:
    assert isinstance(deliver(box_plan(Path("/dev/null")), iter(())), Delivered)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO, errno.ELOOP])
@pytest.mark.parametrize("method", [LocalMethod.MBOX, LocalMethod.MAILDIR])
def test_no_error_of_the_system_fails_a_recipient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: LocalMethod, number: int
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    outcome = deliver(box_plan(tmp_path / "box", method), CONTENT)
    assert isinstance(outcome, Deferred)
    assert outcome.culprit is Culprit.LOCAL
    assert outcome.reason == f"{tmp_path}/box: {os.strerror(number).lower()}"
    expected = {errno.ENOSPC: "4.3.1", errno.EDQUOT: "4.2.2"}.get(number, "4.3.0")
    assert outcome.status.enhanced == expected


def test_a_missing_directory_defers_and_is_named(tmp_path: Path) -> None:
    outcome = deliver(box_plan(tmp_path / "missing" / "box"), CONTENT)
    assert isinstance(outcome, Deferred)
    assert outcome.reason == f"{tmp_path}/missing/box: no such file or directory"


def test_a_busy_mailbox_defers(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    outcome = deliver(box_plan(tmp_path / "box"), CONTENT, stop)
    assert isinstance(outcome, Deferred)
    assert outcome.status.enhanced == "4.2.0"


def test_a_verdict_of_a_program_fails() -> None:
    plan = Plan(support.job(TargetKind.PIPE, ""), LocalMethod.PIPE, BOB, command=("/bin/false",))
    assert isinstance(deliver(plan, CONTENT), Failed)


@pytest.mark.parametrize("spoil", ["directory", "link", "owner"])
@pytest.mark.parametrize("method", [LocalMethod.MBOX, LocalMethod.MAILDIR])
def test_root_writes_only_where_nobody_else_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: LocalMethod, spoil: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    path = tmp_path / "root"
    if spoil == "directory":
        tmp_path.chmod(0o777)
    elif spoil == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif os.getuid() == 0:
        path.mkdir()
        os.chown(path, 4711, 4711)
    outcome = deliver(box_plan(path, method, ACCOUNTS["root"]), CONTENT)
    assert isinstance(outcome, Deferred)
    assert "others may write" in outcome.reason


@pytest.mark.skipif(os.getuid() != 0, reason="only root's own files are root's")
@pytest.mark.parametrize("mode", [0o1777, 0o2775, 0o755])
def test_root_may_have_an_mbox_in_the_mail_directory(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    assert isinstance(deliver(box_plan(tmp_path / "root", account=ACCOUNTS["root"]), CONTENT), Delivered)


@pytest.mark.skipif(os.getuid() != 0, reason="only root's own files are root's")
def test_root_has_no_maildir_in_a_directory_open_to_all(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    outcome = deliver(box_plan(tmp_path / "root", LocalMethod.MAILDIR, ACCOUNTS["root"]), CONTENT)
    assert isinstance(outcome, Deferred)
