"""Lines that end in CRLF, cut from a stream of bytes, and the check that nothing else looks like a line end.

A server of ours reads with a `LineBuffer`, our clients with what they build on `ReplyLines`.

Programs that disagree about what ends a line can be made to disagree about where a message ends ("SMTP
smuggling"). So a CR or LF that stands alone is never a line end here, and never repaired into one
(RFC 5321 §2.3.8).
"""

import re
from collections.abc import Mapping

from masqmail.mail.status import Status
from masqmail.proto.errors import PeerError

#: How much of one bad line is skipped before we give up on the peer. Ours; RFC 5321 names no number.
MAX_SKIPPED_BYTES = 1 << 20

LINE_TOO_LONG = Status(500, "5.5.2", "Line too long")  # RFC 5321 §4.5.3.1.9
BAD_LINE_END = Status(500, "5.5.2", "Lines must end in CRLF, and a CR or LF alone has no place in them")
ENDLESS_LINE = Status(421, "4.7.0", "Too much without an end of line, closing")

#: The longest line of a reply. Real servers write more than the 512 bytes of RFC 5321 §4.5.3.1.5 and RFC 2449 §4.
MAX_RECEIVED_LINE_BYTES = 4096

#: For lines that are all bounded alike.
NO_LONGER_LINES: Mapping[bytes, int] = {}

_NUL, _LF, _CR = 0x00, 0x0A, 0x0D  # numbers are sought in bytes a lot faster than bytes of one octet
_LINE_END = re.compile(rb"[\r\n]")
_LONE_CR = re.compile(rb"\r[^\n]")  # these two are faster than counting the pairs
_LONE_LF = re.compile(rb"\n(?<!\r\n)")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class LineBuffer:
    """Bytes in, lines out, or raw bytes where the protocol changes to them. Holds one line at most.

    A line that is too long or holds a lone CR or LF is reported once, as soon as that is certain, and skipped
    up to its CRLF. What is reported does not depend on the slices the bytes come in.
    """

    def __init__(self) -> None:
        self.is_empty = True  # no byte is left
        self._data = b""
        self._start = 0
        self._searched_bytes = 0  # so many from the start hold no line end
        self._skipped_bytes: int | None = None  # a number while the rest of a bad line is skipped

    def __len__(self) -> int:
        return len(self._data) - self._start

    def feed(self, data: bytes) -> None:
        self._data = data if self.is_empty else self._data[self._start :] + data
        self._start = 0
        self.is_empty = not self._data

    def peek(self, size: int) -> bytes:
        """The beginning of the next line, as much as is there, without taking it. Raises as `take_line` does."""
        if self._skipped_bytes is not None and not self._skip():
            return b""
        return self._data[self._start : self._start + size]

    def take_line(self, max_bytes: int, longer: Mapping[bytes, int] = NO_LONGER_LINES) -> bytes | None:
        """The next line without its CRLF, or None until it is complete.

        `longer` lists the lines that may have more bytes, by their first five in upper case. Raises `PeerError`
        for a bad line (500), and for one that goes on for ever (421).
        """
        data, start = self._data, self._start
        if self._skipped_bytes is None and not self._searched_bytes:
            end = data.find(b"\r\n", start, start + max_bytes + 2)
            line = data[start:end]
            if end >= 0 and _LF not in line and _CR not in line:  # as nearly always
                self._start = end + 2
                self.is_empty = end + 2 == len(data)
                return line
        return self._take_odd_line(max_bytes, longer)

    def _take_odd_line(self, max_bytes: int, longer: Mapping[bytes, int]) -> bytes | None:
        """The same for all lines: one that is long, bad or only begun."""
        if self._skipped_bytes is not None and not self._skip():
            return None
        data, start = self._data, self._start
        max_bytes = longer.get(data[start : start + 5].upper(), max_bytes)
        match = _LINE_END.search(data, start + self._searched_bytes, start + max_bytes + 1)
        if match is None:
            if len(data) - start > max_bytes:
                raise self._bad_line(LINE_TOO_LONG, start + max_bytes + 1)
            self._searched_bytes = len(data) - start
            return None
        end = match.start()
        self._searched_bytes = 0
        if data.startswith(b"\r\n", end):
            self._start = end + 2
            self.is_empty = end + 2 == len(data)
            return data[start:end]
        if data[end] == _CR and end + 1 == len(data):
            return None  # its LF may follow
        raise self._bad_line(BAD_LINE_END, end + 1)

    def take(self, max_bytes: int) -> bytes:
        """At most `max_bytes` raw bytes."""
        start = self._start
        self._start = min(start + max_bytes, len(self._data))
        self.is_empty = self._start == len(self._data)
        return self._data[start : self._start]

    def take_all(self) -> bytes:
        """All bytes that are there."""
        data = self._data[self._start :] if self._start else self._data
        self._data, self._start, self.is_empty = b"", 0, True
        return data

    def _bad_line(self, status: Status, judged: int) -> PeerError:
        self._start = judged
        self.is_empty = judged == len(self._data)
        self._searched_bytes = 0
        self._skipped_bytes = 0
        return PeerError(status)

    def _skip(self) -> bool:
        """Drops the rest of a bad line; true when there is none any more."""
        assert self._skipped_bytes is not None
        end = self._data.find(b"\r\n", self._start)
        if end < 0:  # a CR at the end may be half of it
            stop = len(self._data) - (1 if len(self) and self._data.endswith(b"\r") else 0)
        else:
            stop = end
        self._skipped_bytes += stop - self._start
        if self._skipped_bytes > MAX_SKIPPED_BYTES:
            raise PeerError(ENDLESS_LINE)
        self._start = stop if end < 0 else end + 2
        self.is_empty = self._start == len(self._data)
        if end < 0:
            return False
        self._skipped_bytes = None
        return True


