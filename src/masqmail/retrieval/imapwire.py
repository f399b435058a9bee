"""A stream as code that may block wants it: for the IMAP library, which runs in a worker thread of anyio.

The thread waits for nothing but the event loop, where each wait has its deadline. When the task that uses the thread
is cancelled, so is the wait, and the thread comes back at once.
"""

import concurrent.futures
import math
import time
import zlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeAlias, TypeVar

import anyio
from anyio import from_thread

from masqmail.mail.status import Status
from masqmail.net.errors import ConnectionLost, StreamTimeout, TlsFailure
from masqmail.net.stream import Stream
from masqmail.proto.errors import PeerError
from masqmail.proto.sasl import Credentials
from masqmail.system import events

MAX_LINE_BYTES = 4 << 20  # a SEARCH reply of a server without ESEARCH names 50,000 messages in one line
MAX_LITERAL_BYTES = 4 << 20  # we never ask for more at a time
_INFLATE_BYTES = 256 * 1024

#: What a server may take for each octet of what we asked for, in seconds: the slowest line we think of.
SECONDS_PER_BYTE = 1 / 100

_Found = TypeVar("_Found")

#: Does the TLS handshake, in the event loop.
Protect: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Wire:
    """One connection's bytes, for one thread at a time, or in between for a task of the event loop (`hear`).

    Raises `NetError` for what happens to the connection and `PeerError` for a server that says more than is sane.
    """

    def __init__(self, stream: Stream, server: str, credentials: Credentials) -> None:
        self.stream = stream
        self.credentials = credentials
        self.is_secret = False  # what we send is shown to nobody
        self._server = server
        self._buffer = bytearray()
        self._limit = 0.0
        self._deadline = 0.0
        self._allowance = 0
        self._inflater: zlib._Decompress | None = None
        self._deflater: zlib._Compress | None = None

    def arm(self, seconds: float, allowance: int) -> None:
        """From now on the server has so many seconds for its answer, which may be so many octets long.

        A literal in it gives it more time, but none to be silent.
        """
        self._limit = seconds
        self._deadline = time.monotonic() + seconds
        self._allowance = allowance

    # in a worker thread

    def read(self, size: int) -> bytes:
        """Exactly so many octets."""
        if size > MAX_LITERAL_BYTES:
            raise _nonsense(f"sends {size} octets that nobody asked for")
        self._deadline += size * SECONDS_PER_BYTE
        while len(self._buffer) < size:
            self._wait()
        return self._take(size)

    def readline(self) -> bytes:
        """A line with its CRLF."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            if (searched := len(self._buffer)) > MAX_LINE_BYTES:
                raise _nonsense("sends a line without an end")
            self._wait()
        line = self._take(end + 1)
        self._trace("S:", line)
        return line

    def send(self, data: bytes) -> None:
        """Sends. What it cannot send yet is kept, and there is never much of it."""
        self._trace("C:", b"(log-in)" if self.is_secret else data)
        if self._deflater is not None:
            data = self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        from_thread.run_sync(self.stream.write, data)

    def start_tls(self, protect: Protect) -> None:
        """Raises `TlsFailure`, also when the server has said anything after its consent: RFC 3207 §4.2 tells why."""
        if self._buffer:
            raise TlsFailure("the server sent something before TLS could start, which looks like an attack")
        from_thread.run(_unless_cancelled, protect)

    def start_compression(self) -> None:
        """From here on both sides speak DEFLATE, RFC 4978."""
        self._inflater = zlib.decompressobj(-15)
        self._deflater = zlib.compressobj(wbits=-15)
        early = bytes(self._buffer)
        self._buffer.clear()
        self._feed(early)

    # in the event loop

    async def hear(self, seconds: float) -> bytes | None:
        """The next line without its end, or None when there was none in that time."""
        deadline = time.monotonic() + seconds
        self._allowance = MAX_LINE_BYTES
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                raise _nonsense("sends a line without an end")
            try:
                self._feed(_something(await self.stream.receive(max(0.0, deadline - time.monotonic()))))
            except StreamTimeout:
                return None
        line = self._take(end + 1)
        self._trace("S:", line)
        return line.rstrip(b"\r\n")

    # ourselves

    def _wait(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise StreamTimeout(f"no whole answer within {self._limit:g} s")
        try:
            data = from_thread.run(_unless_cancelled, partial(self.stream.receive, min(left, self._limit)))
        except StreamTimeout as error:
            raise StreamTimeout(f"no answer within {min(left, self._limit):.3g} s") from error
        self._feed(_something(data))

    def _feed(self, data: bytes) -> None:
        if self._inflater is not None:
            data = self._inflate(self._inflater, data)
        self._buffer += data
        self._allowance -= len(data)
        if self._allowance < 0:
            raise _nonsense("says a lot more than it was asked for")

    def _inflate(self, inflater: "zlib._Decompress", data: bytes) -> bytes:
        """What a few octets of DEFLATE stand for may be a thousand times as long, so it is counted on the way."""
        parts = bytearray()
        try:
            part = inflater.decompress(data, _INFLATE_BYTES)
            while part:
                parts += part
                if len(parts) > self._allowance:
                    raise _nonsense("says a lot more than it was asked for")
                part = inflater.decompress(inflater.unconsumed_tail, _INFLATE_BYTES)
        except zlib.error as error:
            raise _nonsense(f"sends what cannot be decompressed: {error}") from error
        return bytes(parts)

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _trace(self, direction: str, data: bytes) -> None:
        if data.strip() and events.is_tracing():
            events.trace(direction, self.credentials.conceal_line(data), next_hop=self._server)


async def _unless_cancelled(wait: Callable[[], Coroutine[Any, Any, _Found]]) -> _Found:
    """Waits, but not where the task was cancelled before: anyio tells only those who wait at that moment."""
    if anyio.current_effective_deadline() == -math.inf:
        raise concurrent.futures.CancelledError
    return await wait()


def _something(data: bytes) -> bytes:
    if not data:
        raise ConnectionLost("closed the connection")
    return data


def _nonsense(text: str) -> PeerError:
    return PeerError(Status(554, "5.5.0", text))
