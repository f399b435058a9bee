import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from masqmail.system.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A service manager's socket, and the environment it gives."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@masqmail-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if name.startswith("@") else name)
        sock.settimeout(5)
        yield sock, {"NOTIFY_SOCKET": name}


def test_the_manager_is_told_how_we_are(manager: tuple[socket.socket, dict[str, str]]) -> None:
    sock, environment = manager
    notifier = Notifier(environment)
    notifier.ready()
    notifier.stopping()
    notifier.watchdog()
    notifier.reloading()
    told = [sock.recv(1000).decode() for _ in range(4)]
    assert told[:3] == ["READY=1", "STOPPING=1", "WATCHDOG=1"]
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", told[3])


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/notify"}])
def test_nothing_happens_without_a_manager(environment: dict[str, str]) -> None:
    Notifier(environment).ready()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_a_sign_of_life_is_due_twice_in_the_time_allowed(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environment).watchdog_seconds == seconds
