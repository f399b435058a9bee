"""A slow line in virtual time: seconds go by at once when nobody has anything to do.

Everything that is sent over a `Line` shares its rate and waits its delay, as on a modem or a satellite; the servers
at its far end may take their time over each message. There is no TCP: no slow start, no loss.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio

from masqmail.net.stream import Stream
from masqmail.net.tcpinfo import TcpInfo
from support.scripted_server import ALL_KEYWORDS, ScriptedServer

SEGMENT_BYTES = 1448


class _Selector(selectors.DefaultSelector):
    """Instead of waiting it lets the loop's time go on."""

    loop: "VirtualTimeLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found:
            if timeout is None:
                raise AssertionError("nothing will ever happen any more")
            self.loop.now += timeout
        return found


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in which nothing takes time but what waits for it. Threads have no place in it."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run_in_virtual_time(work: Callable[[], Awaitable[Any]]) -> Any:
    return anyio.run(work, backend_options={"loop_factory": VirtualTimeLoop})


class _Pipe:
    """One direction of a line: bytes leave in turn, at its rate, and arrive after its delay."""

    def __init__(self, bytes_per_second: float, delay: float) -> None:
        self._rate = bytes_per_second
        self._delay = delay
        self._free_at = 0.0
        self.carried_bytes = 0

    def send(self, data: bytes, arrive: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        for start in range(0, len(data), SEGMENT_BYTES):
            piece = data[start : start + SEGMENT_BYTES]
            self._free_at = max(self._free_at, loop.time()) + len(piece) / self._rate
            self.carried_bytes += len(piece)
            loop.call_at(self._free_at + self._delay, arrive, piece)


class _LineTransport(asyncio.Transport):
    """The client's end of a connection over the line. It has the figures that a socket would have, too."""

    def __init__(self, line: "Line", stream: Stream, serve: "_Service") -> None:
        super().__init__()
        self._line, self._stream, self._serve = line, stream, serve
        self._acked_bytes = self._received_bytes = 0
        self._is_closed = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._line.up.send(bytes(data), self._arrive)

    def _arrive(self, piece: bytes) -> None:
        asyncio.get_running_loop().call_later(self._line.delay, self._ack, len(piece))
        self._serve.receive(piece)

    def _ack(self, count: int) -> None:
        self._acked_bytes += count

    def reply(self, data: bytes) -> None:
        self._line.down.send(data, self._hear)

    def _hear(self, piece: bytes) -> None:
        if not self._is_closed:
            self._received_bytes += len(piece)
            self._stream.data_received(piece)

    def info(self) -> TcpInfo:
        return TcpInfo(self._acked_bytes, self._received_bytes, 2 * self._line.delay)

    def is_closing(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._line.open -= 1
            asyncio.get_running_loop().call_soon(self._stream.connection_lost, None)

    abort = close


class _Service:
    """A server that works on one message after the other, each for so many seconds."""

    def __init__(self, line: "Line", server: ScriptedServer) -> None:
        self.line, self.server = line, server
        self.transport: _LineTransport
        self._is_busy = False

    def receive(self, data: bytes) -> None:
        self.server._inbox += data
        self._go_on()

    def _go_on(self) -> None:
        output = b""
        while not self._is_busy:
            taken = len(self.server.taken)
            if self.server.is_closed or not self.server._step():
                break
            reply = self.server._take_output()
            if len(self.server.taken) > taken and self.line.message_seconds:
                self._is_busy = True
                asyncio.get_running_loop().call_later(self.line.message_seconds, self._finish, reply)
            else:
                output += reply
            if len(self.server.taken) > taken:
                self.line.last_taken_at = asyncio.get_running_loop().time() + self.line.message_seconds
        if output:
            self.transport.reply(output)

    def _finish(self, reply: bytes) -> None:
        self._is_busy = False
        self.transport.reply(reply)
        self._go_on()


@dataclass
class Line:
    """A line with servers at its end. `connect` stands for `delivery.connect.open_stream`."""

    round_trip_seconds: float
    bytes_per_second: float
    message_seconds: float = 0.0  # how long a server works on each message
    keywords: tuple[str, ...] = (*ALL_KEYWORDS, "AUTH LOGIN")
    extra_trips: int = 1  # in the set-up, for those of TLS
    servers: list[ScriptedServer] = field(default_factory=list)
    connected_at: list[float] = field(default_factory=list)
    last_taken_at: float = 0.0
    open: int = 0
    most_open: int = 0
    connection_limit: int = 1000  # connections above it are turned away

    def __post_init__(self) -> None:
        self.delay = self.round_trip_seconds / 2
        self.up = _Pipe(self.bytes_per_second, self.delay)
        self.down = _Pipe(self.bytes_per_second, self.delay)

    async def connect(
        self, address: object, options: object, memory: object, dialling: Callable[[], None]
    ) -> tuple[Stream, _LineTransport]:
        dialling()
        self.connected_at.append(asyncio.get_running_loop().time())
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        greeting = "220 mx.test ESMTP" if self.open <= self.connection_limit else "421 4.7.0 Too many connections"
        await asyncio.sleep(self.round_trip_seconds * (1 + self.extra_trips))
        service = _Service(self, ScriptedServer(self.keywords, greeting=greeting))
        self.servers.append(service.server)
        stream = Stream()
        transport = service.transport = _LineTransport(self, stream, service)
        stream.connection_made(transport)
        asyncio.get_running_loop().call_later(self.delay, lambda: transport.reply(service.server.connect()))
        return stream, transport

    @property
    def used(self) -> list[ScriptedServer]:
        """Those that got messages."""
        return [server for server in self.servers if server.taken]

    @property
    def taken(self) -> list[str]:
        return [taken.sender for server in self.servers for taken in server.taken]
