"""A long line on loopback: everything goes through, in both directions, but later. Nothing else is slow about it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from masqmail.settings import HostPort


@asynccontextmanager
async def delay_line(target: HostPort, round_trip_seconds: float) -> AsyncIterator[HostPort]:
    """Where to connect to reach the target over a line with this round trip time. Connecting itself takes no time."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(target.host, target.port)
        writers.extend((writer, far_writer))
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.ensure_future(_carry(source, sink, round_trip_seconds / 2))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield HostPort("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay: float) -> None:
    """Whatever comes leaves again after the delay; so does the end."""
    loop = asyncio.get_running_loop()
    try:
        while data := await source.read(65536):
            loop.call_later(delay, sink.write, data)
    except ConnectionError:
        pass
    loop.call_later(delay, sink.close)
