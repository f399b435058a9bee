"""`sendmail` and the daemon together: whatever exits with 0 is on stable storage and reaches who it is for.

The real programs in a folder of their own. Started as root they run as they are installed; some tests need that.
"""

import os
import pwd
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.daemon import CONFIGURATION, Daemon
from support.mail import identity, message
from support.ports import free_port

pytestmark = pytest.mark.slow

IS_ROOT = os.geteuid() == 0
ME = pwd.getpwuid(os.geteuid()).pw_name
AWAY = """\
[routes.away]
links = ["line"]
smarthost = ["127.0.0.1:1"]
tls = "none"
"""

only_root = pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")


def new_daemon(folder: Path) -> Daemon:
    """One that can deliver to us; mail for other hosts waits for the link "line"."""
    port = free_port()
    text = CONFIGURATION.format(folder=folder, port=port) + AWAY
    if IS_ROOT:
        text = text.replace("[host]\n", '[host]\nuser = "root"\ngroup = "root"\n')
    return Daemon(folder, port=port, text=text)


@pytest.fixture(scope="module")
def shared_folder() -> Iterator[Path]:
    """One that other users can reach."""
    folder = Path(tempfile.mkdtemp(prefix="masqmail-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def daemon(shared_folder: Path) -> Iterator[Daemon]:
    """A daemon that runs for all tests; their messages differ in sender or identity."""
    daemon = new_daemon(shared_folder)
    daemon.start()
    yield daemon
    assert daemon.stop() == 0


def queued(daemon: Daemon, sender: str) -> Any:
    """The one message in the queue from this sender."""
    (found,) = (message for message in daemon.queue() if message["sender"] == sender)
    return found


def addresses(message: Any) -> list[str]:
    return [recipient["address"] for recipient in message["recipients"]]


def arrived(daemon: Daemon, name: str) -> bytes:
    """The message of that identity in our mailbox."""
    daemon.masqmail("flush", "--wait")
    (found,) = (content for content in daemon.mailbox() if f"X-Test: {name}\n".encode() in content.split(b"\n\n")[0])
    return found


def test_a_message_reaches_its_recipients_here_and_waits_for_those_elsewhere(daemon: Daemon) -> None:
    done = daemon.sendmail("-f", "plain@example.org", ME, "ann@example.net", message=message("plain"))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    content = arrived(daemon, "plain")
    assert content.startswith(b"Return-Path: <plain@example.org>\n")
    assert content.endswith(b"\n\nIt works.\n")
    waiting = queued(daemon, "plain@example.org")
    assert waiting["received_from"] == f"{ME} (uid {os.geteuid()})"
    (recipient,) = (item for item in waiting["recipients"] if item["state"] == "queued")
    assert recipient["address"] == "ann@example.net"
    assert "line" in recipient["reason"]


def test_without_sender_and_header_both_are_made(daemon: Daemon) -> None:
    assert daemon.sendmail("-F", "Jörg, the tester", ME, message=b"X-Test: made\n\nhello\n").returncode == 0
    header = arrived(daemon, "made").split(b"\n\n")[0]
    assert header.startswith(f"Return-Path: <{ME}@laptop.example.org>\n".encode())
    assert f"From: =?UTF-8?B?SsO2cmcsIHRoZSA=?=\n =?UTF-8?B?dGVzdGVy?= <{ME}@laptop.example.org>\n".encode() in header
    assert b"\nDate: " in header
    assert b"\nMessage-ID: <" in header


def test_a_missing_from_names_the_user_as_the_system_does(daemon: Daemon) -> None:
    assert daemon.sendmail(ME, message=b"X-Test: named\n\nhello\n").returncode == 0
    full_name = pwd.getpwnam(ME).pw_gecos.partition(",")[0]
    expected = f"{full_name} <{ME}@laptop.example.org>" if full_name else f"{ME}@laptop.example.org"
    assert f"\nFrom: {expected}\n".encode() in arrived(daemon, "named")


def test_recipients_are_taken_from_the_header_and_blind_copies_stay_blind(daemon: Daemon) -> None:
    text = (
        b"To: Ann <ann@example.net>, bob@example.net\nCc: Joe\n <joe@example.net>\nBcc: eve@example.net\n"
        b"Subject: x\n\nhello\n"
    )
    assert daemon.sendmail("-t", "-f", "header@example.org", message=text).returncode == 0
    waiting = queued(daemon, "header@example.org")
    assert addresses(waiting) == [f"{name}@example.net" for name in ("ann", "bob", "joe", "eve")]
    header = daemon.masqmail("queue", "headers", waiting["id"]).stdout
    assert "\nTo: Ann <ann@example.net>, bob@example.net\nCc: Joe\n <joe@example.net>\nSubject: x\n" in header
    assert "eve" not in header


def test_recipients_of_the_command_line_are_added_to_those_of_the_header(daemon: Daemon) -> None:
    text = message("both", to="ann@example.net")
    done = daemon.sendmail("-t", "-f", "both@example.org", "bob@example.net", "ann@example.net", message=text)
    assert done.returncode == 0
    assert addresses(queued(daemon, "both@example.org")) == ["bob@example.net", "ann@example.net"]


def test_an_entry_of_the_header_that_is_no_address_is_reported_and_stops_nobody(daemon: Daemon) -> None:
    text = b"To: half an address <, ann@example.net\nSubject: x\n\n"
    assert daemon.sendmail("-t", "-V", "half-1", message=text).returncode == 0
    assert "ann@example.net" in [address for waiting in daemon.queue() for address in addresses(waiting)]
    assert b"is no address" in report_on(daemon, "half-1")


def test_a_header_without_recipients_is_refused(daemon: Daemon) -> None:
    done = daemon.sendmail("-t", message=b"Subject: x\n\nhello\n")
    assert done.returncode == os.EX_DATAERR
    assert b"The message has no recipients" in done.stderr


def test_queue_only_waits_until_somebody_flushes(daemon: Daemon) -> None:
    assert daemon.masqmail("link", "up", "line").returncode == 0
    try:
        daemon.sendmail("-odq", "-f", "later@example.org", "ann@example.net", message=message("later"))
        (recipient,) = queued(daemon, "later@example.org")["recipients"]
        assert (recipient["state"], recipient["attempts"]) == ("queued", 0)
        assert recipient["reason"] == "waits until somebody flushes the queue"
    finally:
        daemon.masqmail("link", "down", "line")
    daemon.masqmail("flush")
    (recipient,) = queued(daemon, "later@example.org")["recipients"]
    assert "flushes" not in recipient["reason"]
    assert "line" in recipient["reason"]


def test_an_unknown_user_of_this_host_is_reported_and_stops_nobody(daemon: Daemon) -> None:
    done = daemon.sendmail("-V", "unknown-1", "no-such-user-here", ME, message=message("unknown"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert arrived(daemon, "unknown")
    report = report_on(daemon, "unknown-1")
    assert b"\nFinal-Recipient: rfc822; no-such-user-here" in report
    assert b"\nAction: failed\n" in report


@pytest.mark.parametrize("size_bytes", [10_000, 1_000_000], ids=["in memory", "in a file"])
def test_a_message_for_an_unknown_user_comes_back_whole(daemon: Daemon, size_bytes: int) -> None:
    name, line = f"whole-{size_bytes}", b"the only copy of this line, which nobody else has any more\n"
    text = message(name) + line * (size_bytes // len(line))
    assert daemon.sendmail("-V", name, "-R", "full", "no-such-user-here", message=text).returncode == 0
    report = report_on(daemon, name)
    assert b"\nContent-Type: message/rfc822\n" in report
    assert text.partition(b"\n\n")[2] in report


def report_on(daemon: Daemon, envelope_id: str) -> bytes:
    """The report in our mailbox about the message with this envelope ID."""
    daemon.masqmail("flush", "--wait")
    wanted = f"\nOriginal-Envelope-Id: {envelope_id}\n".encode()
    (found,) = (content for content in daemon.mailbox() if wanted in content)
    assert found.startswith(b"Return-Path: <>\n")
    return found


def test_ten_thousand_recipients_are_taken_in_one_go(daemon: Daemon) -> None:
    names = [f"user{number}@example.net" for number in range(10_000)]
    done = daemon.sendmail("-f", "many@example.org", *names, message=message("many"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert addresses(queued(daemon, "many@example.org")) == names


def test_a_header_section_of_a_megabyte_is_refused_with_a_reason(daemon: Daemon) -> None:
    text = b"Subject: x\n" + b"X-Padding: 0123456789012345678901234567890123456789\n" * 20_000 + b"\nhello\n"
    done = daemon.sendmail("-f", "wide@example.org", "ann@example.net", message=text)
    assert done.returncode == os.EX_DATAERR
    assert b"552 5.3.4 The header section is larger than 524288 bytes" in done.stderr
    assert not any(waiting["sender"] == "wide@example.org" for waiting in daemon.queue())


def test_a_message_with_nul_bytes_is_refused_with_a_reason(daemon: Daemon) -> None:
    done = daemon.sendmail("-f", "nul@example.org", "ann@example.net", message=message("nul", b"a\0b\n"))
    assert done.returncode == os.EX_DATAERR
    assert b"NUL byte" in done.stderr
    assert not any(waiting["sender"] == "nul@example.org" for waiting in daemon.queue())


@pytest.mark.parametrize(
    ("name", "body", "stored"),
    [
        ("no-newline", b"no end", b"no end\n"),
        ("empty", b"", b""),
        ("dots", b".\n..\n.x\n", b".\n..\n.x\n"),
        ("from", b"From me to you\n", b"From me to you\n"),
        ("eight-bit", b"\xe4\xc3\xb6\n", b"\xe4\xc3\xb6\n"),
        ("dos", b"a\r\nb\rc\n", b"a\nb\nc\n"),
        ("long-line", b"x" * 100_000 + b"\n", b"x" * 100_000 + b"\n"),
        ("big", b"0123456789abcde\n" * 200_000, b"0123456789abcde\n" * 200_000),
    ],
)
def test_a_body_is_stored_as_it_came(daemon: Daemon, name: str, body: bytes, stored: bytes) -> None:
    assert daemon.sendmail("-i", ME, message=message(name, body)).returncode == 0
    assert arrived(daemon, name).partition(b"\n\n")[2] == stored


def test_what_sendmail_may_ask_is_unknown_on_the_network(daemon: Daemon) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=10) as client, client.makefile("rwb") as file:
        file.write(b"EHLO laptop\r\nMAIL FROM:<> XSELF\r\nMAIL FROM:<> XHEADERRCPTS\r\nQUIT\r\n")
        file.flush()
        replies = file.read()
    assert b"XSUBMIT" not in replies
    assert b"\r\n250-LIMITS RCPTMAX=1000\r\n" in replies
    assert replies.count(b"\r\n555 5.5.4 ") == 2


def test_somebody_who_speaks_smtp_through_sendmail_submits_too(daemon: Daemon) -> None:
    text = message("bs").replace(b"\n", b"\r\n")
    commands = f"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<{ME}>\r\nBDAT {len(text)} LAST\r\n".encode()
    done = daemon.sendmail("-bs", message=commands + text + b"QUIT\r\n")
    assert done.returncode == 0
    assert b"\r\n250 2.0.0 Safe on disk, id=" in done.stdout
    assert arrived(daemon, "bs")


# who may use which sender


@pytest.mark.parametrize("sender", ["anybody@example.org", "", "<>"])
def test_a_trusted_user_may_use_any_sender(daemon: Daemon, sender: str) -> None:
    name = f"trusted-{sender}"
    assert daemon.sendmail("-f", sender, ME, message=message(name)).returncode == 0
    assert arrived(daemon, name).startswith(f"Return-Path: <{sender.strip('<>')}>\n".encode())


@only_root
def test_another_user_may_not_use_the_address_of_somebody_else(daemon: Daemon) -> None:
    for sender in ("root@laptop.example.org", "nobody@example.org", "root"):
        done = daemon.sendmail("-f", sender, "ann@example.net", message=message("forged"), user="nobody")
        assert done.returncode == os.EX_NOPERM
        assert b"You may not use this sender address" in done.stderr
    assert not any("forged" in daemon.masqmail("queue", "headers", item["id"]).stdout for item in daemon.queue())


@only_root
@pytest.mark.parametrize(
    ("words", "return_path"),
    [
        ((), "nobody@laptop.example.org"),
        (("-f", "nobody@laptop.example.org"), "nobody@laptop.example.org"),
        (("-f", "nobody@localhost"), "nobody@localhost"),
        (("-f", "nobody"), "nobody@laptop.example.org"),
        (("-f", ""), ""),
    ],
)
def test_another_user_may_use_his_own_address_or_none(
    daemon: Daemon, words: tuple[str, ...], return_path: str
) -> None:
    name = f"nobody-{'-'.join(words)}"
    assert daemon.sendmail(*words, "root", message=message(name), user="nobody").returncode == 0
    content = arrived(daemon, name)
    assert content.startswith(f"Return-Path: <{return_path}>\n".encode())
    assert b"(from user nobody, uid 65534)" in content


# without a daemon, and when it is killed


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that ran once, so that its folders are there."""
    daemon = new_daemon(tmp_path)
    daemon.start()
    assert daemon.stop() == 0
    yield daemon
    if daemon.process is not None:
        daemon.stop()


def test_what_is_submitted_without_a_daemon_is_sent_when_it_starts(stopped: Daemon) -> None:
    text = b"To: " + ME.encode() + b"\nBcc: ann@example.net\nX-Test: early\n\nno end"
    done = stopped.sendmail("-t", "-F", "Early Bird", message=text)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (
        stopped.sendmail("-odq", "-f", "later@example.org", "bob@example.net", message=message("b")).returncode == 0
    )
    stopped.start()
    wait_for_pickup(stopped)
    content = arrived(stopped, "early")
    assert content.endswith(b"\n\nno end\n")
    assert f"\nFrom: Early Bird <{ME}@laptop.example.org>\n".encode() in content
    assert b"Bcc" not in content
    assert addresses(queued(stopped, "later@example.org")) == ["bob@example.net"]
    assert addresses(queued(stopped, f"{ME}@laptop.example.org"))[-1] == "ann@example.net"


def wait_for_pickup(daemon: Daemon) -> None:
    """Until the daemon has taken every file."""
    for _ in range(200):
        if not any(path.is_file() for path in (daemon.folder / "spool" / "pickup").iterdir()):
            return
        daemon.masqmail("status")
    raise AssertionError("files are left in the pickup folder")


class Submitter(threading.Thread):
    """Submits one message after the other, and says at every fifth that it got on."""

    def __init__(self, daemon: Daemon, names: list[str]) -> None:
        super().__init__()
        self.codes: dict[str, int] = {}
        self.progress = threading.Event()
        self._daemon = daemon
        self._names = names

    def run(self) -> None:
        for number, name in enumerate(self._names):
            self.codes[name] = self._daemon.sendmail(ME, message=message(name)).returncode
            if number % 5 == 4:
                self.progress.set()
        self.progress.set()


def test_a_message_that_exited_with_0_survives_any_kill(stopped: Daemon) -> None:
    submitters = [Submitter(stopped, [f"{thread}-{number}" for number in range(25)]) for thread in range(3)]
    stopped.start()
    for submitter in submitters:
        submitter.start()
    while any(submitter.is_alive() for submitter in submitters):
        submitters[0].progress.wait(10)
        submitters[0].progress.clear()
        stopped.kill()
        stopped.start()
    wait_for_pickup(stopped)
    stopped.masqmail("flush", "--wait")
    stopped.wait_for_empty_queue()
    codes = {name: code for submitter in submitters for name, code in submitter.codes.items()}
    assert set(codes.values()) <= {os.EX_OK, os.EX_TEMPFAIL}
    safe = {name for name, code in codes.items() if code == os.EX_OK}
    assert len(safe) > len(codes) / 2
    assert safe <= {identity(content) for content in stopped.mailbox() if b"X-Test: " in content}
