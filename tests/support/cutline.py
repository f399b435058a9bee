"""A line between a client and a server on loopback: it delays, and it breaks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from masqmail.settings import HostPort

READ_BYTES = 65_536


@dataclass
class CutLine:
    """`cuts` are after how many octets from the server the first, second, ... connection breaks; then none does."""

    address: HostPort
    delay_seconds: float = 0.0  # in each direction
    cuts: list[int] = field(default_factory=list)
    connections: int = 0
    from_server_bytes: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def cut(self) -> None:
        """Breaks all connections now."""
        for writer in self.writers:
            writer.transport.abort()


@asynccontextmanager
async def cut_line(port: int, *, delay_seconds: float = 0.0, cuts: list[int] | None = None) -> AsyncIterator[CutLine]:
    """A line to a port on loopback, until the block ends."""
    line = CutLine(HostPort("", 0), delay_seconds, list(cuts or ()))

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line.connections += 1
        limit = line.cuts.pop(0) if line.cuts else None
        await asyncio.sleep(2 * line.delay_seconds)  # the handshake of TCP
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        line.writers += (writer, behind_writer)
        received = 0

        def count(octets: int) -> bool:
            nonlocal received
            received += octets
            line.from_server_bytes += octets
            return limit is not None and received >= limit

        await asyncio.gather(
            _carry(reader, behind_writer, line.delay_seconds, lambda octets: False),
            _carry(behind_reader, writer, line.delay_seconds, count),
        )

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    line.address = HostPort("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        yield line
    finally:
        server.close()
        line.cut()


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float, is_over: Callable[[int], bool]
) -> None:
    """Hands bytes on after the delay, in their order; ends with the connection, or breaks it."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=1000)

    async def hand_on() -> None:
        while True:
            due, data = await queue.get()
            if (left := due - loop.time()) > 0:
                await asyncio.sleep(left)
            if not data:
                break
            writer.write(data)
            await writer.drain()
            if is_over(len(data)):
                writer.transport.abort()
                return
        writer.close()

    task = asyncio.create_task(hand_on())
    try:
        while data := await reader.read(READ_BYTES):
            if task.done():
                return
            await queue.put((loop.time() + delay, data))
        await queue.put((loop.time() + delay, b""))
        await task
    except OSError:
        pass  # both sides see the end all the same
    finally:
        task.cancel()
        writer.close()
