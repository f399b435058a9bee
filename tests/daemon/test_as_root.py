"""Started as root: the daemon is somebody else, mail is delivered as its recipients, root's files stay root's."""

import json
import os
import pwd
import re
import shutil
import smtplib
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from support.daemon import CONFIGURATION, Daemon
from support.mail import message
from support.peers import SEARCH_PATH
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
def folder() -> Iterator[Path]:
    """Not below pytest's own folder, which another run of pytest closes to other accounts."""
    with tempfile.TemporaryDirectory(prefix="masqmail-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def separated(folder: Path) -> Iterator[Separated]:
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


@pytest.fixture
def bob(separated: Separated) -> Iterator[str]:
    """An account of this test's own, with a home that nobody else may look into."""
    home = separated.daemon.folder / "bob"
    if shutil.which("useradd", path=SEARCH_PATH) is None:
        pytest.skip("there is no useradd")
    name = f"masqbob{os.getpid() % 10000}"
    command = ["useradd", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/sh", name]
    subprocess.run(command, check=True, env={"PATH": SEARCH_PATH}, capture_output=True)
    try:
        home.mkdir(mode=0o700)
        account = pwd.getpwnam(name)
        os.chown(home, account.pw_uid, account.pw_gid)
        yield name
    finally:
        subprocess.run(["userdel", name], check=True, env={"PATH": SEARCH_PATH}, capture_output=True)


def write_forward(user: str, text: str, mode: int = 0o600) -> Path:
    account = pwd.getpwnam(user)
    path = Path(account.pw_dir) / ".forward"
    path.write_text(text)
    path.chmod(mode)
    os.chown(path, account.pw_uid, account.pw_gid)
    return path


def who_ran(path: Path) -> tuple[str, set[str]]:
    """User and groups that `id` told."""
    text = path.read_text().partition("\n")[0]
    match = re.search(r"uid=\d+\((.*?)\)", text)
    assert match, text
    return match[1], set(re.findall(r"\((.*?)\)", text.partition("groups=")[2]))


def id_into(path: Path) -> str:
    """A command that tells who it is, and takes the message."""
    return f"/bin/sh -c 'id > {path}; cat >> {path}'"


def test_programs_and_files_of_a_forward_file_are_the_users(separated: Separated, bob: str) -> None:
    daemon = separated.daemon
    home = daemon.folder / "bob"
    write_forward(bob, f'"|{id_into(home / "who")}", {home}/box, {home}/dir/, \\{bob}, :include:{home}/more\n')
    (home / "more").write_text(f'"|{id_into(home / "included")}"\n')
    os.chown(home / "more", pwd.getpwnam(bob).pw_uid, -1)
    (home / "more").chmod(0o600)
    assert daemon.sendmail("-i", bob, message=message("forward")).returncode == 0
    daemon.wait_for_empty_queue()
    assert who_ran(home / "who") == (bob, {bob})
    assert who_ran(home / "included") == (bob, {bob})
    uid = pwd.getpwnam(bob).pw_uid
    (in_folder,) = (home / "dir" / "new").iterdir()
    (in_mailbox,) = separated.mailbox(bob).iterdir()
    for file in (home / "box", in_folder, in_mailbox):
        assert file.stat().st_uid == uid
        assert b"X-Test: forward" in file.read_bytes()


def test_a_forward_file_that_others_may_write_to_runs_nothing_and_loses_nothing(
    separated: Separated, bob: str
) -> None:
    daemon = separated.daemon
    home = daemon.folder / "bob"
    path = write_forward(bob, f'"|{id_into(home / "who")}"\n', mode=0o666)
    assert daemon.sendmail("-i", bob, message=message("unsafe")).returncode == 0
    daemon.wait_for_empty_queue()
    assert not (home / "who").exists()
    (delivered,) = separated.mailbox(bob).iterdir()
    assert b"X-Test: unsafe" in delivered.read_bytes()
    problem = f"{path} was passed over: others may write to it; chmod go-w makes it count"
    assert problem in daemon.ask("status")["problems"], daemon.ask("status")["problems"]
    (step,) = daemon.ask("explain", bob)["plan"]
    assert problem in step["reason"]


def test_a_forward_file_that_is_a_link_to_somebody_elses_is_passed_over(separated: Separated, bob: str) -> None:
    daemon = separated.daemon
    home = daemon.folder / "bob"
    (home / "real").write_text("root\n")
    (home / ".forward").symlink_to(home / "real")
    assert daemon.sendmail("-i", bob, message=message("link")).returncode == 0
    daemon.wait_for_empty_queue()
    assert len(list(separated.mailbox(bob).iterdir())) == 1


def test_an_mda_runs_as_its_user_and_an_alias_pipe_as_the_alias_user(separated: Separated, bob: str) -> None:
    daemon = separated.daemon
    output = daemon.folder / "mail"
    mda = ["/bin/sh", "-c", f"id > {output}/$1.mda; env >> {output}/$1.mda; cat >> {output}/$1.mda", "-", "${user}"]
    text = daemon.config.read_text().replace('delivery = "maildir"', f'delivery = "mda"\nmda = {json.dumps(mda)}')
    daemon.configure(text)
    (daemon.folder / "aliases").write_text(f'pipe: "|{id_into(output / "pipe")}"\nrobert: {bob}\n')
    daemon.stop()
    daemon.start()
    assert daemon.sendmail("-i", "games", "robert", "pipe", message=message("mda")).returncode == 0
    daemon.wait_for_empty_queue()
    assert who_ran(output / f"{bob}.mda") == (bob, {bob})
    assert who_ran(output / "games.mda")[0] == "games"
    assert who_ran(output / "pipe") == ("nobody", {"nogroup"})
    text = (output / f"{bob}.mda").read_text()
    assert f"\nHOME={daemon.folder}/bob\n" in text
    assert f"\nLOCAL_PART={bob}\n" in text
    assert "\nEnvelope-To: robert@laptop.example.org\n" in text
    assert "MASQMAIL" not in text.partition("Return-Path")[0]


def test_without_forward_files_nobody_looks(separated: Separated, bob: str) -> None:
    daemon = separated.daemon
    write_forward(bob, "nobody@nowhere.test\n")
    daemon.configure(daemon.config.read_text().replace("[local]\n", "[local]\nforward_files = false\n"))
    daemon.stop()
    daemon.start()
    assert daemon.sendmail("-i", bob, message=message("off")).returncode == 0
    daemon.wait_for_empty_queue()
    assert len(list(separated.mailbox(bob).iterdir())) == 1
