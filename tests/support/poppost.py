"""A provider's POP3 server that runs in a thread of its own, for daemons that are other processes."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.popmailbox import PopMailbox
from support.scripted_server import ScriptedServer, listening


@dataclass
class PopPost:
    """A mailbox with a port."""

    mailbox: PopMailbox
    port: int

    def account(self, folder: Path, name: str = "isp", *settings: str, links: str = '"always"') -> str:
        """The text of an account that is this one; its password is a file in the folder."""
        secret = folder / f"{name}.secret"
        secret.write_text("sesame\n")
        secret.chmod(0o600)
        lines = (
            f"[fetch.{name}]",
            f"links = [{links}]",
            'protocol = "pop3"',
            f'server = "127.0.0.1:{self.port}"',
            'tls = "none"',
            'username = "ann"',
            f'password_file = "{secret}"',
            *settings,
        )
        return "\n".join(lines) + "\n\n"


#: What a slow line takes at a time.
PACKET_BYTES = 1400


@contextmanager
def running_pop(
    mailbox: PopMailbox, make: Callable[[], ScriptedServer] | None = None, *, bytes_per_second: int = 0
) -> Iterator[PopPost]:
    """The server, until the block ends. `make` gives another server for each connection.

    With `bytes_per_second` it is behind a slow line.
    """
    ports: list[int] = []
    is_ready, ends = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with listening(make or mailbox.serve) as listener:
            port = listener.address.port
            line = await _slow_line(port, bytes_per_second) if bytes_per_second else None
            ports.append(line.sockets[0].getsockname()[1] if line else port)
            is_ready.set()
            await ends.wait()
            if line:
                line.close()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            loop.close()
            is_ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert is_ready.wait(10) and ports
    try:
        yield PopPost(mailbox, ports[0])
    finally:
        loop.call_soon_threadsafe(ends.set)
        thread.join()


async def _slow_line(port: int, bytes_per_second: int) -> asyncio.Server:
    """Another port, from which it takes long to the first one."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause: float) -> None:
        try:
            while data := await reader.read(PACKET_BYTES):
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(pause)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        pause = PACKET_BYTES / bytes_per_second
        await asyncio.gather(copy(reader, back, 0.0), copy(there, writer, pause))

    return await asyncio.start_server(handle, "127.0.0.1", 0)
