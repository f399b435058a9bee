"""POP3 replies, read from the wire: RFC 1939 §3, with the response codes of RFC 2449 §8 and RFC 3206.

>>> parser = ReplyParser()
>>> parser.receive(b"-ERR [IN-USE] Somebody reads it\\r\\n")
>>> reply = parser.next_reply()
>>> reply.kind, reply.code, reply.text
(<Kind.ERR: b'-ERR'>, 'IN-USE', 'Somebody reads it')
"""

import re
from dataclasses import dataclass
from enum import Enum

from masqmail.mail.status import Status
from masqmail.proto.errors import PeerError

MAX_LINE_BYTES = 4096  # real servers write more than the 512 they may, RFC 2449 §4
MAX_LISTED_LINES = 256  # ours, for listings that are kept whole: the longest CAPA seen has about twenty

_LINE = re.compile(rb"(\+OK|-ERR|\+)(?: (.*))?", re.DOTALL)
_CODE = re.compile(r"\[([^\[\]\s]{1,64})\] ?(.*)", re.DOTALL)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Kind(Enum):
    """How a reply begins."""

    OK = b"+OK"
    ERR = b"-ERR"
    CHALLENGE = b"+"  # the server wants an answer, RFC 5034 §4


@dataclass(frozen=True, slots=True)
class Reply:
    """The first line of a reply. `code` is a response code in upper case, or empty; `raw` is what `text` was."""

    kind: Kind
    text: str
    code: str = ""
    raw: bytes = b""

    def __str__(self) -> str:
        shown = f"[{self.code}] {self.text}" if self.code else self.text
        return shown.strip() or self.kind.value.decode()


class ReplyParser:
    """Bytes in, replies out; the same replies in whatever slices the bytes come.

    Only who asked knows whether a listing follows a reply: `next_listing` then has its lines.
    """

    def __init__(self) -> None:
        self._inbox = bytearray()
        self._searched = 0  # no line end before this index
        self._listed: list[bytes] = []

    def receive(self, data: bytes) -> None:
        self._inbox += data

    @property
    def pending(self) -> bool:
        """Whether something was received that nobody has taken."""
        return bool(self._inbox or self._listed)

    def next_reply(self) -> Reply | None:
        """The next reply's first line, or None until it is there. Raises `PeerError` for what is none."""
        line = self._take_line()
        if line is None:
            return None
        match = _LINE.fullmatch(line)
        if match is None:
            raise nonsense(f"not a POP3 reply: {_show(line)}")
        raw = match[2] or b""
        kind, text = Kind(match[1]), _text(raw)
        found = _CODE.fullmatch(text) if kind is not Kind.CHALLENGE else None
        return Reply(kind, found[2], found[1].upper(), raw) if found else Reply(kind, text, "", raw)

    def next_listing(self) -> list[bytes] | None:
        """All lines up to the dot that ends them, or None until it is there. Raises `PeerError` for too many."""
        while (line := self._take_line()) is not None:
            if line == b".":
                listed, self._listed = self._listed, []
                return listed
            self._listed.append(line[1:] if line.startswith(b".") else line)  # RFC 1939 §3
            if len(self._listed) > MAX_LISTED_LINES:
                raise nonsense(f"a listing of more than {MAX_LISTED_LINES} lines")
        return None

    def _take_line(self) -> bytes | None:
        """The next line without its CRLF."""
        inbox = self._inbox
        end = inbox.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(inbox)
            if len(inbox) > MAX_LINE_BYTES:
                raise nonsense(f"a line of more than {MAX_LINE_BYTES} bytes: {_show(bytes(inbox))}")
            return None
        line = bytes(inbox[:end])
        del inbox[: end + 1]
        self._searched = 0
        if not line.endswith(b"\r"):  # RFC 1939 §3: CRLF ends a line
            raise nonsense(f"a line that ends without CR: {_show(line)}")
        if len(line) > MAX_LINE_BYTES:
            raise nonsense(f"a line of more than {MAX_LINE_BYTES} bytes: {_show(line)}")
        return line[:-1]


def nonsense(text: str) -> PeerError:
    """The server broke the protocol; another time it may not."""
    return PeerError(Status(451, "4.5.0", text))  # RFC 3463 §3.6


def _text(raw: bytes) -> str:
    return _UNPRINTABLE.sub("?", raw.decode("utf-8", "replace").replace("\t", " "))


def _show(line: bytes) -> str:
    """The beginning of a line, safe to print."""
    text = _text(line[:80].strip())
    return f"{text!r}…" if len(line) > 80 else repr(text)
