"""Waiting for others to connect: bound sockets, and one task for each connection."""

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from masqmail.net import stream
from masqmail.net.bind import open_listeners
from masqmail.net.dial import explain
from masqmail.net.errors import ListenFailure, NetError
from masqmail.net.stream import Stream
from masqmail.settings import HostPort

_BACKLOG = 512
_PAUSE_SECONDS = 0.5
_SILENT_SECONDS = 60.0  # after a report that we cannot accept
#: The client is gone already, accept(2); whatever else goes wrong is trouble of ours.
_CLIENT_GONE = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH}
)

Handler = Callable[[Stream], Awaitable[None]]
#: Told who is sent away, and how many are connected; says what to send before the connection is closed.
Refuse = Callable[[str, int], bytes]
#: Told what went wrong where nobody waits for it: a `ListenFailure` such as too many open files, or the exception
#: that left a handler.
Report = Callable[[str, Exception], None]


class Listener:
    """Accepts connections on bound sockets and runs `handler` for each, at most `max_connections` at once.

    The bound may be changed while it runs; who is connected stays.

    A handler's connection is closed when it returns. Its `NetError`s are the end of that connection, anything
    else it raises is reported; neither ends the listener.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        handler: Handler,
        *,
        max_connections: int,
        refuse: Refuse,
        report: Report,
    ) -> None:
        self._sockets = sockets
        self._handler = handler
        self.max_connections = max_connections
        self._refuse = refuse
        self._report = report
        self._accepting = anyio.CancelScope()
        self.addresses = [_name_of(sock) for sock in sockets]
        self.connections = 0

    async def serve(self) -> None:
        """Accepts until cancelled, or until `close` and the end of the last connection; closes the sockets."""
        async with anyio.create_task_group() as connections:
            with self._accepting:
                async with anyio.create_task_group() as acceptors:
                    for sock in self._sockets:
                        acceptors.start_soon(self._accept, sock, connections)

    def close(self) -> None:
        """Accepts no more; the connections there are go on."""
        self._accepting.cancel()

    async def _accept(self, sock: socket.socket, connections: TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        silent_until = float("-inf")
        try:
            while True:
                try:
                    client, _ = await loop.sock_accept(sock)
                except OSError as error:
                    if error.errno not in _CLIENT_GONE:  # most likely EMFILE: wait until others have gone
                        if loop.time() >= silent_until:
                            silent_until = loop.time() + _SILENT_SECONDS
                            self._report("no more connections can be accepted", ListenFailure(explain(error)))
                        await anyio.sleep(_PAUSE_SECONDS)
                else:
                    self._admit(client, connections)
                await checkpoint()  # a flood of clients must not stop everybody else
        finally:
            sock.close()

    def _admit(self, client: socket.socket, connections: TaskGroup) -> None:
        if self.connections >= self.max_connections:
            self._send_away(client)
            return
        self.connections += 1
        connections.start_soon(self._handle, client)

    def _send_away(self, client: socket.socket) -> None:
        """Refuses a client without waiting for it: the text fits into an empty send buffer."""
        with client:
            try:
                client.send(self._refuse(_client_of(client), self.connections))
            except OSError:
                pass  # gone already

    async def _handle(self, client: socket.socket) -> None:
        try:
            connection = await stream.attach(client)
            try:
                await self._handler(connection)
                await connection.aclose()
            finally:
                connection.abort()
        except NetError:
            pass
        except Exception as error:
            self._report("a connection ended by a fault of ours", error)
        finally:
            self.connections -= 1


def bind_tcp(address: HostPort) -> list[socket.socket]:
    """Listens at every address that a host name or address stands for, as `net.bind` says. Raises `ListenFailure`."""
    try:
        return open_listeners(address.host, address.port)
    except (socket.gaierror, ValueError) as error:
        raise ListenFailure(f"cannot listen on {address}: the name cannot be resolved") from error
    except OSError as error:
        raise ListenFailure(f"cannot listen on {address}: {_why_not(error)}") from error


def bind_unix(path: Path, mode: int) -> socket.socket:
    """Listens at a path, with these permission bits from the first moment. Its folder must exist.

    A socket that an earlier run left behind is replaced; one where somebody answers, and any other file, is
    left alone. Raises `ListenFailure`.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _remove_stale_socket(path)
        os.fchmod(sock.fileno(), mode)  # what bind creates takes the bits from here, less the umask
        sock.bind(str(path))
        os.chmod(path, mode)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenFailure(f"cannot listen on {path}: {_why_not(error)}") from error
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale_socket(path: Path) -> None:
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise ListenFailure(f"cannot listen on {path}: there is something that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # its backlog is full: somebody listens
    raise ListenFailure(f"cannot listen on {path}: another program listens there; is masqmail running already?")


def _why_not(error: OSError) -> str:
    match error:
        case OSError(errno=errno.EADDRINUSE):
            return "another program listens there"
        case OSError(errno=errno.EACCES):
            return "permission denied (ports below 1024 need root or CAP_NET_BIND_SERVICE)"
        case _:
            return explain(error)


def _client_of(sock: socket.socket) -> str:
    """Who has connected: an address, or for somebody on this host the path of our socket. Raises `OSError`."""
    return _text(sock.getsockname() if sock.family == socket.AF_UNIX else sock.getpeername())


def _name_of(sock: socket.socket) -> str:
    return _text(sock.getsockname())


def _text(name: Any) -> str:
    """An address of the socket module: a path, or a host with its port."""
    return name if isinstance(name, str) else str(HostPort(name[0], name[1]))
