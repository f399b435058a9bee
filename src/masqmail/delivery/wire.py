"""The bytes between a session and its stream: written in big pieces, read with a deadline, traced."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import anyio
import anyio.lowlevel

from masqmail.delivery.connect import Options
from masqmail.net.errors import StreamTimeout
from masqmail.net.stream import Stream
from masqmail.proto.smtp.clientsession import BLOCK_TIME, REPLY_TIMES, Phase
from masqmail.proto.smtp.transfer import Step
from masqmail.system import events

FLUSH_BYTES = 32 * 1024
#: Replies to so much are acknowledged at once: a server with Nagle's algorithm keeps the next one back until then,
#: which takes up to 40 ms when nothing that we send carries the acknowledgement.
BIG_BYTES = 32 * 1024
#: What TLS adds to each record of up to 16 KB with its usual ciphers, RFC 8446 §5.2.
RECORD_BYTES = 16 * 1024
RECORD_EXTRA = {"TLSv1.3": 22, "TLSv1.2": 29}
#: How long reading waits before it asks again whether a reply is due.
IDLE_CHECK = timedelta(seconds=10)


class Wire:
    """One connection's output buffer and clock."""

    def __init__(self, stream: Stream, name: str, options: Options) -> None:
        self.stream = stream
        self._name = name
        self._options = options
        self._output: list[bytes] = []
        self._output_bytes = 0
        self._is_holding_back = False
        self._now = asyncio.get_running_loop().time
        self._active_at = self._now()
        self.sent_bytes = 0  # to the line, as near as we know
        self._sent_at_reply = 0

    def touch(self) -> None:
        """Something was achieved: time-outs count from now."""
        self._active_at = self._now()

    @property
    def is_full(self) -> bool:
        """Whether it is worth a `flush` before there is more."""
        return self._output_bytes >= FLUSH_BYTES

    def put(self, data: bytes) -> None:
        """Adds to what the next `flush` sends."""
        self._output.append(data)
        self._output_bytes += len(data)

    def hold_back(self, is_on: bool) -> None:
        """Whether an unfilled last packet waits for what follows in a moment."""
        if is_on is not self._is_holding_back:
            self._is_holding_back = is_on
            self.stream.hold_back(is_on)

    def flush(self) -> None:
        """Sends everything, or as much as there is room for; `drain` waits for the rest."""
        if not self._output:
            return
        self.stream.write(b"".join(self._output))
        self.sent_bytes += self._output_bytes + self._extra_bytes()
        self._output.clear()
        self._output_bytes = 0
        self.touch()

    async def drain(self) -> None:
        """Waits while the network is slow. Raises `NetError`."""
        await self.stream.drain(self._options.seconds(BLOCK_TIME))
        self.touch()
        await anyio.lowlevel.checkpoint_if_cancelled()

    def take(self) -> bytes | None:
        """What has come; empty when the other side has closed, None when nothing has. Raises `NetError`."""
        data = self.stream.take()
        if data:
            self._note_received(data)
        return data

    def _extra_bytes(self) -> int:
        """What TLS adds to the output."""
        tls = self.stream.tls
        return RECORD_EXTRA.get(tls.version, 0) * -(-self._output_bytes // RECORD_BYTES) if tls else 0

    async def receive(self, what_is_due: Callable[[], Phase | Step | None]) -> bytes:
        """Whatever comes next; empty when the other side has closed.

        Raises `NetError`: `StreamTimeout` when the reply that is due takes too long (RFC 5321 §4.5.3.2).
        """
        while True:
            patience = self._patience(what_is_due())
            try:
                data = await self.stream.receive(patience)
            except StreamTimeout:
                continue  # unless something was sent or is due since
            self._note_received(data)
            return data

    async def mind(self, is_over: asyncio.Event, what_is_due: Callable[[], Phase | Step | None]) -> None:
        """Returns when it is over. Raises `StreamTimeout` as `receive` does; somebody else takes what comes."""
        while not is_over.is_set():
            with anyio.move_on_after(self._patience(what_is_due())):
                await is_over.wait()

    def _patience(self, awaited: Phase | Step | None) -> float:
        """How long to wait before asking again. Raises `StreamTimeout` when the reply that is due took too long."""
        if awaited is None:
            return self._options.seconds(IDLE_CHECK)
        limit = self._options.seconds(REPLY_TIMES[awaited])
        left = self._active_at + limit - self._now()
        if left <= 0:
            raise StreamTimeout(f"no answer within {limit:g} s ({awaited.value})")
        return left

    def _note_received(self, data: bytes) -> None:
        self.touch()
        if self.sent_bytes - self._sent_at_reply > BIG_BYTES:
            self.stream.hurry_ack()
        self._sent_at_reply = self.sent_bytes
        self.trace("S:", data)

    def trace(self, direction: str, data: bytes, *, is_secret: bool = False) -> None:
        """Shows protocol lines to whoever wants them, and secrets to nobody."""
        if events.is_tracing():
            credentials = self._options.credentials
            for line in data.split(b"\r\n")[: -1 if data.endswith(b"\r\n") else None]:
                if is_secret:
                    line = b"AUTH ..."
                elif credentials is not None:
                    line = credentials.conceal_line(line)
                events.trace(direction, line, next_hop=self._name)
