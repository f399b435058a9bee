"""Connections that inetd has accepted for us: each comes as a descriptor over a Unix socket."""

import socket
import stat
import struct
from collections.abc import Collection
from os import close, fstat

import anyio

from masqmail.net.listen import Listener

#: The answer to a connection that was taken; whatever else is sent is for the client to read.
TAKEN = b"+"

#: Whoever hands a connection over sends it at once.
PATIENCE_SECONDS = 10.0

_CREDENTIALS = struct.Struct("3i")


class HandedOverListener(Listener):
    """Serves connections that it is handed as if it had accepted them itself.

    Only the users in `givers` may hand some over: with them goes the word that they come from where they seem to.
    A connection that is none of TCP, or has no other side any more, is closed.
    """

    givers: Collection[int] = ()

    async def _handle(self, client: socket.socket) -> None:
        connection = None
        try:
            with client:
                connection = await self._take(client)
        except OSError:  # whoever handed it over has gone: what he had went with him
            pass
        finally:
            if connection is None:
                self.connections -= 1
        if connection is not None:
            await super()._handle(connection)

    async def _take(self, client: socket.socket) -> socket.socket | None:
        """The connection that is handed over; None when there is none, or it may not be. Raises `OSError`."""
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(credentials)[1] not in self.givers:
            return None
        with anyio.move_on_after(PATIENCE_SECONDS):
            await anyio.wait_readable(client)
            _, descriptors, _, _ = socket.recv_fds(client, 1, 1, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
            connection = _connection(descriptors[0]) if descriptors else None
            if connection is not None:
                try:
                    client.send(TAKEN)
                except OSError:
                    connection.close()
                    raise
            return connection
        return None


def _connection(descriptor: int) -> socket.socket | None:
    """The descriptor as a TCP connection with another side; one that is none is closed."""
    if not stat.S_ISSOCK(fstat(descriptor).st_mode):
        close(descriptor)
        return None
    sock = socket.socket(fileno=descriptor)
    try:
        if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
            sock.getpeername()
            sock.setblocking(False)
            return sock
    except OSError:
        pass
    sock.close()
    return None
