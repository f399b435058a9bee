"""TLS on streams: STARTTLS, failures, resumption, and how it ends."""

import ssl

import anyio
import pytest

from masqmail.net.errors import StreamTimeout, TlsFailure
from masqmail.net.stream import WRITE_HIGH_BYTES, Stream
from masqmail.net.tls import SessionCache

pytestmark = pytest.mark.anyio
NAME = "mail.example.org"
Pair = tuple[Stream, Stream]


async def shake_hands(
    pair: Pair, client_tls: ssl.SSLContext, server_tls: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> None:
    client, server = pair

    async def serve() -> None:
        await server.start_tls(server_tls, server_side=True, timeout_seconds=5)

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        await client.start_tls(client_tls, server_side=False, server_name=NAME, session=session, timeout_seconds=5)


async def test_bytes_go_both_ways_over_tls(
    pair: Pair, client_tls: ssl.SSLContext, server_tls: ssl.SSLContext
) -> None:
    client, server = pair
    assert client.tls is None
    await shake_hands(pair, client_tls, server_tls)
    assert client.tls is not None and client.tls.version == "TLSv1.3"
    client.write(b"EHLO laptop.example.net\r\n")
    assert await server.receive(5) == b"EHLO laptop.example.net\r\n"
    server.write(b"250 OK\r\n")
    assert await client.receive(5) == b"250 OK\r\n"


async def test_a_big_message_passes_and_is_held_back_while_nobody_reads(
    pair: Pair, client_tls: ssl.SSLContext, server_tls: ssl.SSLContext
) -> None:
    client, server = pair
    await shake_hands(pair, client_tls, server_tls)
    total = 40 * WRITE_HIGH_BYTES
    client.write(bytes(total))
    with pytest.raises(StreamTimeout):
        await client.drain(0)
    received = 0
    while received < total:
        received += len(await server.receive(5))
    await client.drain(5)
    assert received == total


async def test_what_a_client_injected_before_the_handshake_is_dropped(
    pair: Pair, client_tls: ssl.SSLContext, server_tls: ssl.SSLContext
) -> None:
    client, server = pair
    client.write(b"MAIL FROM:<mallory@example.net>\r\n")
    await anyio.wait_all_tasks_blocked()
    while not server._inbox:  # the kernel may take a moment
        await anyio.sleep(0)
    await shake_hands(pair, client_tls, server_tls)
    client.write(b"EHLO x\r\n")
    assert await server.receive(5) == b"EHLO x\r\n"


async def test_what_a_server_injected_before_the_handshake_stops_the_client(
    pair: Pair, client_tls: ssl.SSLContext
) -> None:
    client, server = pair
    server.write(b"250 I am in the middle\r\n")
    while not client._inbox:
        await anyio.sleep(0)
    with pytest.raises(TlsFailure, match="before TLS could start"):
        await client.start_tls(client_tls, server_side=False, server_name=NAME, timeout_seconds=5)


async def test_a_server_that_greets_in_plain_text_where_tls_comes_first_is_no_attack(
    pair: Pair, client_tls: ssl.SSLContext
) -> None:
    client, server = pair
    server.write(b"220 mail.example.org ESMTP\r\n")
    while not client._inbox:
        await anyio.sleep(0)
    with pytest.raises(TlsFailure, match="does not speak TLS here"):
        await client.start_tls(client_tls, server_side=False, server_name=NAME, is_first=True, timeout_seconds=5)


async def test_plain_text_during_the_handshake_is_a_failure(pair: Pair, server_tls: ssl.SSLContext) -> None:
    client, server = pair
    client.write(b"MAIL FROM:<mallory@example.net>\r\n")
    with pytest.raises(TlsFailure, match="does not speak TLS"):
        await server.start_tls(server_tls, server_side=True, timeout_seconds=5)
    with pytest.raises(TlsFailure):
        await server.receive(5)


async def test_a_client_that_does_not_trust_us_says_so(pair: Pair, server_tls: ssl.SSLContext) -> None:
    from masqmail.net.tls import client_context

    client, server = pair

    async def serve() -> None:
        with pytest.raises(TlsFailure, match="does not trust our certificate"):
            await server.start_tls(server_tls, server_side=True, timeout_seconds=5)

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        with pytest.raises(TlsFailure, match="CA that is not trusted"):
            await client.start_tls(client_context(), server_side=False, server_name=NAME, timeout_seconds=5)


async def test_a_peer_that_hangs_up_in_the_handshake_is_a_tls_failure(pair: Pair, client_tls: ssl.SSLContext) -> None:
    client, server = pair
    await server.aclose()
    with pytest.raises(TlsFailure):
        await client.start_tls(client_tls, server_side=False, server_name=NAME, timeout_seconds=5)


async def test_a_silent_handshake_has_a_deadline(pair: Pair, client_tls: ssl.SSLContext) -> None:
    client, _ = pair
    with pytest.raises(StreamTimeout):
        await client.start_tls(client_tls, server_side=False, server_name=NAME, timeout_seconds=0)


async def test_a_goodbye_is_a_clean_end(pair: Pair, client_tls: ssl.SSLContext, server_tls: ssl.SSLContext) -> None:
    client, server = pair
    await shake_hands(pair, client_tls, server_tls)
    client.write(b"QUIT\r\n")
    await client.aclose()
    assert await server.receive(5) == b"QUIT\r\n"
    assert await server.receive(5) == b""
    assert not server.is_truncated


async def test_who_watches_gets_what_came_together_with_the_goodbye(
    pair: Pair, client_tls: ssl.SSLContext, server_tls: ssl.SSLContext
) -> None:
    client, server = pair
    await shake_hands(pair, client_tls, server_tls)
    heard: list[bytes] = []
    is_over = anyio.Event()

    def watcher() -> None:
        while (data := client.take()) is not None:
            heard.append(data)
            if not data:
                is_over.set()
                break

    client.watch(watcher)
    assert server._engine is not None
    server._engine.send(b"250 taken\r\n")
    server._engine.close()
    server._flush()  # both in one piece
    with anyio.fail_after(5):
        await is_over.wait()
    client.watch(None)
    assert heard == [b"250 taken\r\n", b""]


async def test_what_came_in_front_of_a_damaged_record_is_received_all_the_same(
    pair: Pair, client_tls: ssl.SSLContext, server_tls: ssl.SSLContext
) -> None:
    client, server = pair
    await shake_hands(pair, client_tls, server_tls)
    assert server._engine is not None
    server._engine.send(b"250 taken\r\n")
    damaged = b"\x17\x03\x03\x00\x20" + bytes(32)
    server._transport.write(server._engine.take_output() + damaged)  # both in one piece
    assert await client.receive(5) == b"250 taken\r\n"
    with pytest.raises(TlsFailure):
        await client.receive(5)


async def test_an_end_without_a_goodbye_is_an_end_with_a_mark(
    pair: Pair, client_tls: ssl.SSLContext, server_tls: ssl.SSLContext
) -> None:
    client, server = pair
    await shake_hands(pair, client_tls, server_tls)
    client._transport.close()
    assert await server.receive(5) == b""
    assert server.is_truncated


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_second_connection_resumes_the_session_of_the_first(
    client_tls: ssl.SSLContext, server_tls: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    from masqmail.net.fake import stream_pair

    client_tls.maximum_version = version
    cache = SessionCache()
    resumed = []
    for _ in range(3):
        client, server = pair = stream_pair()
        await shake_hands(pair, client_tls, server_tls, cache.find(NAME, client_tls))
        server.write(b"250 OK\r\n")
        await client.receive(5)
        cache.store(NAME, client_tls, client.tls_session)
        assert client.tls is not None
        resumed.append(client.tls.is_resumed)
        client.abort()
    assert resumed == [False, True, True]
