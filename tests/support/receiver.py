"""A small SMTP receiver, written apart from the program's own code, that keeps a log of all it took.

It speaks PIPELINING, CHUNKING and DATA, in a thread of its own, so that it outlives the daemons of a test.
"""

import asyncio
import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from support.mail import identity

_SIZE = re.compile(rb"BDAT (\d+)( LAST)?", re.IGNORECASE)


@dataclass(frozen=True)
class Taken:
    """One message that got its 250."""

    identity: str
    recipients: tuple[str, ...]
    content: bytes
    connection: int


@dataclass
class Receiver:
    """A running receiver. `taken` is its log, written before each 250 is sent."""

    port: int = 0
    taken: list[Taken] = field(default_factory=list)
    connections: int = 0
    chunking: bool = True
    verdict_seconds: float = 0  # from taking a message to saying so

    def count(self) -> dict[tuple[str, str], int]:
        """How often each recipient got each message."""
        counted: dict[tuple[str, str], int] = {}
        for message in list(self.taken):
            for recipient in message.recipients:
                key = (message.identity, recipient)
                counted[key] = counted.get(key, 0) + 1
        return counted

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await _Session(self, reader, writer, self.connections).run()
        finally:
            writer.transport.abort()


class _Session:
    def __init__(
        self, receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self._receiver = receiver
        self._reader = reader
        self._writer = writer
        self._number = number
        self._recipients: list[str] = []
        self._content = b""

    async def run(self) -> None:
        self._say("220 receiver.test ESMTP")
        while line := await self._reader.readline():
            command = line.strip()
            verb = command[:4].upper()
            if verb == b"EHLO":
                chunking = "250-CHUNKING\r\n" if self._receiver.chunking else ""
                self._say(f"250-receiver.test\r\n250-PIPELINING\r\n{chunking}250-8BITMIME\r\n250 SIZE 100000000")
            elif verb == b"RCPT":
                self._recipients.append(command.decode().split("<")[1].split(">")[0])
                self._say("250 2.1.5 Ok")
            elif verb == b"BDAT":
                await self._chunk(command)
            elif verb == b"DATA":
                self._say("354 go on")
                await self._writer.drain()
                self._content = (await self._reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n.")
                await self._take()
            elif verb == b"QUIT":
                self._say("221 bye")
                await self._writer.drain()
                return
            else:
                if verb in (b"MAIL", b"RSET"):
                    self._recipients, self._content = [], b""
                self._say("250 2.0.0 Ok")
            if not self._reader._buffer:  # type: ignore[attr-defined]  # answer a whole group at once
                await self._writer.drain()

    async def _chunk(self, command: bytes) -> None:
        match = _SIZE.match(command)
        assert match, command
        self._content += await self._reader.readexactly(int(match[1]))
        if match[2]:
            await self._take()
        else:
            self._say("250 2.0.0 Ok")

    async def _take(self) -> None:
        receiver = self._receiver
        taken = Taken(identity(self._content), tuple(self._recipients), self._content, self._number)
        receiver.taken.append(taken)
        await asyncio.sleep(receiver.verdict_seconds)
        self._say("250 2.0.0 taken")
        self._recipients, self._content = [], b""

    def _say(self, line: str) -> None:
        self._writer.write(line.encode() + b"\r\n")


@contextlib.contextmanager
def running_receiver(*, chunking: bool = True) -> Iterator[Receiver]:
    """A receiver on a port of its own."""
    receiver = Receiver(chunking=chunking)
    ready, loops = threading.Event(), []

    async def serve() -> None:
        stop = asyncio.Event()
        server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, limit=1 << 26)
        receiver.port = server.sockets[0].getsockname()[1]
        loops.append((asyncio.get_running_loop(), stop))
        ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="receiver", daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield receiver
    finally:
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
