"""A connection to somebody: bytes in, bytes out, plain or over TLS, with a deadline on every wait.

`connect` and `connect_unix` make one to a listener elsewhere; `masqmail.net.listen` makes one for each client.
"""

import asyncio
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

from masqmail.frozen import frozen
from masqmail.net import dial
from masqmail.net.errors import ConnectionLost, NetError, StreamTimeout, TlsFailure
from masqmail.net.tls import TlsInfo
from masqmail.net.tlsengine import NOT_TLS, TlsEngine
from masqmail.settings import HostPort

#: Reading pauses while this much waits for `receive`; a single read of the loop may come on top of it.
READ_HIGH_BYTES = 256 * 1024
#: What one read of the loop takes at most. For more than 128 KB malloc(3) asks the kernel each time.
READ_BYTES = 64 * 1024
WRITE_HIGH_BYTES = 256 * 1024
WRITE_LOW_BYTES = 64 * 1024
#: How long `aclose` waits until the last bytes are gone.
CLOSE_SECONDS = 5.0

_KEEPALIVE = ((socket.TCP_KEEPIDLE, 120), (socket.TCP_KEEPINTVL, 30), (socket.TCP_KEEPCNT, 4))


@frozen
class PeerCredentials:
    """Who is at the other end of a Unix socket, as the kernel says (unix(7), SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


class Gate:
    """Where one task waits until something has happened, and no longer than it wants to."""

    __slots__ = ("_waiter", "is_awaited")

    def __init__(self) -> None:
        self.is_awaited = False
        self._waiter: asyncio.Future[bool] | None = None

    async def wait(self, timeout_seconds: float) -> bool:
        """True when the gate was opened, False when the time was over."""
        if self._waiter is not None:
            raise RuntimeError("only one task can wait here")
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        self.is_awaited = True
        timer = loop.call_later(timeout_seconds, self._settle, False)
        try:
            return await self._waiter
        finally:
            timer.cancel()
            self._waiter = None
            self.is_awaited = False

    def open(self) -> None:
        """Lets the waiting task go on; nothing happens when there is none."""
        self._settle(True)

    def _settle(self, result: bool) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(result)


class _Landing(threading.local):
    """Where bytes land before they are copied at their real size: one place for all streams of a loop.

    Asyncio's own reading makes a new object of 256 KB for every few bytes that come.
    """

    def __init__(self) -> None:
        self.place = memoryview(bytearray(READ_BYTES))


_landing = _Landing()


class Stream(asyncio.BufferedProtocol):
    """One connection. One task may read while another writes.

    What arrived before a failure can still be received; the failure is raised behind it. Who has no task to wait
    in `receive` gives a function to `watch` and uses `take`.
    """

    def __init__(self) -> None:
        self.peer: HostPort | None = None
        self.local: HostPort | None = None
        self.credentials: PeerCredentials | None = None
        #: The other side closed TLS without saying so (no close_notify): what came last may be cut off.
        self.is_truncated = False
        self._transport: asyncio.Transport  # these two from connection_made on, before anybody has the stream
        self._landing: memoryview
        self._engine: TlsEngine | None = None
        self._inbox: list[bytes] = []
        self._inbox_bytes = 0
        self._at_end = False
        self._failure: NetError | None = None
        #: There may be something to `take`.
        self.is_readable = False
        #: So much waits to be sent that `drain` would wait, or raise.
        self.is_full = False
        self._is_gone = False
        self._watcher: Callable[[], None] | None = None
        self._readable = Gate()
        self._writable = Gate()
        self._gone = Gate()

    @property
    def tls(self) -> TlsInfo | None:
        """What TLS protects the connection, if any does."""
        return self._engine.info if self._engine else None

    @property
    def tls_session(self) -> ssl.SSLSession | None:
        """The session to resume later; take it when the connection ends (see `SessionCache`)."""
        return self._engine.session if self._engine else None

    @property
    def sock(self) -> socket.socket | None:
        """To be asked for what the kernel knows of the connection, and for nothing else."""
        return cast("socket.socket | None", self._transport.get_extra_info("socket"))

    async def receive(self, timeout_seconds: float) -> bytes:
        """Whatever has arrived, at least one byte; `b""` at the end.

        Raises `StreamTimeout` when nothing comes, `ConnectionLost` or `TlsFailure` when nothing more can.
        """
        if not self._inbox and not self._at_end and not self._failure:
            await self._wait_readable(timeout_seconds)
        return self.take() or b""

    def take(self) -> bytes | None:
        """What `receive` would return or raise now; None when it would wait."""
        inbox = self._inbox
        self.is_readable = self._at_end or self._failure is not None
        if inbox:
            data = inbox.pop()
            if inbox:
                data = b"".join((*inbox, data))
                inbox.clear()
            if self._inbox_bytes >= READ_HIGH_BYTES:
                self._transport.resume_reading()
            self._inbox_bytes = 0
            return data
        if self._failure:
            raise self._failure
        return b"" if self._at_end else None

    def unread(self, data: bytes) -> None:
        """Puts back what was taken too much: it comes again, before everything else."""
        if data:
            self._inbox.insert(0, data)
            self._inbox_bytes += len(data)
            self.is_readable = True

    def watch(self, watcher: Callable[[], None] | None) -> None:
        """Has a function called, from now on, whenever there may be something new to `take`."""
        self._watcher = watcher

    def write(self, data: bytes) -> None:
        """Sends, in one piece where the network allows; what cannot leave yet is buffered.

        Never blocks and never raises: a broken connection shows in `drain` and `receive`.
        """
        if self._failure or self._is_gone:
            return
        if self._engine is None:
            self._transport.write(data)
            return
        try:
            self._engine.send(data)
        except TlsFailure as failure:
            self._fail(failure)
        self._flush()

    def hold_back(self, is_on: bool) -> None:
        """Whether an unfilled last packet waits for what follows, but for no longer than 0.2 s: TCP_CORK, tcp(7)."""
        sock = self._transport.get_extra_info("socket")
        if self.peer is not None and sock is not None and not self._is_gone:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, is_on)

    def hurry_ack(self) -> None:
        """Acknowledges what came so far at once, where that was put off: TCP_QUICKACK, tcp(7)."""
        sock = self._transport.get_extra_info("socket")
        if self.peer is not None and sock is not None and not self._is_gone:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, True)

    async def drain(self, timeout_seconds: float) -> None:
        """Waits until the buffer has room again, as long as it takes while some of it leaves in time.

        Raises `StreamTimeout`, `ConnectionLost` or `TlsFailure`.
        """
        while self.is_full and not self._failure:
            unsent = self._transport.get_write_buffer_size()
            has_room = await self._writable.wait(timeout_seconds)
            if not has_room and self._transport.get_write_buffer_size() >= unsent:
                raise StreamTimeout(f"the other side took nothing for {timeout_seconds:g} s")
        if self._failure:
            raise self._failure

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_name: str = "",
        session: ssl.SSLSession | None = None,
        is_first: bool = False,
        timeout_seconds: float,
    ) -> None:
        """Protects the connection from here on. Raises `TlsFailure`; the connection is of no use then.

        A server drops plain text that is already here: nothing sent before the handshake may count after it
        (RFC 3207 §4.2). A client refuses to go on, as a server has nothing to say at this point: where TLS is the
        `is_first` thing on the connection, it greets in plain text.
        """
        if self._inbox:
            self.take()
            if is_first:
                raise TlsFailure(NOT_TLS)
            if not server_side:
                raise TlsFailure("the server sent something before TLS could start, which looks like an attack")
        engine = TlsEngine(context, server_side=server_side, server_name=server_name, session=session)
        self._engine = engine
        engine.start()
        self._flush()
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while not engine.is_established:
            if self._failure:
                raise TlsFailure(self._failure.reason) from self._failure
            if self._at_end:
                raise TlsFailure("the other side closed the connection instead of starting TLS")
            await self._wait_readable(max(0.0, deadline - asyncio.get_running_loop().time()))

    async def aclose(self) -> None:
        """Says goodbye and closes when everything written is gone, at the latest after `CLOSE_SECONDS`."""
        if self._engine is not None and not self._failure:
            self._engine.close()
            self._flush()
        self._transport.close()
        self._failure = self._failure or ConnectionLost("the connection was closed on our side")
        try:
            if not self._is_gone:
                await self._gone.wait(CLOSE_SECONDS)
        finally:
            self.abort()

    def abort(self) -> None:
        """Closes at once; what was not sent yet is lost."""
        self._failure = self._failure or ConnectionLost("the connection was closed on our side")
        if not self._is_gone:
            self._transport.abort()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._landing = _landing.place
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=WRITE_LOW_BYTES)
        sock = transport.get_extra_info("socket")
        if sock is None:
            return
        if sock.family == socket.AF_UNIX:
            self.credentials = _peer_credentials(sock)
        else:
            self.peer = _host_port(transport.get_extra_info("peername"))
            self.local = _host_port(transport.get_extra_info("sockname"))
            _tune(sock)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._landing

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._landing[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Bytes from the line."""
        has_news = False
        if self._engine is not None:
            data, has_news = self._decrypt(self._engine, data)
        if data:
            self._inbox.append(data)
            self._inbox_bytes += len(data)
            if self._inbox_bytes >= READ_HIGH_BYTES:
                self._transport.pause_reading()
        if self._engine is not None and self._engine.failure is not None:
            self._fail(self._engine.failure)  # it counts behind the text
        elif data or has_news:
            self._tell_reader()

    def eof_received(self) -> bool:
        self._at_end = True
        if self._engine is not None and not self._engine.is_ended:
            self.is_truncated = True
        self._tell_reader()
        return True  # we may still have something to say

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_gone = True
        if exc is not None and not self._failure:
            self._read_last_words()
            reason = dial.explain(exc) if isinstance(exc, OSError) else str(exc)
            self._failure = ConnectionLost(f"the connection broke: {reason}")
        self._at_end = True
        self._open_gates()
        self._gone.open()

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self._writable.open()

    # Ourselves

    async def _wait_readable(self, timeout_seconds: float) -> None:
        if not await self._readable.wait(timeout_seconds):
            raise StreamTimeout(f"the other side was silent for {timeout_seconds:g} s")

    def _decrypt(self, engine: TlsEngine, data: bytes) -> tuple[bytes, bool]:
        """The plain text, and whether something else has happened that the reader waits for.

        The reader is told when it can take the text: the last replies may come together with the goodbye.
        """
        was_established = engine.is_established
        plain = b""
        try:
            plain = engine.receive(data)
        except TlsFailure as failure:
            self._fail(failure)
        self._flush()
        self._at_end = self._at_end or engine.is_ended
        return plain, self._at_end or engine.is_established != was_established

    def _flush(self) -> None:
        """Sends what TLS wants to send."""
        if self._engine is not None and (output := self._engine.take_output()):
            self._transport.write(output)

    def _fail(self, failure: NetError) -> None:
        """Makes the connection unusable, but for an alert that is still to go out."""
        self._failure = self._failure or failure
        self._flush()
        self._transport.close()
        self._open_gates()

    def _open_gates(self) -> None:
        self._writable.open()
        self._tell_reader()

    def _tell_reader(self) -> None:
        self.is_readable = True
        if self._readable.is_awaited:
            self._readable.open()
        if self._watcher is not None:
            self._watcher()

    def _read_last_words(self) -> None:
        """Reads what had arrived when a write failed: often the reply that says why (421, 552)."""
        sock = self._transport.get_extra_info("socket")
        try:
            while sock is not None and (data := os.read(sock.fileno(), READ_HIGH_BYTES)):
                self.data_received(data)
        except OSError:
            pass  # nothing more was there


