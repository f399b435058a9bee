"""What is asked of a POP3 server behind the log-in, and what its replies bring: RFC 1939 §5, UIDL and TOP of §7.

Replies come in the order of their commands and do not say what they belong to (RFC 2449 §6.6). So the machine keeps
the commands that are not answered yet, and takes nothing for an answer but what the first of them can have.
"""

import re
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from masqmail.frozen import frozen
from masqmail.proto.errors import UsageError
from masqmail.proto.lines import MAX_RECEIVED_LINE_BYTES, nonsense, shown
from masqmail.proto.pop3.reply import Kind, Reply, ReplyParser

MAX_DEPTH = 64  # commands under way, so that none of them has to wait in the server's buffers
MAX_EXPECTED_BYTES = 1 << 20  # of messages under way; one more may be asked for while there are fewer
MAX_MESSAGES = 1_000_000  # in a mailbox
MAX_UID_BYTES = 255  # RFC 1939 §7 allows 70

_STAT = re.compile(r"(\d{1,10}) +(\d{1,18})(?:\s.*)?", re.ASCII | re.DOTALL)
_MINUTE = timedelta(minutes=1)


class Verb(Enum):
    """A command of the TRANSACTION state."""

    STAT = "STAT"
    LIST = "LIST"
    UIDL = "UIDL"
    TOP = "TOP"
    RETR = "RETR"
    DELE = "DELE"
    NOOP = "NOOP"


#: How long each may take, or be silent in the middle. Servers count a big mailbox for a while. Ours.
ANSWER_TIMES: dict[Verb, timedelta] = {
    Verb.STAT: 5 * _MINUTE,
    Verb.LIST: 5 * _MINUTE,
    Verb.UIDL: 5 * _MINUTE,
    Verb.TOP: 5 * _MINUTE,
    Verb.RETR: 5 * _MINUTE,
    Verb.DELE: 2 * _MINUTE,
    Verb.NOOP: 2 * _MINUTE,
}

#: Those whose +OK is followed by lines up to a dot.
_LONG = frozenset({Verb.LIST, Verb.UIDL, Verb.TOP, Verb.RETR})


@frozen
class Command:
    """What is asked. `number` is that of a message in this session; TOP asks for its header section alone."""

    verb: Verb
    number: int = 0

    def __str__(self) -> str:
        if not self.number:
            return self.verb.value
        return f"{self.verb.value} {self.number}{' 0' if self.verb is Verb.TOP else ''}"

    def __bytes__(self) -> bytes:
        return str(self).encode("ascii") + b"\r\n"


@frozen
class Counted:
    """The answer to STAT."""

    messages: int
    size_bytes: int


@frozen
class Sizes:
    """Some of the lines of LIST: message numbers and sizes in bytes, which may be wrong."""

    rows: list[tuple[int, int]]


@frozen
class Names:
    """Some of the lines of UIDL: message numbers and their names; empty for what cannot be a name."""

    rows: list[tuple[int, str]]


@frozen
class Text:
    """The next piece of what TOP or RETR asked for, with the dots undone."""

    command: Command
    data: bytes


@frozen
class Done:
    """The command succeeded, and everything it asked for is here."""

    command: Command


@frozen
class Refused:
    """The server said -ERR."""

    command: Command
    reply: Reply


Answer = Counted | Sizes | Names | Text | Done | Refused


@dataclass(slots=True)
class _Asked:
    """A command under way, and how much is still expected to come for it."""

    command: Command
    expected_bytes: int
    is_begun: bool = False  # its +OK was read


