"""Local mail through real programs: Dovecot's LMTP server, procmail, maildrop and dovecot-lda."""

import json
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import CONFIGURATION, Daemon
from support.dovecot import LMTP, Dovecot, running_dovecot
from support.mail import message
from support.peers import needs, open_way, wait_until
from support.ports import free_port

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else"),
]

LDA = "/usr/lib/dovecot/dovecot-lda"
USER = "games"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's own folder, which another run of pytest closes to other accounts."""
    with tempfile.TemporaryDirectory(prefix="masqmail-") as name:
        open_way(Path(name))
        (Path(name) / "mail").mkdir()
        (Path(name) / "mail").chmod(0o1777)
        yield Path(name)


@pytest.fixture
def dovecot(folder: Path) -> Iterator[Dovecot]:
    """Knows root and man, and keeps all mail as nobody."""
    needs("dovecot")
    needs(str(LMTP))
    maildir = folder / "kept"
    maildir.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(maildir, nobody.pw_uid, nobody.pw_gid)
    with running_dovecot(folder, maildir, {"root": "x", "man": "x"}) as running:
        wait_until(running.lmtp_socket.exists, "Dovecot's LMTP socket")
        yield running


def running(folder: Path, *local: str, user: str = "root") -> Daemon:
    """A daemon with these settings of local delivery; its parent is root, whoever it is itself."""
    port = free_port()
    text = CONFIGURATION.format(folder=folder, port=port)
    text = text.replace("[host]\n", f'[host]\nuser = "{user}"\n', 1)
    text = text.replace('delivery = "maildir"', "\n".join(local))
    daemon = Daemon(folder, port=port, text=text)
    daemon.start()
    return daemon


def test_dovecot_takes_mail_by_lmtp_and_its_refusal_is_a_report(folder: Path, dovecot: Dovecot) -> None:
    daemon = running(folder, 'delivery = "lmtp"', f'lmtp = "{dovecot.lmtp_socket}"')
    try:
        big = b"".join(b".%06d caf\xc3\xa9\n" % number for number in range(30_000))
        assert daemon.sendmail("-i", "root", message=message("small", b".one\n..\nFrom here\n")).returncode == 0
        assert daemon.sendmail("-i", "root+lists", message=message("big", big)).returncode == 0
        assert daemon.sendmail("-i", USER, message=message("refused")).returncode == 0
        daemon.wait_for_empty_queue()
        kept = [path.read_bytes().replace(b"\r\n", b"\n") for path in (folder / "kept" / "new").iterdir()]
    finally:
        daemon.stop()
    (small,) = (text for text in kept if b"X-Test: small\n" in text)
    assert small.endswith(b"\n\n.one\n..\nFrom here\n")
    assert b"\nDelivered-To: root@laptop.example.org\nEnvelope-To: root@laptop.example.org\n" in small
    (whole,) = (text for text in kept if b"X-Test: big\n" in text)
    assert whole.endswith(b"\n\n" + big)
    (report,) = (text for text in kept if b"mailer-daemon@" in text)
    assert b"Status: 5.1.1" in report
    assert b"Remote-MTA" not in report


def test_dovecot_takes_mail_from_its_recipient_where_the_daemon_is_neither_root_nor_he(
    folder: Path, dovecot: Dovecot
) -> None:
    daemon = running(folder, 'delivery = "lmtp"', f'lmtp = "{dovecot.lmtp_socket}"', user="nobody")
    big = b"".join(b".%06d caf\xc3\xa9\n" % number for number in range(30_000))
    try:
        assert daemon.sendmail("-i", "man", message=message("big", big)).returncode == 0
        daemon.wait_for_empty_queue()
        (kept,) = [path.read_bytes().replace(b"\r\n", b"\n") for path in (folder / "kept" / "new").iterdir()]
    finally:
        daemon.stop()
    assert b"\nDelivered-To: man@laptop.example.org\n" in kept
    assert kept.endswith(b"\n\n" + big)


def test_a_dovecot_that_is_away_only_delays(folder: Path, dovecot: Dovecot) -> None:
    daemon = running(folder, 'delivery = "lmtp"', f'lmtp = "{folder}/nobody"')
    try:
        assert daemon.sendmail("-i", "root", message=message("later")).returncode == 0
        wait_until(lambda: daemon.recipient("root@laptop.example.org")["state"] == "deferred", "a deferral")
        assert "cannot connect to" in daemon.recipient("root@laptop.example.org")["reason"]
        (folder / "nobody").symlink_to(dovecot.lmtp_socket)
        assert daemon.masqmail("flush").returncode == 0
        daemon.wait_for_empty_queue()
    finally:
        daemon.stop()
    assert len(list((folder / "kept" / "new").iterdir())) == 1


def programs(folder: Path) -> dict[str, list[str]]:
    box = f"{folder}/mail/${{user}}"
    (folder / "dovecot.conf").write_text("log_path = /dev/stderr\nmail_location = maildir:/nonexistent\n")
    (folder / "dovecot.conf").chmod(0o644)
    filters = folder / "mail" / "filter"
    filters.write_text(f'to "{folder}/mail/$LOGNAME"\n')
    os.chown(filters, pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_gid)
    filters.chmod(0o600)
    return {
        "procmail": ["/usr/bin/procmail", "-Y", f"DEFAULT={box}", "/dev/null"],
        "maildrop": ["/usr/bin/maildrop", str(filters)],
        LDA: [LDA, "-c", f"{folder}/dovecot.conf", "-o", f"mail_location=mbox:{folder}/mail/x:INBOX={box}"],
    }


@pytest.mark.parametrize("program", ["procmail", "maildrop", LDA])
def test_a_program_delivers_as_its_user(folder: Path, program: str) -> None:
    needs(program)
    daemon = running(folder, 'delivery = "mda"', f"mda = {json.dumps(programs(folder)[program])}")
    try:
        assert daemon.sendmail("-i", f"{USER}+lists", message=message("mda", b"one\n.two\n")).returncode == 0
        daemon.wait_for_empty_queue()
        history = daemon.masqmail("log").stdout
    finally:
        daemon.stop()
    box = folder / "mail" / USER
    assert box.exists(), history
    assert box.stat().st_uid == pwd.getpwnam(USER).pw_uid
    text = box.read_bytes()
    assert b"X-Test: mda\n" in text
    assert b"\n\none\n.two\n" in text
    assert b"Envelope-To: games+lists@laptop.example.org\n" in text
