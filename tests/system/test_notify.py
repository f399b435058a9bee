import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from masqmail.system.notify import Notifier, listen_sockets


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
    notifier.status("3 waiting\nREADY=0")
    notifier.reloading()
    told = [sock.recv(1000).decode() for _ in range(5)]
    assert told[:4] == ["READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=3 waiting READY=0"]
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", told[4])


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


def test_sockets_of_the_manager_are_taken_once_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from masqmail.system import notify

    opened = [socket.socket(), socket.socket(), socket.socket()]
    fds = sorted(sock.detach() for sock in opened)
    assert fds == list(range(fds[0], fds[0] + 3)), "three descriptors in a row"
    monkeypatch.setattr(notify, "_FIRST_FD", fds[0])
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "smtp:smtp"}
    taken = listen_sockets(environment)
    assert {name: [sock.fileno() for sock in socks] for name, socks in taken.items()} == {
        "smtp": fds[:2],
        "unknown": fds[2:],
    }
    for sock in [sock for socks in taken.values() for sock in socks]:
        assert not sock.get_inheritable() and not sock.getblocking()
        sock.close()
    assert environment == {}


@pytest.mark.parametrize(
    "environment",
    [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}],
)
def test_sockets_for_somebody_else_are_left_alone(environment: dict[str, str]) -> None:
    assert listen_sockets(environment) == {}
