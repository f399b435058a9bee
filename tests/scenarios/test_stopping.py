"""A daemon that is told to stop first learns what became of mail that is under way, so that nothing comes twice."""

import json
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.mail import message
from support.peers import open_way, wait_until
from support.receiver import running_receiver

pytestmark = pytest.mark.slow

#: Longer than it takes to stop a daemon that waits for nothing.
SECONDS = 3

SCRIPT = "echo run >>$1; cat >/dev/null; sleep $2"


def submit(daemon: Daemon, address: str) -> None:
    assert daemon.sendmail("-i", address, message=message("under way")).returncode == 0


def start_again(daemon: Daemon) -> None:
    """Nothing is left to do, and nobody was in doubt."""
    daemon.start()
    daemon.wait_for_empty_queue()
    daemon.stop()
    assert "doubt" not in daemon.log.read_text()


@pytest.mark.parametrize("chunking", [True, False])
def test_the_verdict_of_a_server_is_waited_for(tmp_path: Path, chunking: bool) -> None:
    with running_receiver(chunking=chunking) as receiver:
        receiver.verdict_seconds = SECONDS
        route = f'[routes.isp]\nlinks = ["always"]\nsmarthost = "127.0.0.1:{receiver.port}"\ntls = "none"\n'
        daemon = Daemon(tmp_path, route)
        daemon.start()
        submit(daemon, "ann@far.example")
        wait_until(lambda: bool(receiver.taken), "the message at the receiver", 20)
        assert daemon.stop() == 0
        start_again(daemon)
        assert list(receiver.count().values()) == [1]


def test_a_program_that_has_the_message_may_end(tmp_path: Path) -> None:
    open_way(tmp_path)
    out = tmp_path / "runs"
    out.touch()
    out.chmod(0o666)
    command = json.dumps(["/bin/sh", "-c", SCRIPT, "fax", str(out), str(SECONDS)])
    daemon = Daemon(tmp_path / "home", f'[routes.fax]\nlinks = ["always"]\ndeliver = "pipe"\ncommand = {command}\n')
    daemon.start()
    submit(daemon, "4989@fax.example")
    wait_until(lambda: bool(out.read_text()), "the program to run", 20)
    assert daemon.stop() == 0
    start_again(daemon)
    assert out.read_text() == "run\n"