async def connect(address: HostPort, *, timeout_seconds: float, local_address: str = "") -> Stream:
    """Connects to a host by name or address. Raises `NameFailure` or `ConnectFailure`."""
    return await attach(await dial.open_socket(address, timeout_seconds=timeout_seconds, local_address=local_address))


async def connect_unix(path: Path, *, timeout_seconds: float) -> Stream:
    """Connects to a Unix socket. Raises `ConnectFailure`."""
    return await attach(await dial.open_unix_socket(path, timeout_seconds=timeout_seconds))


async def attach(sock: socket.socket) -> Stream:
    """Makes a stream of a connected socket, which belongs to the stream from then on.

    Raises `ConnectionLost` when the other side is gone already, so that we cannot know who it was.
    """
    try:
        _, stream = await asyncio.get_running_loop().connect_accepted_socket(Stream, sock)
    except BaseException:
        sock.close()
        raise
    if stream.peer is None and stream.credentials is None:
        stream.abort()
        raise ConnectionLost("the other side hung up at once")
    return stream


def _host_port(name: tuple[str, int] | tuple[str, int, int, int] | None) -> HostPort | None:
    return HostPort(name[0].partition("%")[0], name[1]) if name else None


def _peer_credentials(sock: socket.socket) -> PeerCredentials:
    layout = struct.Struct("3i")
    return PeerCredentials(*layout.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)))


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
