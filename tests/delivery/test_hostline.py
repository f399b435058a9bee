"""A connection of a thread of its own: no wait is without an end, and a request to stop is heard."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from masqmail.delivery import hostline
from masqmail.delivery.hostline import HostLine, LineError


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "door"))
        listener.listen(0)
        yield listener


def reach(listener: socket.socket, stop: threading.Event | None = None, seconds: float = 10) -> HostLine:
    return HostLine.open(listener.getsockname(), seconds, stop or threading.Event())


@pytest.fixture
def first(listener: socket.socket) -> Iterator[socket.socket]:
    """A connection that fills the backlog."""
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(listener.getsockname())
        yield first


def test_bytes_go_both_ways(listener: socket.socket) -> None:
    line = reach(listener)
    other, _ = listener.accept()
    line.put(b"hello ", 1)
    line.put(b"there", 1)
    line.flush(1)
    assert other.recv(100) == b"hello there"
    other.sendall(b"yes")
    assert line.receive(1) == b"yes"
    other.close()
    assert line.receive(1) == b""
    line.close()


def test_much_goes_out_before_it_is_all_there(listener: socket.socket) -> None:
    line = reach(listener)
    other, _ = listener.accept()
    line.put(b"x" * 100_000, 1)
    assert other.recv(10) == b"x" * 10
    other.close()
    line.close()


def test_a_full_backlog_is_waited_for(listener: socket.socket, first: socket.socket) -> None:
    with pytest.raises(LineError, match=r"timed out after 0\.01 s"):
        reach(listener, seconds=0.01)


def test_room_in_the_backlog_is_taken(
    listener: socket.socket, first: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = socket.socket.connect
    attempts = []

    def attempt(sock: socket.socket, address: str) -> None:
        attempts.append(address)
        if len(attempts) == 2:
            listener.accept()[0].close()
        connect(sock, address)

    monkeypatch.setattr(hostline, "_BACKLOG_SECONDS", 0.001)
    monkeypatch.setattr(socket.socket, "connect", attempt)
    reach(listener).close()
    assert len(attempts) == 2


def test_who_is_asked_to_stop_waits_for_no_room(listener: socket.socket, first: socket.socket) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(LineError):
        reach(listener, stop)


def test_a_server_that_takes_nothing_is_given_up(listener: socket.socket) -> None:
    line = reach(listener)
    with pytest.raises(LineError, match=r"no answer within 0\.01 s"):
        line.put(b"x" * 10_000_000, 0.01)
    line.close()


def test_a_server_that_is_silent_is_given_up(listener: socket.socket) -> None:
    line = reach(listener)
    with pytest.raises(LineError, match=r"no answer within 0\.01 s"):
        line.receive(0.01)
    line.close()


def test_a_request_to_stop_ends_a_wait(listener: socket.socket) -> None:
    stop = threading.Event()
    line = reach(listener, stop)
    stop.set()
    with pytest.raises(LineError, match="the delivery was stopped"):
        line.receive(10)
    line.close()


def test_who_hangs_up_is_told_of_and_what_was_said_before_can_be_read(listener: socket.socket) -> None:
    line = reach(listener)
    other, _ = listener.accept()
    other.sendall(b"go away")
    other.close()
    with pytest.raises(LineError, match="broken pipe"):
        line.put(b"x" * 100_000, 1)
    assert line.take() == b"go away"
    line.put_last(b"bye")
    line.close()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("/nonexistent/lmtp", "no such file or directory"),
        ("/" + "x" * 200, "af_unix path too long"),
        ("127.0.0.1:1", "connection refused"),
        ("[::1]:1", ""),
        ("localhost", "invalid literal"),
        ("localhost:99999", ""),
        ("no such host:24", ""),
    ],
)
def test_what_cannot_be_reached_is_told_with_the_reason(address: str, reason: str) -> None:
    with pytest.raises(LineError) as caught:
        HostLine.open(address, 5, threading.Event())
    assert str(caught.value).startswith(f"cannot connect to {address}: ")
    assert reason in str(caught.value)
