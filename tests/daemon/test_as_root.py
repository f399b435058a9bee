"""Started as root: the daemon is somebody else, mail is delivered as its recipients, root's files stay root's."""

import json
import os
import pwd
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from support.daemon import CONFIGURATION, Daemon
from support.lmtppeer import lmtp_peer
from support.mail import message
from support.peers import SEARCH_PATH, wait_until
from support.popmailbox import PopMailbox, mail
from support.poppost import running_pop
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


def test_a_configuration_that_is_refused_changes_nothing_of_the_delivery(separated: Separated) -> None:
    daemon, (user, _) = separated.daemon, USERS
    text = daemon.config.read_text().replace(
        f'{daemon.folder}/mail/${{user}}"', f'{daemon.folder}/mail/new-${{user}}"'
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon.configure(text.replace(f":{daemon.port}", f":{taken.getsockname()[1]}"))
        daemon.reload()
        wait_until(lambda: "configuration refused" in daemon.log.read_text(), "it was not refused")
        assert daemon.sendmail("-i", user, message=message("one")).returncode == 0
        daemon.wait_for_empty_queue()
    assert len(list(separated.mailbox(user).iterdir())) == 1
    assert daemon.log.read_text().count("configuration refused") == 1
    daemon.configure(text)
    daemon.reload()
    wait_until(lambda: "configuration loaded" in daemon.log.read_text(), "it was not loaded")
    assert daemon.sendmail("-i", user, message=message("two")).returncode == 0
    daemon.wait_for_empty_queue()
    assert len(list(separated.mailbox(f"new-{user}").iterdir())) == 1


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


def with_lmtp(daemon: Daemon, place: str) -> None:
    """Starts it again; everybody gets mail from the LMTP server there."""
    text = daemon.config.read_text().replace('delivery = "maildir"', f'delivery = "lmtp"\nlmtp = "{place}"')
    daemon.configure(text.replace("[local]\n", '[local]\nrecipient_delimiter = "+"\n'))
    daemon.stop()
    daemon.start()


def test_lmtp_is_spoken_by_the_recipient_to_a_socket_of_his_own(separated: Separated, bob: str) -> None:
    daemon = separated.daemon
    with_lmtp(daemon, f"{daemon.folder}/${{user}}.lmtp")
    uid = pwd.getpwnam(bob).pw_uid
    with (
        lmtp_peer(daemon.folder / f"{bob}.lmtp") as peer_of_bob,
        lmtp_peer(daemon.folder / "games.lmtp") as peer_of_games,
    ):
        (daemon.folder / "bob" / ".forward").write_text("")
        assert daemon.sendmail("-i", f"{bob}+lists", "games", message=message("lmtp")).returncode == 0
        daemon.wait_for_empty_queue()
    (visit,) = peer_of_bob.visits
    assert (visit.uid, visit.gid, visit.groups) == (uid, uid, (uid,))
    assert (visit.recipient, visit.commands[0]) == (f"{bob}+lists", "LHLO laptop.example.org")
    (visit,) = peer_of_games.visits
    assert (visit.uid, visit.recipient) == (pwd.getpwnam("games").pw_uid, "games")


def test_an_lmtp_server_at_a_port_sees_the_recipients_account_too(separated: Separated) -> None:
    port = free_port()
    with_lmtp(separated.daemon, f"127.0.0.1:{port}")
    with lmtp_peer(port) as peer:
        assert separated.daemon.sendmail("-i", *USERS, message=message("tcp")).returncode == 0
        separated.daemon.wait_for_empty_queue()
    found = {visit.recipient: visit.uid for visit in peer.visits}
    assert found == {user: pwd.getpwnam(user).pw_uid for user in USERS}


def test_a_big_message_goes_to_an_lmtp_server_without_being_in_memory(separated: Separated) -> None:
    daemon = separated.daemon
    daemon.configure(daemon.config.read_text().replace("[smtp]\n", '[smtp]\nmax_message_size = "100MB"\n'))
    with_lmtp(daemon, f"{daemon.folder}/lmtp")
    body = (b"x" * 70 + b"\n") * 1_000_000
    with lmtp_peer(daemon.folder / "lmtp") as peer:
        assert daemon.sendmail("-i", "games", message=message("big", body)).returncode == 0
        daemon.wait_for_empty_queue()
    (visit,) = peer.visits
    assert visit.size_bytes > len(body) > visit.peak_bytes


def test_an_lmtp_server_that_lets_the_user_not_in_defers_with_the_reason(separated: Separated) -> None:
    daemon = separated.daemon
    with_lmtp(daemon, f"{daemon.folder}/lmtp")
    with lmtp_peer(daemon.folder / "lmtp") as peer:
        (daemon.folder / "lmtp").chmod(0o600)
        assert daemon.sendmail("-i", "games", message=message("closed")).returncode == 0
        wait_until(lambda: daemon.recipient("games@laptop.example.org")["state"] == "deferred", "a deferral")
        reason = daemon.recipient("games@laptop.example.org")["reason"]
        assert reason == f"cannot connect to {daemon.folder}/lmtp: permission denied"
        (daemon.folder / "lmtp").chmod(0o666)
        assert daemon.masqmail("flush").returncode == 0
        daemon.wait_for_empty_queue()
    assert [visit.recipient for visit in peer.visits] == ["games"]


def test_the_program_of_a_route_runs_as_the_alias_user_and_may_be_set_uid(separated: Separated) -> None:
    daemon = separated.daemon
    output = daemon.folder / "mail" / "who"
    set_uid = daemon.folder / "set-uid-id"
    shutil.copy("/usr/bin/id", set_uid)
    shutil.chown(set_uid, "games", "games")
    set_uid.chmod(0o4755)
    command = ["/bin/sh", "-c", f"id > {output}; {set_uid} >> {output}; cat >> {output}"]
    route = f"""[routes.fax]
deliver = "pipe"
command = {json.dumps(command)}
recipients = ["*@fax.test"]
links = ["always"]
from_line = true
"""
    text = daemon.config.read_text().replace("[local]\n", '[local]\nalias_user = "man"\n')
    daemon.configure(f"{text}\n{route}")
    daemon.stop()
    daemon.start()
    assert daemon.sendmail("-i", "-f", "root", "12@fax.test", message=message("fax")).returncode == 0
    daemon.wait_for_empty_queue()
    assert who_ran(output)[0] == "man"
    set_uid_line, sent = output.read_text().split("\n", 2)[1:]
    assert "uid=6(man)" in set_uid_line and "euid=5(games)" in set_uid_line
    assert sent.startswith("From root@laptop.example.org ")
    assert "Delivered-To" not in sent


def test_mail_is_fetched_with_a_password_that_only_root_can_read(folder: Path) -> None:
    """By a daemon that may not even see the program's files any more, if those are root's alone."""
    mailbox = PopMailbox([mail("fetched")])
    with running_pop(mailbox) as post:
        account = post.account(folder, "isp", 'deliver_to = "games"')
        text = CONFIGURATION.format(folder=folder, port=free_port()).replace("[host]\n", SEPARATED, 1)
        text = text.replace(f'maildir = "{folder}/maildir"', f'maildir = "{folder}/mail/${{user}}"')
        (folder / "mail").mkdir()
        (folder / "mail").chmod(0o1777)
        daemon = Daemon(folder, text=text + account)
        daemon.start()
        try:
            inbox = folder / "mail/games/new"
            wait_until(lambda: inbox.is_dir() and len(list(inbox.glob("*"))) == 1, "the message of games")
        finally:
            daemon.stop()
    (delivered,) = inbox.glob("*")
    assert delivered.stat().st_uid == pwd.getpwnam("games").pw_uid
