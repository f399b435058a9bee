"""Started as root: the daemon is somebody else, mail is delivered as its recipients, root's files stay root's."""

import os
import pwd
import smtplib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from support.daemon import CONFIGURATION, Daemon
from support.mail import message
from support.ports import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else"),
]

USERS = ("games", "man")
SEPARATED = '[host]\nuser = "nobody"\ngroup = "nogroup"\n'


@dataclass(frozen=True)
class Separated:
    """A daemon that runs as `nobody`, below a folder that everybody may pass through."""

    daemon: Daemon
    authority: trustme.CA

    def mailbox(self, user: str) -> Path:
        return self.daemon.folder / "mail" / user / "new"


@pytest.fixture
def separated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Separated]:
    folder = tmp_path_factory.mktemp("root")
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o011)
    authority = trustme.CA()
    key = folder / "key.pem"
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(key)
    key.chmod(0o600)
    (folder / "mail").mkdir()
    (folder / "mail").chmod(0o1777)
    port = free_port()
    text = CONFIGURATION.format(folder=folder, port=port)
    text = text.replace("[host]\n", SEPARATED, 1) if "user =" not in text else text
    text = text.replace(f'maildir = "{folder}/maildir"', f'maildir = "{folder}/mail/${{user}}"')
    text = text.replace("[smtp]\n", f'[smtp]\ncertificate = "{key}"\nprivate_key = "{key}"\n')
    daemon = Daemon(folder, port=port, text=text)
    daemon.start()
    yield Separated(daemon, authority)
    daemon.stop()


def test_mail_is_delivered_as_its_recipients(separated: Separated) -> None:
    assert separated.daemon.sendmail("-i", *USERS, message=message("two")).returncode == 0
    separated.daemon.wait_for_empty_queue()
    for user in USERS:
        (delivered,) = separated.mailbox(user).iterdir()
        assert delivered.stat().st_uid == pwd.getpwnam(user).pw_uid
        assert delivered.stat().st_mode & 0o077 == 0


def test_the_daemon_itself_is_not_root(separated: Separated) -> None:
    parent = separated.daemon.process
    assert parent is not None
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    (daemon,) = children
    status = Path(f"/proc/{daemon}/status").read_text()
    nobody = str(pwd.getpwnam("nobody").pw_uid)
    (uids,) = (line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
    assert uids == [nobody] * 4
    assert "NoNewPrivs:\t1" in status


def test_a_key_that_only_root_can_read_serves_tls(separated: Separated) -> None:
    context = ssl.create_default_context()
    separated.authority.configure_trust(context)
    with smtplib.SMTP("127.0.0.1", separated.daemon.port) as client:
        assert client.starttls(context=context)[0] == 220
        assert client.ehlo()[0] == 250


def test_an_alias_pipe_runs_as_nobody_special(separated: Separated) -> None:
    daemon = separated.daemon
    output = daemon.folder / "mail" / "who"
    (daemon.folder / "aliases").write_text(f"who: \"|/bin/sh -c 'id > {output}; cat > /dev/null'\"\n")
    assert daemon.sendmail("-i", "who", message=message("pipe")).returncode == 0
    daemon.wait_for_empty_queue()
    assert "(nobody)" in output.read_text() and "root" not in output.read_text()
