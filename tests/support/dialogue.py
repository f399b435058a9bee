r"""Dialogues: files that read like an SMTP session, and what runs them against the server machine.

    # lines that begin with # are for people
    % size 1000                     what the server offers and decides, see `Setting`
    C: EHLO laptop.example.net      the client sends this line and CRLF; {x*600} is 600 times x
    C> text\n.\r\n                  the client sends exactly these bytes, with Python's escapes
    S: 250*                         a whole reply of several lines that begins with 250
    S: 503 5.5.1 ...                one line; "..." is the rest of it
    T:                              TLS begins here
    X:                              the server closes the connection
    M: <ann@example.org> to <bob@example.net> <joe@example.net>
    M> text\r\n                     what was accepted, in order, anywhere in the file

Each file runs as it is written, byte by byte, and pipelined: everything at once up to the next T.
"""

import ast
import re
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from masqmail.mail.address import show_path
from masqmail.mail.envelope import Envelope
from masqmail.mail.status import OK, RECIPIENT_OK, SENDER_OK, Status
from masqmail.proto.smtp.command import Atrn, Etrn, Mail, Rcpt
from masqmail.proto.smtp.replies import AUTHENTICATED, LOGIN_FAILED
from masqmail.proto.smtp.server import Server
from masqmail.proto.smtp.session import Authenticate, Begin, Body, Close, Discard, End, Event, Offers, StartTls
from masqmail.proto.smtp.turn import TURNING

FOLDER = Path(__file__).parent.parent / "dialogues"
_REPEATED = re.compile(r"\{(.)\*(\d+)\}")


@dataclass
class Settings:
    """The `%` lines of a dialogue."""

    max_size_bytes: int = 1_000_000
    max_recipients: int = 100
    starttls: bool = False
    auth: bool = False
    xsubmit: bool = False
    atrn: bool = False
    etrn: bool = False
    logins: dict[str, str] = field(default_factory=dict)  # % login NAME PASSWORD
    refused: dict[str, Status] = field(default_factory=dict)  # % refuse ADDRESS|DOMAIN|begin|end CODE ENHANCED TEXT
    modes: tuple[str, ...] = ("written", "bytes", "pipelined")

    def read(self, line: str) -> None:
        match line.split():
            case ["size", number]:
                self.max_size_bytes = int(number)
            case ["recipients", number]:
                self.max_recipients = int(number)
            case ["starttls"]:
                self.starttls = True
            case ["auth"]:
                self.auth = True
            case ["xsubmit"]:
                self.xsubmit = True
            case ["atrn"]:
                self.atrn = True
            case ["etrn"]:
                self.etrn = True
            case ["login", name, password]:
                self.logins[name] = password
            case ["refuse", what, code, enhanced, *text]:
                self.refused[what] = Status(int(code), enhanced, " ".join(text))
            case ["modes", *modes]:
                self.modes = tuple(modes)
            case _:
                raise ValueError(f"no such setting: {line}")

    def offers(self) -> Offers:
        return Offers(
            "mail.example.net",
            self.max_size_bytes,
            max_recipients=self.max_recipients,
            starttls=self.starttls,
            auth=self.auth,
            xsubmit=self.xsubmit,
            atrn=self.atrn,
            etrn=self.etrn,
        )


@dataclass
class Turn:
    """What the client sends without waiting, and the lines the server answers. TLS may begin before it."""

    sent: bytes = b""
    expected: list[str] = field(default_factory=list)
    after_tls: bool = False


@dataclass
class Message:
    """One accepted message: its envelope in words, and its octets."""

    envelope: str
    content: bytes = b""


@dataclass
class Dialogue:
    """One file."""

    name: str
    settings: Settings
    turns: list[Turn]
    messages: list[Message]
    closes: bool

    def pipelined(self) -> list[Turn]:
        """The same with as few turns as possible: TLS alone parts them."""
        turns = [Turn(expected=list(self.turns[0].expected))]
        for turn in self.turns[1:]:
            if turn.after_tls:
                turns.append(Turn(after_tls=True))
            turns[-1].sent += turn.sent
            turns[-1].expected += turn.expected
        return turns


def read_dialogue(path: Path) -> Dialogue:
    """Reads a file; the first turn is the greeting."""
    dialogue = Dialogue(path.stem, Settings(), [Turn()], [], closes=False)
    for line in path.read_text("utf-8").splitlines():
        mark, text = line[:2], line[3:]
        if line.startswith("%"):
            dialogue.settings.read(line[1:])
        elif mark in ("C:", "C>"):
            if dialogue.turns[-1].expected:
                dialogue.turns.append(Turn())
            dialogue.turns[-1].sent += _expand(text).encode() + b"\r\n" if mark == "C:" else unescape(text)
        elif mark == "S:":
            dialogue.turns[-1].expected.append(text)
        elif mark == "T:":
            dialogue.turns.append(Turn(after_tls=True))
        elif mark == "X:":
            dialogue.closes = True
        elif mark == "M:":
            dialogue.messages.append(Message(text))
        elif mark == "M>":
            dialogue.messages[-1].content += unescape(text)
        elif line and not line.startswith("#"):
            raise ValueError(f"{path.name}: what is {line!r}?")
    return dialogue


