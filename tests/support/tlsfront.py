"""TLS around the connections of a server that cannot do it itself."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from anyio.from_thread import start_blocking_portal

from support.authority import Certificate
from support.ports import free_port

READ_BYTES = 65_536


@contextmanager
def tls_front(port: int, certificate: Certificate) -> Iterator[int]:
    """A port that speaks TLS from the first byte and hands everything on to `port`, as it comes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.private_key)
    front = free_port()
    start = partial(asyncio.start_server, partial(_hand_on, port), "127.0.0.1", front, ssl=context)
    with start_blocking_portal() as portal:
        server = portal.call(start)
        try:
            yield front
        finally:
            portal.call(server.close)


async def _hand_on(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(_copy(reader, behind_writer), _copy(behind_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # the other side sees the end all the same
    finally:
        writer.close()
