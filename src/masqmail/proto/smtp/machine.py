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
from masqmail.proto.smtp.session import End, Event, Wait

#: Called with the direction ("C:" or "S:") and a line without its CRLF; secrets are left out.
Trace = Callable[[str, bytes], None]

#: Ours: with so many messages, or octets of them, that wait for their verdict no command is read.
MAX_OWED_MESSAGES = 64
MAX_OWED_BYTES = 1 << 20

_format = lru_cache(maxsize=64)(format_reply)  # most replies are always the same


class _Owed:
    """A complete message whose verdict is still to come, and the replies that go out behind it."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.replies: list[bytes] = []


class Machine(ABC):
    """The parts of the server that know nothing of SMTP's commands. `wait` says what the next bytes are."""

    def __init__(self, trace: Trace | None) -> None:
        self.wait = Wait.COMMAND
        self._trace = trace
        self._lines = LineBuffer()
        self._output: list[bytes] = []
        self._events: deque[Event] = deque()
        self._asked: Event | None = None
        self._owed: deque[_Owed] = deque()
        self._owed_bytes = 0
        self._is_held = False  # a command is there that has to wait for the verdicts

    @property
    def owes_verdicts(self) -> bool:
        """Whether a message was handed out whole and its final reply is not known yet."""
        return bool(self._owed)

    @property
    def is_blocked(self) -> bool:
        """Whether more bytes are of no use until an answer or a verdict comes."""
        return self._is_held or self._asked is not None

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

    def conclude(self, status: Status) -> None:
        """The verdict on the oldest message that was handed out with `End`, and the final reply to it."""
        if not self._owed:
            raise UsageError("no message waits for its verdict")
        owed = self._owed.popleft()
        self._owed_bytes -= owed.size_bytes
        self._is_held = False
        self._put(format_reply(status))
        for reply in owed.replies:
            self._put(reply)

    def take_output(self) -> bytes:
        """The replies to send now."""
        if not self._output:
            return b""
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

    def _hand_out(self, size_bytes: int) -> None:
        """A message is complete. Replies from here on go out behind its own, whenever that comes."""
        self._owed.append(_Owed(size_bytes))
        self._owed_bytes += size_bytes
        self._events.append(End())

    def _owes_too_much(self) -> bool:
        return len(self._owed) >= MAX_OWED_MESSAGES or self._owed_bytes >= MAX_OWED_BYTES

    def _reply(self, status: Status) -> None:
        reply = _format(status)
        if self._owed:
            self._owed[-1].replies.append(reply)
        else:
            self._put(reply)

    def _put(self, reply: bytes) -> None:
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