class ReplyLines:
    """Bytes of a server in, its lines out: what the parsers of replies build on."""

    def __init__(self) -> None:
        self._inbox = bytearray()
        self._searched = 0  # no line end before this index

    def receive(self, data: bytes) -> None:
        self._inbox += data

    def _take_line(self) -> bytes | None:
        """The next line without its CRLF, or None until it is there. Raises `PeerError` for a bad or long one."""
        inbox = self._inbox
        end = inbox.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(inbox)
            if len(inbox) > MAX_RECEIVED_LINE_BYTES:
                raise nonsense(f"a reply line of more than {MAX_RECEIVED_LINE_BYTES} bytes: {shown(bytes(inbox))}")
            return None
        line = bytes(inbox[:end])
        del inbox[: end + 1]
        self._searched = 0
        if not line.endswith(b"\r"):  # RFC 5321 §2.3.8 and RFC 1939 §3: only CRLF ends a line
            raise nonsense(f"a line that ends without CR: {shown(line)}")
        if len(line) > MAX_RECEIVED_LINE_BYTES:
            raise nonsense(f"a reply line of more than {MAX_RECEIVED_LINE_BYTES} bytes: {shown(line)}")
        return line[:-1]


def nonsense(text: str) -> PeerError:
    """A server broke the protocol; another time it may not."""
    return PeerError(Status(451, "4.5.0", text))  # RFC 3463 §3.6


def printable(raw: bytes) -> str:
    """What a server wrote as text, without control characters."""
    return _UNPRINTABLE.sub("?", raw.decode("utf-8", "replace").replace("\t", " "))


def shown(line: bytes) -> str:
    """The beginning of a line, safe to print."""
    text = printable(line[:80].strip())
    return f"{text!r}…" if len(line) > 80 else repr(text)


class TextCheck:
    """Whether message text, given in any slices, has CR and LF in pairs only, and no NUL.

    RFC 5321 §2.3.8 forbids lone ones in text. NUL is ours: RFC 5321 §4.1.1.4 advises against it, RFC 5322
    §3.5 has no place for it, and programs on the way cut text at it.
    """

    def __init__(self) -> None:
        self.is_clean = True
        self.ends_in_cr = False  # decided by the byte that follows, or by the end of the text

    def feed(self, text: bytes, *, may_have_lone_cr: bool = True) -> None:
        """Judges more text; who knows that each CR in it has its LF, or stands at its end, may say so."""
        if not text:
            return
        start = 0
        if self.ends_in_cr:
            start = 1  # the LF there is no lone one
            if text[0] != _LF:
                self.is_clean = False
        self.ends_in_cr = text[-1] == _CR
        if _LONE_LF.search(text, start) or (may_have_lone_cr and _LONE_CR.search(text)) or _NUL in text:
            self.is_clean = False

    def finish(self) -> None:
        """Nothing follows: a CR at the end is a lone one."""
        if self.ends_in_cr:
            self.is_clean = False
