"""A server that plays one side of a written session, and checks what the other side says.

P: 220 EXAMPLE.NET ready        the server says this line; several in a row go out together
C: EHLO example.org             the client must say this; "..." is the rest of the line
C* 250                          a whole reply of several lines that begins with 250
X:                              the server hangs up
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from masqmail.settings import HostPort

PATIENCE_SECONDS = 20


@dataclass
class Player:
    """What became of it: the first line that was not as written, if any, and whether the end was reached."""

    address: HostPort
    heard: list[str] = field(default_factory=list)
    difference: str = ""
    is_through: bool = False

    def check(self) -> None:
        assert not self.difference, self.difference + "\n" + "\n".join(self.heard)
        assert self.is_through, "it broke off\n" + "\n".join(self.heard)


@asynccontextmanager
async def playing(text: str) -> AsyncIterator[Player]:
    """Plays it for the first client that connects; who leaves the block must have played it to the end."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    player = Player(HostPort("127.0.0.1", 0))
    done = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _play(player, lines, reader, writer)
        except (TimeoutError, ConnectionError) as error:
            player.difference = player.difference or repr(error)
        finally:
            writer.close()
            done.set()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    player.address = HostPort("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        yield player
        async with asyncio.timeout(PATIENCE_SECONDS):
            await done.wait()
    finally:
        server.close()
    player.check()


async def _play(player: Player, lines: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    output = b""
    for line in lines:
        mark, said = line[:2], line[2:].lstrip(" ")
        if mark == "P:":
            output += said.encode() + b"\r\n"
            continue
        writer.write(output)
        output = b""
        if mark == "X:":
            break
        heard = await _hear(reader, player)
        while mark == "C*" and heard[3:4] == "-":
            heard = await _hear(reader, player)
        fits = heard.startswith(said.removesuffix("...")) if said.endswith("...") or mark == "C*" else heard == said
        if not fits:
            player.difference = f"expected {said!r}, heard {heard!r}"
            return
    writer.write(output)
    await writer.drain()
    player.is_through = True


async def _hear(reader: asyncio.StreamReader, player: Player) -> str:
    async with asyncio.timeout(PATIENCE_SECONDS):
        line = (await reader.readline()).decode()
    player.heard.append(line.rstrip("\r\n"))
    return line.removesuffix("\r\n") if line else "(the end)"
