"""How the server machine is driven: bytes go in, events are pulled, answers go in, replies pile up.

What the bytes mean is in `server`.
"""

from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, ClassVar

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
_END = End()
# Named once: to look a member up in its Enum takes Python 3.11 as long as a call.
_CHUNK, _TLS, _NOTHING = Wait.CHUNK, Wait.TLS, Wait.NOTHING


class _Owed:
    """A complete message whose verdict is still to come, and the replies that go out behind it."""

    __slots__ = ("replies", "size_bytes")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.replies: list[bytes] = []


class Machine:
    """The parts of the server that know nothing of SMTP's commands. `wait` says what the next bytes are."""

    #: What takes a step with the bytes that are there, for each `wait`; false when more are needed.
    _readers: ClassVar[Mapping[Wait, Callable[[Any], bool]]]

    def __init__(self, trace: Trace | None) -> None:
        self.wait = Wait.COMMAND
        #: The replies to send now; see `take_output`.
        self.output: list[bytes] = []
        self._trace = trace
        self._put: Callable[[bytes], None] = partial(self._put_and_trace, trace) if trace else self.output.append
        self._lines = LineBuffer()
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
        if self.wait is _TLS:
            raise UsageError("these bytes belong to TLS")
        if self.wait is not _NOTHING:
            self._lines.feed(data)

    def next_event(self) -> Event | None:
        """The next thing to do, or None: an answer or more bytes are missing. Never reads ahead of an answer."""
        events = self._events
        while not events:
            if self._asked is not None:
                return None
            if self._lines.is_empty and self.wait is not _CHUNK:  # a chunk may be empty, and is complete then
                return None
            if not self._readers[self.wait](self):
                return None
        return events.popleft()

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
        output = b"".join(self.output)
        self.output.clear()
        return output

    def _ask(self, event: Event) -> None:
        """Hands out an event that wants an answer."""
        self._asked = event
        self._events.append(event)

    def _hand_out(self, size_bytes: int) -> None:
        """A message is complete. Replies from here on go out behind its own, whenever that comes."""
        self._owed.append(_Owed(size_bytes))
        self._owed_bytes += size_bytes
        self._events.append(_END)

    def _owes_too_much(self) -> bool:
        return len(self._owed) >= MAX_OWED_MESSAGES or self._owed_bytes >= MAX_OWED_BYTES

    def _reply(self, status: Status) -> None:
        reply = _format(status)
        if self._owed:
            self._owed[-1].replies.append(reply)
        else:
            self._put(reply)

    def _put_and_trace(self, trace: Trace, reply: bytes) -> None:
        self.output.append(reply)
        for line in reply.splitlines():
            trace("S:", line)

    def _challenge(self, data: bytes) -> None:
        """Goes on with a log-in, which is not traced."""
        self.output.append(b"334 " + sasl.encode(data) + b"\r\n")

    def _read_no_more(self) -> None:
        """Drops what is unread, and whatever comes."""
        self.wait = Wait.NOTHING
        self._asked = None
        self._lines = LineBuffer()
