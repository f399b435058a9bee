"""Streams over TCP, Unix sockets and memory; every test with `pair` runs on all three."""

import os
import socket
import struct
from types import SimpleNamespace

import anyio
import pytest

from masqmail.net.errors import ConnectionLost, StreamTimeout
from masqmail.net.stream import READ_HIGH_BYTES, WRITE_HIGH_BYTES, Gate, Stream, attach

pytestmark = pytest.mark.anyio
Pair = tuple[Stream, Stream]


async def receive_all(stream: Stream) -> bytes:
    parts = []
    while part := await stream.receive(5):
        parts.append(part)
    return b"".join(parts)


async def test_what_one_side_writes_the_other_receives(pair: Pair) -> None:
    client, server = pair
    client.write(b"EHLO laptop.example.net\r\n")
    assert await server.receive(5) == b"EHLO laptop.example.net\r\n"
    server.write(b"250 OK\r\n")
    assert await client.receive(5) == b"250 OK\r\n"


async def test_what_is_held_back_leaves_in_the_end(pair: Pair) -> None:
    client, server = pair
    client.hold_back(True)
    client.write(b"MAIL")
    client.hold_back(False)
    assert await server.receive(5) == b"MAIL"
    client.abort()
    client.hold_back(True)  # does nothing any more


async def test_hurrying_an_acknowledgement_does_no_harm_at_any_time(pair: Pair) -> None:
    client, server = pair
    server.write(b"250 OK\r\n")
    assert await client.receive(5) == b"250 OK\r\n"
    client.hurry_ack()
    client.write(b"QUIT\r\n")
    assert await server.receive(5) == b"QUIT\r\n"
    client.abort()
    client.hurry_ack()


async def test_the_end_is_an_empty_receive_every_time(pair: Pair) -> None:
    client, server = pair
    client.write(b"QUIT\r\n")
    await client.aclose()
    assert await receive_all(server) == b"QUIT\r\n"
    assert await server.receive(5) == b""


async def test_a_silent_peer_is_a_timeout_after_which_receiving_goes_on(pair: Pair) -> None:
    client, server = pair
    with pytest.raises(StreamTimeout, match="silent for 0 s"):
        await server.receive(0)
    client.write(b"late")
    assert await server.receive(5) == b"late"


async def test_who_watches_is_called_and_takes_without_waiting(pair: Pair) -> None:
    client, server = pair
    taken: list[bytes | None] = []
    ended = anyio.Event()

    def watcher() -> None:
        taken.append(server.take())
        if taken[-1] == b"":
            ended.set()

    assert server.take() is None
    server.watch(watcher)
    client.write(b"QUIT\r\n")
    await client.aclose()
    with anyio.fail_after(5):
        await ended.wait()
    assert b"".join(filter(None, taken)) == b"QUIT\r\n"
    assert None not in taken
    assert server.take() == b""
    server.watch(None)


async def test_a_stream_says_whether_there_may_be_something_to_take(pair: Pair) -> None:
    client, server = pair
    assert not server.is_readable
    client.write(b"QUIT\r\n")
    while not server.is_readable:
        await anyio.lowlevel.checkpoint()
    assert server.take() == b"QUIT\r\n"
    assert not server.is_readable
    await client.aclose()
    while not server.is_readable:
        await anyio.lowlevel.checkpoint()
    assert server.take() == b""
    assert server.is_readable  # the end stays


async def test_who_watches_learns_that_the_connection_is_lost(pair: Pair) -> None:
    client, _ = pair
    lost = anyio.Event()

    def watcher() -> None:
        with pytest.raises(ConnectionLost):
            client.take()
        lost.set()

    client.watch(watcher)
    client.abort()
    with anyio.fail_after(5):
        await lost.wait()
    client.watch(None)


async def test_a_cancelled_receive_loses_nothing(pair: Pair) -> None:
    client, server = pair
    with anyio.move_on_after(0):
        await server.receive(5)
    client.write(b"x")
    assert await server.receive(5) == b"x"


async def test_a_peer_that_reads_nothing_fills_the_buffer_and_drain_says_so(pair: Pair) -> None:
    client, _ = pair
    for _ in range(40):  # more than all the buffers on the way
        client.write(bytes(WRITE_HIGH_BYTES))
    with pytest.raises(StreamTimeout, match="took nothing"):
        await client.drain(0)


async def test_drain_returns_when_the_peer_has_read_enough(pair: Pair) -> None:
    client, server = pair
    total = 40 * WRITE_HIGH_BYTES
    received = 0
    client.write(bytes(total))
    async with anyio.create_task_group() as group:
        group.start_soon(client.drain, 5)
        while received < total:
            received += len(await server.receive(5))
    await client.drain(0)


