"""Connections that inetd accepted are served like our own, from those who may hand them over."""

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from masqmail.net import handover
from masqmail.net.handover import TAKEN, HandedOverListener
from masqmail.net.listen import bind_unix
from masqmail.net.stream import Stream

pytestmark = pytest.mark.anyio


class Door:
    """A listener for what is handed over, and the clients it has served."""

    def __init__(self, folder: Path, *, max_connections: int = 10, givers: Collection[int] = (os.geteuid(),)) -> None:
        self.path = folder / "inetd.sock"
        self.served: list[str] = []
        self.reports: list[str] = []
        self.listener = HandedOverListener(
            [bind_unix(self.path, 0o600)],
            self._greet,
            max_connections=max_connections,
            refuse=lambda client, connections: b"421 4.3.2 Too many connections\r\n",
            report=lambda text, error: self.reports.append(f"{text}: {error}"),
        )
        self.listener.givers = givers

    async def _greet(self, stream: Stream) -> None:
        self.served.append(str(stream.peer))
        stream.write(b"220 hello\r\n")
        await stream.receive(5)

    async def hand_over(self, descriptor: int | None) -> bytes:
        """What the door answers; empty when it closes without a word."""
        with socket.socket(socket.AF_UNIX) as giver:
            giver.connect(str(self.path))
            giver.setblocking(False)
            socket.send_fds(giver, [b"."], [] if descriptor is None else [descriptor])
            with anyio.fail_after(5):
                await anyio.wait_readable(giver)
            return giver.recv(100)

    async def is_idle(self) -> bool:
        """Whether nothing counts as connected any more."""
        with anyio.fail_after(5):
            while self.listener.connections:
                await anyio.lowlevel.checkpoint()
        return True


@contextmanager
def accepted() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client, and the server's side of its connection as inetd has it."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        connection, _ = server.accept()
        with connection:
            yield client, connection


async def test_a_connection_is_served_and_known_by_the_address_it_comes_from(tmp_path: Path) -> None:
    door = Door(tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(door.listener.serve)
        with accepted() as (client, connection):
            assert await door.hand_over(connection.fileno()) == TAKEN
            connection.close()
            host, port = client.getsockname()
            assert await anyio.to_thread.run_sync(client.recv, 100) == b"220 hello\r\n"
            assert door.served == [f"{host}:{port}"]
            assert door.listener.connections == 1
        assert await door.is_idle()
        tasks.cancel_scope.cancel()
    assert door.reports == []


async def test_nobody_else_may_hand_one_over(tmp_path: Path) -> None:
    door = Door(tmp_path, givers=[os.geteuid() + 1])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(door.listener.serve)
        with accepted() as (_, connection):
            try:
                assert await door.hand_over(connection.fileno()) == b""
            except ConnectionResetError:
                pass  # it did not even read
        assert await door.is_idle()
        tasks.cancel_scope.cancel()
    assert door.served == []


async def test_what_is_no_connection_is_closed(tmp_path: Path) -> None:
    door = Door(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(door.listener.serve)
        one, other = socket.socketpair()
        with open(os.devnull) as file, socket.socket() as unconnected, socket.socket(type=socket.SOCK_DGRAM) as udp:
            for descriptor in (file.fileno(), unconnected.fileno(), udp.fileno(), one.fileno(), None):
                assert await door.hand_over(descriptor) == b""
        one.close()
        other.close()
        assert await door.is_idle()
        tasks.cancel_scope.cancel()
    assert door.served == []
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_who_hands_nothing_over_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "PATIENCE_SECONDS", 0.01)
    door = Door(tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(door.listener.serve)
        with socket.socket(socket.AF_UNIX) as giver:
            giver.connect(str(door.path))
            giver.setblocking(False)
            with anyio.fail_after(5):
                await anyio.wait_readable(giver)
            assert giver.recv(10) == b""
        tasks.cancel_scope.cancel()


async def test_one_too_many_is_told_so(tmp_path: Path) -> None:
    door = Door(tmp_path, max_connections=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(door.listener.serve)
        with accepted() as (_, connection):
            assert await door.hand_over(connection.fileno()) == b"421 4.3.2 Too many connections\r\n"
        tasks.cancel_scope.cancel()
    assert door.served == []
