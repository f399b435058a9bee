"""SMTP replies on the wire: written from a `Status`, read back into one. RFC 5321 §4.2, RFC 2034.

>>> format_reply(Status(250, "2.1.5", "Fine"))
b'250 2.1.5 Fine\\r\\n'
"""

import re
from functools import lru_cache

from masqmail.mail.status import Status
from masqmail.proto.lines import ReplyLines, nonsense, printable, shown

MAX_REPLY_LINE_BYTES = 512  # RFC 5321 §4.5.3.1.5; what we send keeps to it
_SHORT_TEXT_BYTES = 400  # with its codes certainly no longer than a line may be
MAX_RECEIVED_LINES = 256  # ours: the longest EHLO reply seen has about thirty

_LINE = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245])\.(?:0|[1-9]\d{0,2})\.(?:0|[1-9]\d{0,2})(?= |$)", re.ASCII)
_WEB_SERVER = ", as a web server writes; does this network want a login in the browser first?"  # a captive portal
_NOT_ASCII_TEXT = re.compile(r"[^\x20-\x7e]")


def format_reply(status: Status) -> bytes:
    """A reply as it goes out. Each line of the text becomes a line of the reply, with the enhanced code.

    What is no printable ASCII becomes `?` (RFC 5321 §4.2), and a line is cut at 512 bytes.
    """
    text = status.text
    if status.enhanced and text.isascii() and text.isprintable() and 0 < len(text) <= _SHORT_TEXT_BYTES:
        return f"{status.code} {status.enhanced} {text}".rstrip(" ").encode("ascii") + b"\r\n"  # nearly every one
    lines = status.text.splitlines() or [""]
    last = len(lines) - 1
    return b"".join(_format_line(status, "-" if i < last else " ", line) for i, line in enumerate(lines))


def _format_line(status: Status, separator: str, text: str) -> bytes:
    words = f"{status.enhanced} {text}" if status.enhanced else text
    line = _NOT_ASCII_TEXT.sub("?", f"{status.code}{separator}{words}")
    return line[: MAX_REPLY_LINE_BYTES - 2].rstrip(" ").encode("ascii") + b"\r\n"


class ReplyParser(ReplyLines):
    """Bytes in, replies out; the same replies in whatever slices the bytes come.

    A reply's text has its lines separated by line feeds, without enhanced codes and control characters. An
    enhanced code that does not agree with the reply code is left in the text.
    """

    def __init__(self) -> None:
        super().__init__()
        self._code = b""
        self._lines: list[bytes] = []

    @property
    def pending(self) -> bytes:
        """What was received and belongs to no complete reply yet."""
        return b"".join(self._code + b"-" + line + b"\r\n" for line in self._lines) + bytes(self._inbox)

    def next_reply(self) -> Status | None:
        """The next complete reply, or None until there is one. Raises `PeerError` for what is no reply."""
        while (line := self._take_line()) is not None:
            if not self._lines and line[3:4] != b"-":
                return _read_single(line)
            match = _match(line)
            code, separator, text = match[1], match[2], match[3] or b""
            if self._lines and code != self._code:  # RFC 5321 §4.2.1
                raise nonsense(f"a reply that begins with {self._code.decode()} goes on with {shown(line)}")
            if separator != b"-":
                lines, self._lines = [*self._lines, text], []
                return _to_status(int(code), lines)
            self._code = code
            self._lines.append(text)
            if len(self._lines) >= MAX_RECEIVED_LINES:
                raise nonsense(f"a reply of more than {MAX_RECEIVED_LINES} lines")
        return None


@lru_cache(maxsize=64)
def _read_single(line: bytes) -> Status:
    """The reply that is a single line; most are always the same."""
    match = _match(line)
    return _to_status(int(match[1]), [match[3] or b""])


def _match(line: bytes) -> re.Match[bytes]:
    match = _LINE.fullmatch(line)
    if match is None:
        hint = _WEB_SERVER if line.startswith(b"HTTP/") else ""
        raise nonsense(f"not an SMTP reply: {shown(line)}{hint}")
    return match


def _to_status(code: int, raw_lines: list[bytes]) -> Status:
    lines = [printable(line) for line in raw_lines]
    match = _ENHANCED.match(lines[0])
    if match is None or int(match[1]) != code // 100:
        return Status(code, "", "\n".join(lines))
    return Status(code, match[0], "\n".join(_without_enhanced(line) for line in lines))


def _without_enhanced(line: str) -> str:
    match = _ENHANCED.match(line)
    return line[match.end() + 1 :] if match else line
