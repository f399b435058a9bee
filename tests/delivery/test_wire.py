"""The bytes between a session and its stream."""

import anyio
import pytest

from masqmail.delivery.connect import Options
from masqmail.delivery.wire import BIG_BYTES, Wire
from masqmail.net.fake import stream_pair
from masqmail.net.stream import Stream
from masqmail.proto.smtp.clientsession import Phase

pytestmark = pytest.mark.anyio


async def hurried(monkeypatch: pytest.MonkeyPatch, sent_bytes: int) -> int:
    """How many acknowledgements are hurried when so much was sent before a reply."""
    count = 0

    def hurry_ack(_: Stream) -> None:
        nonlocal count
        count += 1

    monkeypatch.setattr(Stream, "hurry_ack", hurry_ack)
    client, server = stream_pair()
    wire = Wire(client, "mx.example.org:25", Options("laptop.example.org"))
    wire.put(b"x" * sent_bytes)
    wire.flush()
    for _ in range(2):
        server.write(b"250 OK\r\n")
        with anyio.fail_after(5):
            assert await wire.receive(lambda: Phase.QUIT) == b"250 OK\r\n"
    return count


async def test_the_first_reply_to_a_big_message_is_acknowledged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await hurried(monkeypatch, BIG_BYTES + 1) == 1


async def test_replies_to_small_messages_are_acknowledged_when_the_kernel_likes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await hurried(monkeypatch, BIG_BYTES) == 0