async def test_drain_is_patient_with_a_peer_that_is_slow(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = pair
    client.write(bytes(80 * WRITE_HIGH_BYTES))
    deadlines = 0

    async def time_is_over(timeout_seconds: float) -> bool:
        """The peer reads a little until the deadline of this wait is over; in the end it stops reading."""
        nonlocal deadlines
        deadlines += 1
        wanted = 8 * READ_HIGH_BYTES if deadlines < 4 else 0
        while wanted > 0:
            wanted -= len(await server.receive(5))
        return False

    monkeypatch.setattr(client, "_writable", SimpleNamespace(wait=time_is_over, open=lambda: None))
    with pytest.raises(StreamTimeout):
        await client.drain(60)
    assert deadlines == 4


async def test_unread_data_is_bounded(pair: Pair) -> None:
    client, server = pair
    client.write(bytes(40 * READ_HIGH_BYTES))
    while server._inbox_bytes < READ_HIGH_BYTES:  # the kernel may take a moment
        await anyio.sleep(0)
    for _ in range(100):
        await anyio.sleep(0)
    assert READ_HIGH_BYTES <= len(await server.receive(5)) <= 2 * READ_HIGH_BYTES


async def test_after_abort_both_sides_learn_that_the_connection_is_lost(pair: Pair) -> None:
    client, _ = pair
    client.abort()
    with pytest.raises(ConnectionLost, match="on our side"):
        await client.receive(5)
    client.write(b"nobody will see this")
    with pytest.raises(ConnectionLost):
        await client.drain(5)


async def test_aclose_twice_is_harmless(pair: Pair) -> None:
    client, _ = pair
    await client.aclose()
    await client.aclose()


async def test_what_was_written_before_aclose_arrives(pair: Pair) -> None:
    client, server = pair
    client.write(bytes(4 * WRITE_HIGH_BYTES))
    async with anyio.create_task_group() as group:
        group.start_soon(client.aclose)
        assert len(await receive_all(server)) == 4 * WRITE_HIGH_BYTES


async def test_a_cancelled_aclose_still_closes(pair: Pair) -> None:
    client, _ = pair
    client.write(bytes(40 * WRITE_HIGH_BYTES))  # never read, so it cannot finish
    with anyio.CancelScope() as scope:
        scope.cancel()
        await client.aclose()
    with pytest.raises(ConnectionLost):
        await client.receive(5)


async def test_the_other_half_stays_open_after_an_end() -> None:
    near, far = socket.socketpair()
    far.setblocking(False)
    with near:
        stream = await attach(far)
        near.sendall(b"DATA")
        near.shutdown(socket.SHUT_WR)
        assert await receive_all(stream) == b"DATA"
        stream.write(b"250 OK\r\n")
        await stream.drain(5)
        assert near.recv(100) == b"250 OK\r\n"
        await stream.aclose()


async def tcp_with_raw_peer() -> tuple[Stream, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    return await attach(near), far


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def test_a_reset_is_a_lost_connection() -> None:
    stream, peer = await tcp_with_raw_peer()
    reset(peer)
    with pytest.raises(ConnectionLost, match="reset by the other side"):
        await stream.receive(5)


async def test_a_reply_that_arrived_before_the_reset_is_received_first() -> None:
    stream, peer = await tcp_with_raw_peer()
    peer.sendall(b"421 4.3.2 Closing\r\n")
    reset(peer)
    stream.write(b"MAIL FROM:<>\r\n")  # fails, and the loop has not read the reply yet
    assert await stream.receive(5) == b"421 4.3.2 Closing\r\n"
    with pytest.raises(ConnectionLost):
        await stream.receive(5)


async def test_a_client_that_is_gone_before_we_know_it_is_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    reset(near)
    with pytest.raises(ConnectionLost, match="hung up at once"):
        await attach(far)


async def test_one_write_is_one_segment_and_leaves_at_once() -> None:
    stream, peer = await tcp_with_raw_peer()
    with peer:
        stream.write(b"MAIL FROM:<>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n")
        assert peer.recv(1000).endswith(b"DATA\r\n")
        sock = stream._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        await stream.aclose()


async def test_a_tcp_stream_knows_both_addresses() -> None:
    stream, peer = await tcp_with_raw_peer()
    with peer:
        assert str(stream.peer) == "{}:{}".format(*peer.getsockname())
        assert str(stream.local) == "{}:{}".format(*peer.getpeername())
        assert stream.credentials is None
        stream.abort()


async def test_a_unix_stream_knows_who_is_at_the_other_end() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with far:
        stream = await attach(near)
        assert stream.credentials is not None
        assert (stream.credentials.pid, stream.credentials.uid) == (os.getpid(), os.getuid())
        assert stream.peer is None
        stream.abort()


async def test_only_one_task_can_wait_at_a_gate() -> None:
    gate = Gate()
    async with anyio.create_task_group() as group:
        group.start_soon(gate.wait, 5)
        await anyio.sleep(0)
        with pytest.raises(RuntimeError):
            await gate.wait(5)
        gate.open()
