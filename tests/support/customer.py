"""A customer of on-demand mail relay: logs in, says ATRN, and takes what comes with a server that is not ours."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support.scripted_server import ScriptedServer

#: Whoever waits longer for a reply waits for ever.
PATIENCE_SECONDS = 20


class Customer:
    """One connection to a provider. Replies are whole, as text with LF line ends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def reply(self) -> str:
        """The next reply; empty when the provider has closed."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            async with asyncio.timeout(PATIENCE_SECONDS):
                line = (await self._reader.readline()).decode()
            if not line:
                break
            lines.append(line.rstrip("\r\n"))
        return "\n".join(lines)

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def say(self, line: str) -> str:
        """A command, and the reply to it."""
        self.send(line.encode() + b"\r\n")
        return await self.reply()

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        assert (await self.say("STARTTLS")).startswith("220")
        await self._writer.start_tls(context, server_hostname=name)

    async def log_in(self, user: str, password: str) -> str:
        """The EHLO reply behind a log-in."""
        await self.say("EHLO customer.test")
        secret = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        reply = await self.say(f"AUTH PLAIN {secret}")
        assert reply.startswith("235"), reply
        return await self.say("EHLO customer.test")

    async def serve(self, server: ScriptedServer, *, greeting: bool = True) -> None:
        """What follows a turn: takes mail until one side ends it."""
        if greeting:
            self.send(server.connect())
        else:
            server.connect()
        while not server.is_closed:
            async with asyncio.timeout(PATIENCE_SECONDS):
                data = await self._reader.read(65536)
            if not data:
                return
            self.send(server.receive(data))
        await self._writer.drain()
        if server.commands[-1:] != ["QUIT"]:
            self.cut()  # it was to hang up

    async def is_closed(self) -> bool:
        """Whether the provider hangs up, having said nothing more."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return not await self._reader.read()

    def cut(self) -> None:
        """Breaks the connection."""
        self._writer.transport.abort()


@asynccontextmanager
async def customer(port: int) -> AsyncIterator[Customer]:
    """A connection to a provider on loopback, with its greeting heard."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    found = Customer(reader, writer)
    try:
        assert (await found.reply()).startswith("220")
        yield found
    finally:
        writer.transport.abort()
