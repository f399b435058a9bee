"""How the server machine is driven: bytes go in, events are pulled, answers go in, replies pile up.

What the bytes mean is in `server`.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import lru_cache

from masqmail.mail.status import Status
from masqmail.proto import sasl
from masqmail.proto.errors import UsageError
from masqmail.proto.lines import LineBuffer
from masqmail.proto.smtp.reply import format_reply
from masqmail.proto.smtp.session import Event, Wait

#: Called with the direction ("C:" or "S:") and a line without its CRLF; secrets are left out.
Trace = Callable[[str, bytes], None]

_format = lru_cache(maxsize=64)(format_reply)  # most replies are always the same


class Machine(ABC):
    """The parts of the server that know nothing of SMTP's commands. `wait` says what the next bytes are."""

    def __init__(self, trace: Trace | None) -> None:
        self.wait = Wait.COMMAND
        self._trace = trace
        self._lines = LineBuffer()
        self._output: list[bytes] = []
        self._events: deque[Event] = deque()
        self._asked: Event | None = None

    def receive(self, data: bytes) -> None:
        """Bytes from the client. After STARTTLS they belong to TLS, until `tls_started`."""
        if self.wait is Wait.TLS:
            raise UsageError("these bytes belong to TLS")
        if self.wait is not Wait.NOTHING:
            self._lines.feed(data)

    def next_event(self) -> Event | None:
        """The next thing to do, or None: an answer or more bytes are missing. Never reads ahead of an answer."""
        while not self._events:
            if self._asked is not None or not self._read():
                return None
        return self._events.popleft()

    def take_output(self) -> bytes:
        """The replies to send now."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    @abstractmethod
    def _read(self) -> bool:
        """Takes a step with the bytes that are there; False when more are needed."""

    def _ask(self, event: Event) -> None:
        """Hands out an event that wants an answer."""
        self._asked = event
        self._events.append(event)

    def _take_asked(self) -> Event | None:
        asked, self._asked = self._asked, None
        return asked

    def _reply(self, status: Status) -> None:
        reply = _format(status)
        self._output.append(reply)
        if self._trace:
            for line in reply.splitlines():
                self._trace("S:", line)

    def _challenge(self, data: bytes) -> None:
        """Goes on with a log-in, which is not traced."""
        self._output.append(b"334 " + sasl.encode(data) + b"\r\n")

    def _read_no_more(self) -> None:
        """Drops what is unread, and whatever comes."""
        self.wait = Wait.NOTHING
        self._asked = None
        self._lines = LineBuffer()
