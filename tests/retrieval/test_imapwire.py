import asyncio
import threading
import zlib
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
import pytest

from masqmail.net.errors import ConnectionLost, StreamTimeout
from masqmail.net.fake import stream_pair
from masqmail.net.stream import Stream
from masqmail.proto.errors import PeerError
from masqmail.proto.sasl import Credentials, Secret
from masqmail.retrieval import imapwire
from masqmail.retrieval.imapwire import MAX_LITERAL_BYTES, Wire

pytestmark = pytest.mark.anyio

Found = TypeVar("Found")


def wire(*, seconds: float = 5.0, allowance: int = 1 << 20) -> tuple[Wire, Stream]:
    """A wire, and the server's end of it."""
    ours, theirs = stream_pair()
    made = Wire(ours, "imap.test", Credentials("ann", Secret("sesame")))
    made.arm(seconds, allowance)
    return made, theirs


async def in_thread(work: Callable[[], Found]) -> Found:
    return await anyio.to_thread.run_sync(work)


async def test_lines_and_literals_come_as_they_are_asked_for() -> None:
    here, server = wire()
    for octet in b"* 1 FETCH {5}\r\n12\r\n3)\r\n":
        server.write(bytes([octet]))
    assert await in_thread(here.readline) == b"* 1 FETCH {5}\r\n"
    assert await in_thread(lambda: here.read(5)) == b"12\r\n3"
    assert await in_thread(here.readline) == b")\r\n"


async def test_the_end_of_the_connection_is_told() -> None:
    here, server = wire()
    server.write(b"* half a li")
    await server.aclose()
    with pytest.raises(ConnectionLost, match="closed the connection"):
        await in_thread(here.readline)


async def test_a_silent_server_is_given_up() -> None:
    here, server = wire(seconds=0.01)
    with pytest.raises(StreamTimeout, match=r"no (whole )?answer within"):  # whole: the thread itself came late
        await in_thread(here.readline)
    server.abort()


@pytest.mark.parametrize("what", ["readline", "start_tls"])
async def test_a_wait_that_begins_when_all_was_cancelled_ends_at_once(what: str) -> None:
    here, server = wire(seconds=50.0)
    may_go_on, has_begun = threading.Event(), anyio.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(has_begun.set)
        may_go_on.wait(20)
        if what == "readline":
            here.readline()
        else:
            here.start_tls(anyio.sleep_forever)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(in_thread, work)
            await has_begun.wait()
            loop.call_later(0.02, may_go_on.set)  # long after the cancellation was told to everybody who waits
            group.cancel_scope.cancel()
    server.abort()


async def test_a_literal_that_nobody_asked_for_is_refused_before_it_comes() -> None:
    here, server = wire()
    with pytest.raises(PeerError, match="octets that nobody asked for"):
        await in_thread(lambda: here.read(MAX_LITERAL_BYTES + 1))
    server.abort()


async def test_a_line_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imapwire, "MAX_LINE_BYTES", 1000)
    here, server = wire()
    server.write(b"x" * 2000)
    with pytest.raises(PeerError, match="a line without an end"):
        await in_thread(here.readline)


async def test_a_server_that_says_a_lot_more_than_was_asked_for_is_given_up() -> None:
    here, server = wire(allowance=1000)
    server.write(b"* OK\r\n" * 1000)
    with pytest.raises(PeerError, match="a lot more"):
        await in_thread(here.readline)


async def test_a_cancelled_task_gets_its_thread_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    here, server = wire(seconds=60.0)
    receive, has_begun = here.stream.receive, anyio.Event()

    async def tell_and_receive(seconds: float) -> bytes:
        has_begun.set()
        return await receive(seconds)

    monkeypatch.setattr(here.stream, "receive", tell_and_receive)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(in_thread, here.readline)
            await has_begun.wait()
            group.cancel_scope.cancel()
    server.abort()


async def test_compressed_words_are_understood_and_ours_are_compressed() -> None:
    here, server = wire()
    here.start_compression()
    deflater = zlib.compressobj(wbits=-15)
    server.write(deflater.compress(b"* OK one\r\n* OK two\r\n") + deflater.flush(zlib.Z_SYNC_FLUSH))
    assert await in_thread(here.readline) == b"* OK one\r\n"
    assert await in_thread(here.readline) == b"* OK two\r\n"
    await in_thread(lambda: here.send(b"A1 NOOP\r\n"))
    assert zlib.decompressobj(-15).decompress(await server.receive(5.0)) == b"A1 NOOP\r\n"


async def test_few_octets_that_stand_for_very_many_are_refused() -> None:
    here, server = wire(allowance=1 << 20)
    here.start_compression()
    server.write(zlib.compress(bytes(10 << 20), wbits=-15))
    with pytest.raises(PeerError, match="a lot more"):
        await in_thread(here.readline)


async def test_what_cannot_be_decompressed_is_said() -> None:
    here, server = wire()
    here.start_compression()
    server.write(b"* OK in clear after all\r\n")
    with pytest.raises(PeerError, match="cannot be decompressed"):
        await in_thread(here.readline)


async def test_a_task_hears_lines_and_goes_on_after_it_was_cancelled() -> None:
    here, server = wire()
    assert await here.hear(0.001) is None
    server.write(b"* 5 EX")
    assert await here.hear(0.001) is None
    with anyio.move_on_after(0.01):
        await here.hear(60.0)
    server.write(b"ISTS\r\n* OK")
    assert await here.hear(5.0) == b"* 5 EXISTS"