class Transaction:
    """The commands under way. `PeerError` leaves `next_answer` for what cannot be an answer."""

    def __init__(self, parser: ReplyParser, *, pipelining: bool) -> None:
        self.pipelining = pipelining
        self._parser = parser
        self._asked: deque[_Asked] = deque()
        self._expected_bytes = 0
        self._cut = b""  # the beginning of a listing's line

    @property
    def is_idle(self) -> bool:
        """Whether every command was answered."""
        return not self._asked

    @property
    def doing(self) -> str:
        """The command whose answer comes next, if there is one."""
        return str(self._asked[0].command) if self._asked else ""

    @property
    def may_ask(self) -> bool:
        """Whether one more command may leave now."""
        if not self.pipelining:
            return not self._asked
        return len(self._asked) < MAX_DEPTH and self._expected_bytes < MAX_EXPECTED_BYTES

    @property
    def answer_time(self) -> timedelta | None:
        """How long the server may be silent; None when nothing is due."""
        return ANSWER_TIMES[self._asked[0].command.verb] if self._asked else None

    def ask(self, command: Command, expected_bytes: int = 0) -> None:
        """Notes a command that leaves now; about so many bytes are to come for it."""
        if not self.may_ask:
            raise UsageError("too many commands are under way")
        self._asked.append(_Asked(command, expected_bytes))
        self._expected_bytes += expected_bytes

    def next_answer(self) -> Answer | None:
        """What the server says next, or None until more bytes come. Only while a command is under way."""
        asked = self._asked[0]
        while True:
            if asked.is_begun:
                return self._next_text(asked)
            if (reply := self._parser.next_reply()) is None:
                return None
            match reply.kind:
                case Kind.CHALLENGE:
                    raise nonsense(f"a challenge in answer to {asked.command}")
                case Kind.ERR:
                    self._finish()
                    return Refused(asked.command, reply)
                case Kind.OK if asked.command.verb in _LONG:
                    asked.is_begun = True
                    self._parser.begin_text()
                case Kind.OK:
                    return self._finish_short(asked.command, reply)

    def _finish_short(self, command: Command, reply: Reply) -> Answer:
        self._finish()
        if command.verb is not Verb.STAT:
            return Done(command)
        match = _STAT.fullmatch(reply.text.strip())
        if match is None:
            raise nonsense(f"an answer to STAT without a number: {reply}")
        return Counted(int(match[1]), int(match[2]))

    def _next_text(self, asked: _Asked) -> Answer | None:
        """A piece of the text behind a +OK, or its end."""
        if (data := self._parser.next_text()) is None:
            return None
        command = asked.command
        if not data:
            self._finish()
            return Done(command)
        came = min(len(data), asked.expected_bytes)
        asked.expected_bytes -= came
        self._expected_bytes -= came
        if command.verb in (Verb.TOP, Verb.RETR):
            return Text(command, data)
        if data.count(b"\n") != data.count(b"\r\n"):
            raise nonsense(f"a line of {command} that ends without CR: {shown(data)}")
        *lines, self._cut = (self._cut + data).split(b"\r\n")
        if len(self._cut) > MAX_RECEIVED_LINE_BYTES:
            raise nonsense(f"a line of {command} that is too long: {shown(self._cut)}")
        return Sizes(_sizes(lines)) if command.verb is Verb.LIST else Names(_names(lines))

    def _finish(self) -> None:
        self._expected_bytes -= self._asked.popleft().expected_bytes


def _sizes(lines: list[bytes]) -> list[tuple[int, int]]:
    rows = []
    for line in lines:
        words = line.split(None, 2)  # what follows the size is to be ignored, RFC 1939 §5
        if len(words) < 2 or not words[1].isdigit() or len(words[1]) > 18:
            raise nonsense(f"a line of LIST without a size: {shown(line)}")
        rows.append((_number(line, words[0]), int(words[1])))
    return rows


def _names(lines: list[bytes]) -> list[tuple[int, str]]:
    rows = []
    for line in lines:
        words = line.split(None, 2)
        if not words:
            raise nonsense("an empty line in UIDL")
        rows.append((_number(line, words[0]), _name(words[1]) if len(words) > 1 else ""))
    return rows


def _name(word: bytes) -> str:
    name = word.decode("ascii", "replace")
    return name if name.isascii() and name.isprintable() and len(name) <= MAX_UID_BYTES else ""


def _number(line: bytes, word: bytes) -> int:
    if not word.isdigit() or len(word) > 10 or not 1 <= int(word) <= MAX_MESSAGES:
        raise nonsense(f"a line of a listing without a message number: {shown(line)}")
    return int(word)
