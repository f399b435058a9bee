"""Message content on its way out: dot-stuffed for DATA, counted for BDAT.

Content comes in slices of any size, with CRLF line ends, and is never held.
"""

from typing import Protocol

from masqmail.proto.errors import UsageError


class BodyWriter(Protocol):
    """Content in, octets for the wire out."""

    def write(self, chunk: bytes) -> bytes: ...

    def end(self) -> bytes:
        """What follows the content."""

    @property
    def is_complete(self) -> bool:
        """Whether the server can take the message for whole, with what was written so far."""


class Chunk:
    """The content of one BDAT, as it is: RFC 3030 §2.

    Raises `UsageError` for content of another length than was said; the connection cannot be used after that.
    """

    def __init__(self, size_bytes: int) -> None:
        self._missing = size_bytes

    def write(self, chunk: bytes) -> bytes:
        self._missing -= len(chunk)
        if self._missing < 0:
            raise UsageError("the message is longer than its size said")
        return chunk

    def end(self) -> bytes:
        if self._missing:
            raise UsageError(f"the message is {self._missing} bytes shorter than its size said")
        return b""

    @property
    def is_complete(self) -> bool:
        return not self._missing


class DotStuffing:
    """The content of DATA: a dot more on each line that begins with one, then the final dot. RFC 5321 §4.5.2.

    Raises `UsageError` as `Chunk` does, so that half a message never gets its final dot.
    """

    def __init__(self, size_bytes: int) -> None:
        self._content = Chunk(size_bytes)
        self._tail = b"\r\n"  # the last two bytes: the content begins on a fresh line
        self._is_ended = False

    def write(self, chunk: bytes) -> bytes:
        stuffed = self._content.write(chunk).replace(b"\r\n.", b"\r\n..")
        if chunk.startswith(b".") and self._tail == b"\r\n":
            stuffed = b"." + stuffed
        elif chunk.startswith(b"\n.") and self._tail.endswith(b"\r"):
            stuffed = b"\n.." + stuffed[2:]
        self._tail = (self._tail + chunk)[-2:] if len(chunk) < 2 else chunk[-2:]
        return stuffed

    def end(self) -> bytes:
        self._content.end()
        self._is_ended = True
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"

    @property
    def is_complete(self) -> bool:
        return self._is_ended
