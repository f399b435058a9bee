"""A network for tests: streams over memory instead of sockets, and a resolver that answers from tables."""

import asyncio
import errno
from collections.abc import Mapping, Sequence

from masqmail.net.dns import MxAnswer, is_numeric
from masqmail.net.errors import NameNotFound, NoAddress
from masqmail.net.stream import READ_HIGH_BYTES, Stream
from masqmail.settings import HostPort


class MemoryTransport(asyncio.Transport):
    """One end of a line that exists in memory only, with the buffers and callbacks of a real one.

    Bytes arrive when the event loop runs next. What a peer that has paused does not take stays here and
    counts as unsent.
    """

    def __init__(self, protocol: Stream) -> None:
        super().__init__()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._unsent = bytearray()
        self._high = 64 * 1024
        self._low = 16 * 1024
        self._is_full = False
        self._is_paused = False
        self._is_closing = False
        self._is_lost = False
        self._sent_eof = False
        self.peer: MemoryTransport

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = self._high if high is None else high
        self._low = self._low if low is None else low

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or not data:
            return
        self._unsent += data
        if len(self._unsent) > self._high and not self._is_full:
            self._is_full = True
            self._protocol.pause_writing()
        self._loop.call_soon(self._deliver)

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        self._loop.call_soon(self.peer._deliver)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self._deliver)

    def abort(self) -> None:
        self.break_line(None)
        self.peer.break_line(ConnectionResetError(errno.ECONNRESET, "connection reset"))

    def break_line(self, exception: Exception | None) -> None:
        """Ends this side at once, as a reset or a lost network does."""
        if not self._is_lost:
            self._is_lost = self._is_closing = True
            self._unsent.clear()
            self._loop.call_soon(self._protocol.connection_lost, exception)

    def _deliver(self) -> None:
        if self._is_lost:
            return
        if self.peer._is_lost and self._unsent:  # nobody is there any more to take it
            self.break_line(ConnectionResetError(errno.ECONNRESET, "connection reset"))
            return
        while self._unsent and not self.peer._is_paused:
            piece = bytes(self._unsent[:READ_HIGH_BYTES])
            del self._unsent[: len(piece)]
            if not self.peer._is_closing:
                self.peer._protocol.data_received(piece)
        if self._is_full and len(self._unsent) <= self._low:
            self._is_full = False
            self._protocol.resume_writing()
        if self._is_closing and not self._unsent:
            self._end()

    def _end(self) -> None:
        self.break_line(None)
        if not self._sent_eof and not self.peer._is_closing:
            self._sent_eof = True
            self.peer._protocol.eof_received()


CLIENT = HostPort("192.0.2.1", 40000)
SERVER = HostPort("192.0.2.25", 25)


def stream_pair(client: HostPort = CLIENT, server: HostPort = SERVER) -> tuple[Stream, Stream]:
    """Both ends of a connection in memory: the client's stream and the server's."""
    near, far = Stream(), Stream()
    near_end, far_end = MemoryTransport(near), MemoryTransport(far)
    near_end.peer, far_end.peer = far_end, near_end
    near.connection_made(near_end)
    far.connection_made(far_end)
    near.local = far.peer = client
    near.peer = far.local = server
    return near, far


class FakeResolver:
    """A resolver with tables. A value that is an exception is raised; a name in no table does not exist.

    `addresses` are in the DNS, and so known to the system, too; `hosts` stands for /etc/hosts.
    """

    def __init__(
        self,
        mail_exchangers: Mapping[str, Sequence[tuple[int, str]] | Exception] | None = None,
        addresses: Mapping[str, Sequence[str] | Exception] | None = None,
        *,
        hosts: Mapping[str, Sequence[str]] | None = None,
        hijacked: bool = False,
    ) -> None:
        self._mail_exchangers = dict(mail_exchangers or {})
        self._addresses = dict(addresses or {})
        self._hosts = dict(hosts or {})
        self._hijacked = hijacked

    async def mail_exchangers(self, domain: str) -> MxAnswer:
        answer = self._mail_exchangers.get(domain.lower())
        if answer is None and domain.lower() not in self._addresses:
            raise NameNotFound(f"the domain {domain} does not exist")
        if isinstance(answer, Exception):
            raise answer
        return MxAnswer.of(domain, answer or ())

    async def address_records(self, host: str) -> list[str]:
        answer = self._addresses.get(host.lower())
        if isinstance(answer, Exception):
            raise answer
        if answer is None and host.lower() not in self._mail_exchangers:
            raise NameNotFound(f"the domain {host} does not exist")
        if not answer:
            raise NoAddress(f"the name {host} has no address record")
        return list(answer)

    async def addresses(self, host: str) -> list[str]:
        answer = self._hosts.get(host.lower()) or self._addresses.get(host.lower())
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            if is_numeric(host):
                return [host]
            raise NoAddress(f"the name {host} has no address")
        return list(answer)

    async def is_hijacked(self) -> bool:
        return self._hijacked
