"""The real daemon hands mail to programs: that of a pipe route, and one in place of a connection."""

import json
import os
import pwd
import sys
from pathlib import Path

import pytest

from support.daemon import CONFIGURATION, Daemon, running_daemon
from support.mail import message
from support.peers import open_way, wait_until
from support.ports import free_port
from support.receiver import running_receiver

pytestmark = pytest.mark.slow

RELAY = (
    "import os, socket, sys, threading\n"
    "sock = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
    "print('connected to shore', file=sys.stderr, flush=True)\n"
    "def there():\n"
    "    while data := os.read(0, 65536): sock.sendall(data)\n"
    "    sock.shutdown(socket.SHUT_WR)\n"
    "threading.Thread(target=there, daemon=True).start()\n"
    "while data := sock.recv(65536): os.write(1, data)\n"
)

ROUTES = """
[routes.fax]
links = ["always"]
recipients = ["*@fax"]
deliver = "pipe"
command = ["/bin/sh", "-c", "{script}", "sendfax", "${{recipient_local}}", "{out}"]
from_line = true
[routes.fax.rewrite]
all = {{ "*" = "js@isp.example" }}

[routes.shore]
links = ["always"]
recipients = ["*@shore.test"]
smarthost = "shore.test:25"
tls = "none"
wrapper = {wrapper}
"""

SCRIPT = "umask 022; case $1 in busy) echo line busy; exit 75;; esac; (id -u; cat) >$2/$1.new; mv $2/$1.new $2/$1"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where any account can write."""
    open_way(tmp_path)
    found = tmp_path / "out"
    found.mkdir()
    found.chmod(0o777)
    return found


def send(daemon: Daemon, *recipients: str) -> None:
    done = daemon.sendmail("-i", *recipients, message=message("offer"))
    assert done.returncode == 0, done.stderr


def test_messages_go_to_the_program_of_a_route_and_through_a_wrapper(tmp_path: Path, out: Path) -> None:
    with running_receiver() as receiver:
        wrapper = json.dumps([sys.executable, "-c", RELAY, str(receiver.port)])
        routes = ROUTES.format(script=SCRIPT, out=out, wrapper=wrapper)
        with running_daemon(tmp_path / "home", routes) as daemon:
            assert {route["name"]: route["state"] for route in daemon.ask("status")["routes"]} == {
                "fax": "ready",
                "shore": "ready",
            }
            (step,) = daemon.ask("explain", "4989@fax")["plan"]
            assert (step["action"], step["route"], step["next_hop"]) == ("pipe", "fax", "/bin/sh")
            send(daemon, "4989@fax", "busy@fax", "ann@shore.test")
            wait_until_only(daemon, "busy@fax")
            waiting = daemon.recipient("busy@fax")
            assert (waiting["state"], waiting["route"], waiting["reason"]) == ("deferred", "fax", "line busy")
            uid, *text = (out / "4989").read_text().splitlines()
            assert "connected to shore" in daemon.log.read_text()
    assert int(uid) == (os.geteuid() or 65534), "never root"
    assert text[0].startswith("From js@isp.example ")
    assert "From: js@isp.example" in text
    assert [recipient for _, recipient in receiver.count()] == ["ann@shore.test"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_daemon_started_as_root_runs_the_program_as_the_account_it_became(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "home"
    routes = ROUTES.format(script=SCRIPT, out=out, wrapper='["/bin/false"]')
    text = CONFIGURATION.format(folder=folder, port=free_port()) + routes
    daemon = Daemon(folder, text=text.replace("[host]\n", '[host]\nuser = "games"\ngroup = "games"\n', 1))
    daemon.start()
    try:
        send(daemon, "4989@fax")
        daemon.wait_for_empty_queue()
    finally:
        daemon.stop()
    assert (out / "4989").read_text().splitlines()[0] == str(pwd.getpwnam("games").pw_uid)


def wait_until_only(daemon: Daemon, address: str) -> None:
    def is_alone() -> bool:
        listed = daemon.queue()
        assert len(listed) == 1, (listed, daemon.log.read_text())
        (queued,) = listed
        open_ones = [item["address"] for item in queued["recipients"] if item["state"] not in ("delivered", "failed")]
        return open_ones == [address] and daemon.recipient(address)["attempts"] == 1

    wait_until(is_alone, f"only {address} waits")