def unescape(text: str) -> bytes:
    """The bytes that text with Python's escapes stands for."""
    value = ast.literal_eval('b"' + _expand(text).replace('"', '\\"') + '"')
    assert isinstance(value, bytes)
    return value


def _expand(text: str) -> str:
    return _REPEATED.sub(lambda match: match[1] * int(match[2]), text)


def difference(expected: list[str], received: bytes) -> str:
    """Empty when the replies are the expected ones; else both, with the first difference marked."""
    lines = received.decode("ascii").split("\r\n")
    if lines.pop() != "":
        return f"the last reply has no CRLF: {received!r}"
    position = 0
    for index, pattern in enumerate(expected):
        taken = _match(pattern, lines[position:])
        if not taken:
            shown = [f"    {line}" for line in expected[:index]]
            got = lines[position] if position < len(lines) else "(nothing)"
            return "\n".join([*shown, f"  - {pattern}", f"  + {got}"])
        position += taken
    return "\n".join(f"  + {line}" for line in lines[position:])


def _match(pattern: str, lines: list[str]) -> int:
    """How many lines the pattern takes; 0 when it does not fit."""
    if not lines:
        return 0
    if pattern.endswith("*"):
        count = 1
        while lines[count - 1].startswith(pattern[:3] + "-") and count < len(lines):
            count += 1
        return count if lines[count - 1].startswith(pattern[:3] + " ") else 0
    if pattern.endswith("..."):
        return int(lines[0].startswith(pattern[:-3]))
    return int(lines[0] == pattern)


class Shell:
    """The smallest shell around the machine: decides by `Settings`, keeps every event and message."""

    def __init__(self, settings: Settings, *, is_late: bool = False) -> None:
        self.settings = settings
        self.is_late = is_late
        self.late: deque[Status] = deque()  # verdicts on messages that `conclude` gives, one at a time
        self.server = Server(settings.offers())
        self.events: list[Event] = []
        self.messages: list[Message] = []
        self.is_closed = False
        self._open: Message | None = None

    def feed(self, data: bytes) -> None:
        """Bytes from the client; everything that follows from them is done."""
        self.server.receive(data)
        while (event := self.server.next_event()) is not None:
            self._note(event)
            if (status := self._judge(event)) is None:
                continue
            if not isinstance(event, End):
                self.server.answer(status)
            elif self.is_late:
                self.late.append(status)
            else:
                self.server.conclude(status)

    def conclude(self) -> None:
        """Gives the oldest verdict that is late, and does what follows from it."""
        self.server.conclude(self.late.popleft())
        self.feed(b"")

    def _note(self, event: Event) -> None:
        """Keeps the event; joined with the one before it where only the slicing parts them."""
        if isinstance(event, Body) and self.events and isinstance(self.events[-1], Body):
            self.events[-1] = Body(self.events[-1].data + event.data)
        elif isinstance(event, Discard) and self.events and isinstance(self.events[-1], Body):
            self.events[-1] = event  # how much of a message came before its first fault depends on the slices
        else:
            self.events.append(event)

    def _judge(self, event: Event) -> Status | None:
        refused = self.settings.refused
        match event:
            case Mail():
                return refused.get(show_path(event.reverse_path), SENDER_OK)
            case Rcpt():
                return refused.get(str(event.recipient.mailbox), RECIPIENT_OK)
            case Begin():
                self._open = Message(show_envelope(event.envelope))
                return refused.get("begin", OK)
            case Atrn():
                return next((refused[domain] for domain in event.domains if domain in refused), TURNING)
            case Etrn():
                return refused.get(event.domain, OK)
            case End():
                assert self._open is not None
                if "end" not in refused:
                    self.messages.append(self._open)
                return refused.get("end", OK)
            case Body():
                assert self._open is not None
                self._open.content += event.data
            case Authenticate():
                credentials = event.credentials
                known = self.settings.logins.get(credentials.username) == credentials.password.reveal()
                return AUTHENTICATED if known else LOGIN_FAILED
            case Close():
                self.is_closed = True
            case Discard():
                self._open = None
            case StartTls():
                pass
        return None


def show_envelope(envelope: Envelope) -> str:
    """`<ann@example.org> to <bob@example.net>`."""
    reverse_path = "<>" if envelope.reverse_path is None else f"<{envelope.reverse_path}>"
    return " ".join([reverse_path, "to", *(f"<{recipient.mailbox}>" for recipient in envelope.recipients)])


def run(dialogue: Dialogue, mode: str) -> Shell:
    """Plays a dialogue against a fresh machine; fails with the marked difference. Returns the shell to look at."""
    shell = Shell(dialogue.settings)
    turns = dialogue.pipelined() if mode == "pipelined" else dialogue.turns
    for turn in turns:
        if turn.after_tls:
            shell.server.tls_started(dialogue.settings.offers())
        sent = turn.sent
        pieces = [bytes([byte]) for byte in sent] if mode == "bytes" else [sent]
        for piece in pieces:
            shell.feed(piece)
        if marked := difference(turn.expected, shell.server.take_output()):
            raise AssertionError(f"{dialogue.name} ({mode}), after {sent[:200]!r}:\n{marked}")
    assert [(m.envelope, m.content) for m in shell.messages] == [(m.envelope, m.content) for m in dialogue.messages]
    assert shell.is_closed == dialogue.closes
    return shell


def slices(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data cut at these places."""
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(places)]
