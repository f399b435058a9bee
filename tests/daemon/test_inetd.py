"""`sendmail -bs` under inetd: a host of the network gets what it would get where the daemon listens itself."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.peers import SEARCH_PATH, needs, open_way

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has network namespaces"),
]

PROGRAM = Path(__file__).parents[1] / "support" / "inetd.py"
STRANGER, FRIEND = "192.0.2.7", "198.51.100.7"
TALK = (
    b"EHLO client\r\nMAIL FROM:<ann@far.example>\r\nRCPT TO:<bob@elsewhere.example>\r\nRCPT TO:<root>\r\n"
    b"DATA\r\nSubject: by inetd\r\n\r\nhello\r\n.\r\nQUIT\r\n"
)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    needs("unshare", "ip")
    open_way(tmp_path)
    daemon = Daemon(tmp_path)
    daemon.configure(
        daemon.config.read_text().replace("[smtp]\n", f'[smtp]\nrelay_networks = ["127.0.0.0/8", "{FRIEND}"]\n')
    )
    daemon.start()
    yield daemon
    daemon.stop()


def talk(daemon: Daemon, address: str, user: str = "root") -> tuple[list[str], str, int]:
    """What the client is told, what the program complains about, and its exit code."""
    command = [str(Path(sys.executable).with_name("sendmail")), "-bs"]
    done = subprocess.run(
        ["unshare", "--net", sys.executable, str(PROGRAM), address, user, *command],
        input=TALK,
        capture_output=True,
        env={"PATH": SEARCH_PATH, "MASQMAIL_CONFIG": str(daemon.config)},
        timeout=60,
    )
    return done.stdout.decode().splitlines(), done.stderr.decode(), done.returncode


def test_a_stranger_may_write_to_this_host_and_no_further(daemon: Daemon) -> None:
    lines, complaints, code = talk(daemon, STRANGER)
    assert (complaints, code) == ("", 0)
    assert lines[0].startswith("220 laptop.example.org ")
    assert any(line.startswith("550 5.7.1 ") for line in lines), lines
    daemon.wait_for_empty_queue()
    (letter,) = daemon.mailbox()
    assert f"Received: from client ([{STRANGER}])".encode() in letter
    assert b"Return-Path: <ann@far.example>" in letter


def test_a_relay_client_may_write_anywhere(daemon: Daemon) -> None:
    lines, _, _ = talk(daemon, FRIEND)
    assert not [line for line in lines if line.startswith("5")]
    assert daemon.recipient("bob@elsewhere.example")["state"] == "queued"


def test_this_host_is_no_user_of_ours_either(daemon: Daemon) -> None:
    """Whoever connects to inetd on loopback is not root, though inetd is."""
    talk(daemon, "127.0.0.9")
    assert daemon.recipient("bob@elsewhere.example")["state"] == "queued"
    (message,) = (waiting for waiting in daemon.queue() if waiting["sender"] == "ann@far.example")  # not a notice
    assert message["received_from"].startswith("127.0.0.9")


def test_an_inetd_that_does_not_run_it_as_root_can_give_nothing_to_the_daemon(daemon: Daemon) -> None:
    lines, complaints, code = talk(daemon, STRANGER, user="nobody")
    assert lines == ["421 4.3.2 No mail is taken here now, try again later"]
    assert (code, "only root may do: " in complaints) == (os.EX_UNAVAILABLE, True)
