"""What `sendmail` reads and writes: the message on standard input as it is handed on, with CRLF up to the end.

Like `cli.sendmail` this imports nothing that costs time to load.
"""

import posix

from masqmail.cli.sendmail_options import Failure, UsageError

BLOCK_BYTES = 65536


class Message:
    """Reads a message from a file descriptor, a block at a time.

    LF, CRLF and a lone CR end a line. Unless `ignore_dots` a line with a single dot ends the message. An mbox
    "From " line before the header is dropped, as every sendmail does.
    """

    def __init__(self, descriptor: int, *, ignore_dots: bool) -> None:
        self._descriptor = descriptor
        self._ignore_dots = ignore_dots
        self._returned = b""  # what was put back
        self._held = b""  # the end of what was read, when what follows decides its meaning
        self._is_first = True
        self._at_line_start = True
        self.is_ended = False

    def read(self) -> bytes:
        """The next block with CRLF line ends; empty only at the end, where the last line gets its CRLF.

        Raises `UsageError` for a NUL byte, which the daemon would not take either, and `Failure` when the input
        cannot be read.
        """
        if self._returned:
            block, self._returned = self._returned, b""
            return block
        while not self.is_ended:
            if block := self._next_block():
                if b"\0" in block:
                    raise UsageError("the message has a NUL byte in it, which mail cannot carry", posix.EX_DATAERR)
                return block.replace(b"\n", b"\r\n")
        return b""

    def put_back(self, block: bytes) -> None:
        """Has `read` give what it gave last once more; nothing changes when that was nothing."""
        self._returned = block or self._returned

    def take_uucp_sender(self) -> str | None:
        """Reads the lines that UUCP put before the header, and gives the address they name; None without one.

        `From ann Fri Nov 21 07:00 2026 remote from gate` is `ann@gate`; the last line is the one nearest to the
        author, and of a path `a!b!ann` the end counts. To be called before anything is read, with `ignore_dots`.
        """
        self._held = self._fill()
        sender = None
        while self._held.startswith((b"From ", b">From ")) and b"\n" in self._held:
            line, _, self._held = self._held.partition(b"\n")
            words = line.decode("ascii", "replace").split()
            if len(words) > 4 and words[-3:-1] == ["remote", "from"]:
                host, _, user = f"{words[-1]}!{words[1]}".rpartition("!")
                sender = words[1] if "@" in words[1] or words[1] == "<>" else f"{user}@{host.rpartition('!')[2]}"
            self._is_first = False
        self.is_ended = False  # to be found once more, behind what is held
        return sender

    def _next_block(self) -> bytes:
        """The next block with LF line ends."""
        text = self._held + self._fill()
        self._held = b""
        if text.endswith(b"\r") and not self.is_ended:
            text, self._held = text[:-1], b"\r"
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._is_first and text:
            self._is_first = False
            if text.startswith((b"From ", b">From ")) and b"\n" in text:
                text = text[text.index(b"\n") + 1 :]
        if not self._ignore_dots:
            text = self._up_to_dot(text)
        if text:
            self._at_line_start = text.endswith(b"\n")
        if self.is_ended and not self._at_line_start:
            self._at_line_start = True
            text += b"\n"
        return text

    def _fill(self) -> bytes:
        """Reads until a block is full or the input ends; on a terminal also a dot is worth a look."""
        parts, size = [], 0
        while size < BLOCK_BYTES:
            try:
                part = posix.read(self._descriptor, BLOCK_BYTES)
            except OSError as error:
                raise Failure(f"cannot read the message: {error.strerror}", posix.EX_NOINPUT) from None
            if not part:
                self.is_ended = True
                break
            parts.append(part)
            size += len(part)
            if not self._ignore_dots and (b"\n" + part).endswith((b"\n.\n", b"\n.\r\n")):
                break
        return b"".join(parts)

    def _up_to_dot(self, text: bytes) -> bytes:
        """What stands before a line with a single dot; ends the message there."""
        lines = b"\n" + text if self._at_line_start else text
        skipped = len(lines) - len(text)
        end = lines.find(b"\n.\n")
        if end < 0 and self.is_ended and lines.endswith(b"\n."):
            end = len(lines) - 2
        if end >= 0:
            self.is_ended = True
            return lines[skipped : end + 1]
        if lines.endswith(b"\n."):
            self._held = b"." + self._held
            return text[:-1]
        return text


def write_all(descriptor: int, data: bytes) -> None:
    """Writes everything, however little the system takes at a time."""
    while data:
        data = data[posix.write(descriptor, data) :]
