"""A hook and the real daemon: the line comes up, and what waits for it leaves."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon, smarthost_route
from support.mail import message
from support.receiver import Receiver, running_receiver

HOOKS = Path(__file__).parents[2] / "hooks"
RECIPIENT = "ann@provider.test"

pytestmark = pytest.mark.slow


class House:
    """A daemon whose provider is behind the manual link `line`, and a way to run hooks there."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.receiver = receiver
        self.daemon = Daemon(folder, smarthost_route("provider", receiver.port, 'tls = "none"', link="line"))
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.marks = folder / "marks"

    def call(self, hook: str, link: str, *more: str) -> None:
        """Runs a hook as pppd does; it leaves everything to the background."""
        environment = self.daemon.environment
        path = f"{self.programs}:{environment['PATH']}"
        words = [str(HOOKS / hook), "ppp0", "/dev/ttyS1", "38400", "192.0.2.1", "192.0.2.2", link, *more]
        subprocess.run(
            words,
            env={
                "PATH": path,
                "MASQMAIL_CONFIG": environment["MASQMAIL_CONFIG"],
                "MASQMAIL_LINK_MARKS": str(self.marks),
                "PPP_IFACE": "ppp0",
                "PPP_IPPARAM": link,
                "FOLDER": str(self.programs),
            },
            stdin=subprocess.DEVNULL,
            timeout=20,
            check=True,
        )

    def line(self) -> str:
        """The state of the link."""
        return str(next(link["state"] for link in self.daemon.ask("link", "list") if link["name"] == "line"))

    def send(self) -> None:
        sent = self.daemon.sendmail(RECIPIENT, message=message("waiting"))
        assert sent.returncode == 0, sent.stderr


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with running_receiver() as receiver:
        found = House(tmp_path / "house", receiver)
        try:
            yield found
        finally:
            if found.daemon.process is not None:
                found.daemon.stop()


def wait_until(is_true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ip_up_lets_a_waiting_message_leave_and_ip_down_makes_the_next_one_wait(house: House) -> None:
    house.daemon.start()
    house.send()
    assert house.daemon.recipient(RECIPIENT)["state"] == "queued"
    house.call("ppp-ip-up", "line")
    wait_until(lambda: len(house.receiver.taken) == 1)
    house.daemon.wait_for_empty_queue()
    house.call("ppp-ip-down", "line")
    wait_until(lambda: house.line() == "down")
    house.send()
    assert house.daemon.recipient(RECIPIENT)["state"] == "queued"
    assert len(house.receiver.taken) == 1


def test_ip_up_before_the_daemon_has_started_counts_when_it_has(house: House) -> None:
    os.mkfifo(house.programs / "started")
    pause = house.programs / "sleep"
    pause.write_text('#!/bin/sh\nread -r _ <"$FOLDER/started"\n')
    pause.chmod(0o755)
    house.call("ppp-ip-up", "line")
    with (house.programs / "started").open("w") as started:  # it opens when the hook has tried in vain
        house.daemon.start()
        house.send()
        started.write("now\n")
    wait_until(lambda: len(house.receiver.taken) == 1)


@pytest.mark.parametrize("link", ["always/../line", "..", "line; true", "x" * 5000, "\x1b[2J", "-x", "ü"])
def test_a_line_that_is_no_link_changes_nothing(house: House, link: str) -> None:
    house.daemon.start()
    before = house.daemon.ask("link", "list")
    os.mkfifo(house.programs / "asked")
    ask = house.programs / "masqmail"
    real = Path(house.daemon.environment["PATH"].partition(":")[0]) / "masqmail"
    ask.write_text(f'#!/bin/sh\n"{real}" "$@"\ncode=$?\necho "$code" >"$FOLDER/asked"\nexit "$code"\n')
    ask.chmod(0o755)
    house.call("ppp-ip-up", link)
    first, second = (int((house.programs / "asked").read_text()) for _ in "12")
    assert (first, second) == (65, 65)  # neither this nor ppp0
    after = house.daemon.ask("link", "list")
    assert after == before
