import errno
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from masqmail.net import listen
from masqmail.net.errors import ListenFailure
from masqmail.net.listen import Listener, bind_tcp, bind_unix
from masqmail.net.stream import Stream, connect, connect_unix
from masqmail.settings import HostPort

pytestmark = pytest.mark.anyio
LOOPBACK = HostPort("127.0.0.1", 0)


async def echo(stream: Stream) -> None:
    while data := await stream.receive(5):
        stream.write(data)


class Served:
    """A listener with its reports, and the address to connect to."""

    def __init__(self, handler: Callable[[Stream], Awaitable[None]] = echo, max_connections: int = 10) -> None:
        self.reports: list[tuple[str, str]] = []
        self.sockets = bind_tcp(LOOPBACK)
        self.listener = Listener(
            self.sockets,
            handler,
            max_connections=max_connections,
            refuse=lambda client, connections: b"421 4.3.2 Too many connections\r\n",
            report=lambda text, error: self.reports.append((text, str(error))),
        )
        self.address = HostPort("127.0.0.1", self.sockets[0].getsockname()[1])

    async def connect(self) -> Stream:
        return await connect(self.address, timeout_seconds=5)


async def test_each_client_is_served_on_its_own() -> None:
    served = Served()
    async with anyio.create_task_group() as group:
        group.start_soon(served.listener.serve)
        first, second = await served.connect(), await served.connect()
        second.write(b"two")
        first.write(b"one")
        assert (await first.receive(5), await second.receive(5)) == (b"one", b"two")
        assert served.listener.connections == 2
        await first.aclose()
        await second.aclose()
        group.cancel_scope.cancel()
    assert served.listener.connections == 0
    assert served.listener.addresses == [str(served.address)]
    assert all(sock.fileno() == -1 for sock in served.sockets)


async def test_another_bound_counts_for_the_next_client() -> None:
    served = Served(max_connections=10)
    async with anyio.create_task_group() as group:
        group.start_soon(served.listener.serve)
        first = await served.connect()
        first.write(b"x")
        await first.receive(5)
        served.listener.max_connections = 1
        second = await served.connect()
        assert await second.receive(5) == b"421 4.3.2 Too many connections\r\n"
        first.write(b"still here")
        assert await first.receive(5) == b"still here"
        for stream in (first, second):
            stream.abort()
        group.cancel_scope.cancel()


async def test_one_client_too_many_is_told_so_and_sent_away() -> None:
    served = Served(max_connections=1)
    async with anyio.create_task_group() as group:
        group.start_soon(served.listener.serve)
        first = await served.connect()
        first.write(b"x")
        await first.receive(5)
        second = await served.connect()
        assert await second.receive(5) == b"421 4.3.2 Too many connections\r\n"
        assert await second.receive(5) == b""
        await first.aclose()
        while served.listener.connections:
            await anyio.sleep(0)
        third = await served.connect()
        third.write(b"there is room again")
        assert await third.receive(5) == b"there is room again"
        for stream in (second, third):
            stream.abort()
        group.cancel_scope.cancel()


async def test_a_fault_in_a_handler_is_reported_and_ends_one_connection() -> None:
    async def handler(stream: Stream) -> None:
        if await stream.receive(5) == b"crash":
            raise ValueError("oh")
        stream.write(b"fine")

    served = Served(handler)
    async with anyio.create_task_group() as group:
        group.start_soon(served.listener.serve)
        first, second = await served.connect(), await served.connect()
        first.write(b"crash")
        assert await first.receive(5) == b""
        second.write(b"go")
        assert await second.receive(5) == b"fine"
        for stream in (first, second):
            stream.abort()
        group.cancel_scope.cancel()
    assert served.reports == [("a connection ended by a fault of ours", "oh")]


async def test_a_lost_connection_is_no_fault() -> None:
    served = Served()
    async with anyio.create_task_group() as group:
        group.start_soon(served.listener.serve)
        client = await served.connect()
        client.write(b"x")
        await client.receive(5)
        sock = client._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.abort()
        while served.listener.connections:
            await anyio.sleep(0)
        group.cancel_scope.cancel()
    assert served.reports == []


async def test_a_cancelled_listener_closes_its_connections() -> None:
    served = Served()
    async with anyio.create_task_group() as group:
        group.start_soon(served.listener.serve)
        client = await served.connect()
        client.write(b"x")
        await client.receive(5)
        group.cancel_scope.cancel()
    assert await client.receive(5) == b""
    client.abort()


async def test_a_closed_listener_lets_its_last_connections_finish() -> None:
    served = Served()
    async with anyio.create_task_group() as group:
        group.start_soon(served.listener.serve)
        client = await served.connect()
        client.write(b"x")
        await client.receive(5)
        served.listener.close()
        client.write(b"still here")
        assert await client.receive(5) == b"still here"
        await client.aclose()
    with pytest.raises(OSError, match=os.strerror(errno.ECONNREFUSED)):
        socket.create_connection(("127.0.0.1", served.address.port))


async def test_when_files_run_out_it_waits_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(listen, "_PAUSE_SECONDS", 0)
    loop = asyncio.get_running_loop()
    accept = loop.sock_accept
    troubles = [OSError(errno.EMFILE, "Too many open files")] * 3 + [OSError(errno.ECONNABORTED, "gone")]

    async def troubled_accept(sock: socket.socket) -> tuple[socket.socket, object]:
        if troubles:
            raise troubles.pop(0)
        return await accept(sock)

    monkeypatch.setattr(loop, "sock_accept", troubled_accept)
    served = Served()
    async with anyio.create_task_group() as group:
        group.start_soon(served.listener.serve)
        client = await served.connect()
        client.write(b"x")
        assert await client.receive(5) == b"x"
        client.abort()
        group.cancel_scope.cancel()
    assert served.reports == [("no more connections can be accepted", "too many open files")]  # said once


def test_an_address_in_use_is_a_failure_in_words() -> None:
    (sock,) = bind_tcp(LOOPBACK)
    with sock, pytest.raises(ListenFailure, match=r"cannot listen on 127\.0\.0\.1:\d+: another program listens"):
        bind_tcp(HostPort("127.0.0.1", sock.getsockname()[1]))


def test_a_name_that_is_unknown_is_a_failure_in_words() -> None:
    with pytest.raises(ListenFailure, match="cannot be resolved"):
        bind_tcp(HostPort("a" * 64 + ".invalid", 25))


async def test_a_unix_socket_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "submit.sock"
    old = os.umask(0o077)
    try:
        sock = bind_unix(path, 0o666)
    finally:
        os.umask(old)
    with sock:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        stream = await connect_unix(path, timeout_seconds=5)
        stream.abort()


def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "submit.sock"
    bind_unix(path, 0o600).close()
    bind_unix(path, 0o600).close()


def test_a_socket_where_somebody_listens_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "submit.sock"
    with bind_unix(path, 0o600), pytest.raises(ListenFailure, match="is masqmail running already"):
        bind_unix(path, 0o600)
    assert path.exists()


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "submit.sock"
    path.write_text("precious")
    with pytest.raises(ListenFailure, match="not a socket"):
        bind_unix(path, 0o600)
    assert path.read_text() == "precious"


def test_a_missing_folder_is_a_failure_in_words(tmp_path: Path) -> None:
    with pytest.raises(ListenFailure, match="no such file or directory"):
        bind_unix(tmp_path / "nowhere" / "submit.sock", 0o600)


def test_a_path_too_long_for_a_socket_is_a_failure_in_words(tmp_path: Path) -> None:
    with pytest.raises(ListenFailure, match="too long"):
        bind_unix(tmp_path / ("x" * 200), 0o600)
