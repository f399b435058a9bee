"""Reads one answer of the control socket: just as much of HTTP/1.1 (RFC 9112) as our own daemon speaks.

The library's client brings half of the mail package with it, which takes longer to load than most commands run.
"""

from collections.abc import Callable, Iterator

MAX_HEAD_BYTES = 65536

_LF = b"\n"


class HalfAnswer(Exception):
    """The connection ended before the answer did, or what came is no answer."""


class Answer:
    """One answer, read from `receive`, which gives the next bytes and nothing at the end.

    Everything raises `HalfAnswer`, and whatever `receive` raises.
    """

    def __init__(self, receive: Callable[[], bytes]) -> None:
        """Reads the status line and the header."""
        self._receive = receive
        self._inbox = b""
        version, status, self.reason = (*self._line(MAX_HEAD_BYTES).decode("latin-1").split(" ", 2), "", "")[:3]
        if not version.startswith("HTTP/1.") or not status.isdecimal():
            raise HalfAnswer
        self.status = int(status)
        self._header = self._read_header()

    def pieces(self) -> Iterator[bytes]:
        """The content as it comes. Its length is always told: an answer that just ends was cut off."""
        if self._header.get("transfer-encoding", "").lower() == "chunked":
            while size := _number(self._line(MAX_HEAD_BYTES).partition(b";")[0], 16):
                yield from self._exactly(size)
                if self._line(2):
                    raise HalfAnswer
            self._read_header()  # the trailer
        else:
            yield from self._exactly(_number(self._header.get("content-length", "").encode(), 10))

    def _read_header(self) -> dict[str, str]:
        header: dict[str, str] = {}
        room = MAX_HEAD_BYTES
        while line := self._line(room):
            name, _, value = line.decode("latin-1").partition(":")
            header[name.lower()] = value.strip()
            room -= len(line)
        return header

    def _line(self, room: int) -> bytes:
        """The next line, without its end."""
        while _LF not in self._inbox:
            if len(self._inbox) > room:
                raise HalfAnswer
            self._inbox += self._more()
        line, _, self._inbox = self._inbox.partition(_LF)
        return line.removesuffix(b"\r")

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            data = self._inbox or self._more()
            piece, self._inbox = data[:size], data[size:]
            size -= len(piece)
            yield piece

    def _more(self) -> bytes:
        data = self._receive()
        if not data:
            raise HalfAnswer
        return data


def _number(digits: bytes, base: int) -> int:
    if not digits.isalnum():  # a sign, for example
        raise HalfAnswer
    try:
        return int(digits, base)
    except ValueError:
        raise HalfAnswer from None
