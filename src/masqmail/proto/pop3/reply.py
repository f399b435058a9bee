"""POP3 replies, read from the wire: RFC 1939 §3, with the response codes of RFC 2449 §8 and RFC 3206.

>>> parser = ReplyParser()
>>> parser.receive(b"-ERR [IN-USE] Somebody reads it\\r\\n")
>>> reply = parser.next_reply()
>>> reply.kind, reply.code, reply.text
(<Kind.ERR: b'-ERR'>, 'IN-USE', 'Somebody reads it')
"""

import re
from enum import Enum

from masqmail.frozen import frozen
from masqmail.proto.lines import ReplyLines, nonsense, printable, shown

MAX_LISTED_LINES = 256  # ours, for listings that are kept whole: the longest CAPA seen has about twenty

_LINE = re.compile(rb"(\+OK|-ERR|\+)(?: (.*))?", re.DOTALL)
_END = b".\r\n"  # in the place of a line
_CRLF_AND_END = b"\r\n" + _END
_CODE = re.compile(r"\[([^\[\]\s]{1,64})\] ?(.*)", re.DOTALL)


class Kind(Enum):
    """How a reply begins."""

    OK = b"+OK"
    ERR = b"-ERR"
    CHALLENGE = b"+"  # the server wants an answer, RFC 5034 §4


@frozen
class Reply:
    """The first line of a reply. `code` is a response code in upper case, or empty; `raw` is what `text` was."""

    kind: Kind
    text: str
    code: str = ""
    raw: bytes = b""

    def __str__(self) -> str:
        shown = f"[{self.code}] {self.text}" if self.code else self.text
        return shown.strip() or self.kind.value.decode()


class ReplyParser(ReplyLines):
    """Bytes in, replies out; the same replies in whatever slices the bytes come.

    Only who asked knows whether more follows a reply: `next_listing` has the lines of a short listing, `next_text`
    any text, piece by piece.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listed: list[bytes] = []
        self._at_line_start = False  # of the text
        self._at_end = False  # of the text

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
            raise nonsense(f"not a POP3 reply: {shown(line)}")
        raw = match[2] or b""
        kind, text = Kind(match[1]), printable(raw)
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

    def begin_text(self) -> None:
        """Lines up to a dot follow."""
        self._at_line_start, self._at_end = True, False

    def next_text(self) -> bytes | None:
        """The next piece of a text with its dots undone (RFC 1939 §3), or None until there is one.

        `b""` says that the text is over. Lines may have any length, pieces begin and end anywhere.
        """
        inbox = self._inbox
        if self._at_end:
            self._at_end = False
            return b""
        if self._at_line_start and _END.startswith(inbox[: len(_END)]):
            if len(inbox) < len(_END):
                return None  # it may become one
            del inbox[: len(_END)]
            return b""
        end = inbox.find(_CRLF_AND_END)
        self._at_end = end >= 0
        stop = end + 2 if self._at_end else len(inbox) - _length_of_begun_end(inbox)
        if not stop:
            return None
        text = bytes(inbox[:stop])
        del inbox[: stop + len(_END) if self._at_end else stop]
        if self._at_line_start and text.startswith(b"."):
            text = text[1:]
        self._at_line_start = False
        return text.replace(b"\r\n.", b"\r\n")


def _length_of_begun_end(inbox: bytearray) -> int:
    """How many of the last bytes may be the beginning of the end of a text."""
    return next((size for size in (4, 3, 2, 1) if inbox.endswith(_CRLF_AND_END[:size])), 0)
