"""Message text on its way in: the end of DATA (RFC 5321 §4.1.1.4, §4.5.2) and the pieces of BDAT (RFC 3030).

Both work on whole buffers, never line by line, and both judge the text with a `TextCheck`.
"""

import re

from masqmail.proto.lines import TextCheck

END_OF_DATA = b"\r\n.\r\n"
_STUFFED = b"\r\n."
_ODD_CR = re.compile(rb"\r(?!\n(?!\.))")  # one before a dot, or a lone one


class DataReader:
    """Takes the dots out of what follows DATA and finds its end: CRLF.CRLF and nothing else.

    The first CRLF of that sequence may be the one behind the DATA command (RFC 5321 §4.1.1.4), which is why
    reading starts with it.
    """

    def __init__(self, check: TextCheck) -> None:
        #: CR CRLF.CRLF ended the text. A client may not have meant that as the end: what follows could come
        #: from inside a message, so no command may be read from it.
        self.is_end_doubtful = False
        self._check = check
        self._held = b"\r\n"
        self._has_text = False  # the CRLF we began with is behind us

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """More of the stream in; the text found and, once the text has ended, what follows it (else None)."""
        data = self._held + data
        odd = _ODD_CR.search(data)
        first = odd.start() if odd else -1
        end = data.find(END_OF_DATA, first) if odd else -1
        is_plain = first == end  # nothing odd stands before the end
        if end >= 0:
            self._held = b""
            self.is_end_doubtful = data[end - 1] == 0x0D if end else self._check.ends_in_cr
            return self._take(data, end + 2, is_plain), data[end + len(END_OF_DATA) :]
        stop = len(data) - _begun_end(data)
        self._held = data[stop:]
        return self._take(data, stop, is_plain), None

    def _take(self, data: bytes, stop: int, is_plain: bool) -> bytes:
        """The text up to there, judged and without its dots."""
        text = data[:stop]
        if not is_plain:
            text = text.replace(_STUFFED, b"\r\n")
        if not self._has_text and text:
            self._has_text = True
            text = text[2:]
        self._check.feed(text, may_have_lone_cr=not is_plain)
        return text


class ChunkReader:
    """Joins the chunks of one message. They end anywhere, also between a CR and its LF."""

    def __init__(self, check: TextCheck) -> None:
        self._check = check
        self._end = b""

    def feed(self, chunk: bytes) -> None:
        """A piece of a chunk, which needs no change."""
        self._check.feed(chunk)
        self._end = (self._end + chunk[-2:])[-2:]

    def finish(self) -> bytes:
        """After the last chunk: the line end that is missing, if one is. Ours; RFC 3030 wants none added."""
        self._check.finish()
        return b"" if self._end in (b"", b"\r\n") else b"\r\n"


def _begun_end(data: bytes) -> int:
    """How many bytes at the end of `data` could be the beginning of the end of the text."""
    for size in range(len(END_OF_DATA) - 1, 0, -1):
        if data.endswith(END_OF_DATA[:size]):
            return size
    return 0
