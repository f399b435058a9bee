"""The bytes between a session and its stream: written in big pieces, read with a deadline, traced."""

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
        self._active_at = anyio.current_time()

    def touch(self) -> None:
        """Something was achieved: time-outs count from now."""
        self._active_at = anyio.current_time()

    @property
    def is_full(self) -> bool:
        """Whether it is worth a `flush` before there is more."""
        return self._output_bytes >= FLUSH_BYTES

    @property
    def has_output(self) -> bool:
        return bool(self._output)

    def put(self, data: bytes) -> None:
        """Adds to what the next `flush` sends."""
        self._output.append(data)
        self._output_bytes += len(data)

    async def flush(self) -> None:
        """Sends everything, and waits while the network is slow. Raises `NetError`."""
        self.stream.write(b"".join(self._output))
        self._output.clear()
        self._output_bytes = 0
        await self.stream.drain(self._options.seconds(BLOCK_TIME))
        self.touch()
        await anyio.lowlevel.checkpoint_if_cancelled()

    async def receive(self, what_is_due: Callable[[], Phase | Step | None]) -> bytes:
        """Whatever comes next; empty when the other side has closed.

        Raises `NetError`: `StreamTimeout` when the reply that is due takes too long (RFC 5321 §4.5.3.2).
        """
        while True:
            awaited = what_is_due()
            if awaited is None:
                wait = self._options.seconds(IDLE_CHECK)
            else:
                limit = self._options.seconds(REPLY_TIMES[awaited])
                wait = self._active_at + limit - anyio.current_time()
                if wait <= 0:
                    raise StreamTimeout(f"no answer within {limit:g} s ({awaited.value})")
            try:
                data = await self.stream.receive(wait)
            except StreamTimeout:
                continue  # unless something was sent or is due since
            self.touch()
            self.trace("S:", data)
            return data

    def trace(self, direction: str, data: bytes, *, is_secret: bool = False) -> None:
        """Shows protocol lines to whoever wants them, and secrets to nobody."""
        if events.is_tracing():
            for line in data.split(b"\r\n")[: -1 if data.endswith(b"\r\n") else None]:
                shown = b"AUTH ..." if is_secret else line
                events.trace(direction, shown, next_hop=self._name)
