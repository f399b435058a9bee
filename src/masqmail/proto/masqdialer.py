"""The masqdialer protocol, the client's side: the name of the dial-up connection that is up. TCP port 224 (IANA).

```text
S: READY
C: STAT
S: DOWN, or UP NAME:N     N is the speed; below 0 the connection is still being made
C: QUIT                   without an end of line
```

What masqdialer 0.97e describes and what it does differ: a colon may stand for the blank, and text may follow READY.
Imports nothing, since `mservdetect` has to start fast.
"""

PORT = 224

#: The server may take so long for each of its lines.
LINE_SECONDS = 15.0

#: The longest line, with its end, that the original read.
MAX_LINE_BYTES = 255

#: Blank lines do not count, up to so much of them.
MAX_BLANK_BYTES = 4096

_SHOWN_CHARACTERS = 40


class Inquiry:
    """One dialogue: bytes in, bytes out. It knows no socket and no clock; each line is to come in LINE_SECONDS.

    Once it `is_over`, one of `online`, `dialling` and `fault` is set, or none of them: then no connection is up.
    Half a line, a server that leaves early and one that says anything else are faults, never an answer.
    """

    def __init__(self) -> None:
        self.is_over = False
        self.lines = 0  # so many of the server's lines were taken
        self.online = ""  # the connection that is up
        self.dialling = ""  # the connection that is being made
        self.fault = ""  # what the server did wrong: a sentence without its subject
        self._inbox = b""
        self._blank_bytes = 0

    def receive(self, data: bytes) -> bytes:
        """Takes what the server sent, `b""` when it closed, and returns what to send to it."""
        if self.is_over:
            return b""
        if not data:
            self._fail("hung up before it had answered")
            return b""
        self._inbox += data
        reply = b""
        while not self.is_over and (line := self._take_line()):
            reply += self._answer(line)
        return reply

    def expire(self) -> None:
        """Gives up: LINE_SECONDS are over and no line came."""
        if not self.is_over:
            self._fail(f"sent no line within {LINE_SECONDS:g} s")

    def _take_line(self) -> bytes:
        """The next line without the blanks around it; empty when there is none yet."""
        while True:
            line, end, rest = self._inbox.partition(b"\n")
            if len(line + end) > MAX_LINE_BYTES:
                self._fail(f"sent a line of more than {MAX_LINE_BYTES} bytes")
                return b""
            if not end:
                return b""
            self._inbox = rest
            if stripped := line.strip():
                return stripped
            self._blank_bytes += len(line + end)
            if self._blank_bytes > MAX_BLANK_BYTES:
                self._fail("sends nothing but blank lines")
                return b""

    def _answer(self, line: bytes) -> bytes:
        self.lines += 1
        if self.lines > 1:
            self._judge(line)
            self.is_over = True
            return b"QUIT"
        if line.startswith(b"READY"):
            return b"STAT\n"
        self._fail(f"said {_shown(line)} instead of READY")
        return b"QUIT"

    def _judge(self, line: bytes) -> None:
        """The answer to STAT."""
        if line.startswith(b"DOWN"):
            return
        word, separator = line[:2], line[2:3]
        name, _, number = line[3:].partition(b":")
        text, speed = _text(name), _leading_number(number)
        if word != b"UP" or separator not in (b" ", b"\t", b":") or not text or speed is None:
            self._fail(f"answered {_shown(line)}, which makes no sense")
        elif speed < 0:
            self.dialling = text
        else:
            self.online = text

    def _fail(self, fault: str) -> None:
        self.fault = fault
        self.is_over = True


def _text(name: bytes) -> str:
    """A name as text; empty when it cannot be one."""
    try:
        text = name.decode().strip()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def _leading_number(text: bytes) -> int | None:
    """The whole number a text begins with, as C's atoi reads it; None without a digit."""
    text = text.lstrip()
    sign, digits = text[:1], text[1:] if text[:1] in (b"-", b"+") else text
    length = len(digits) - len(digits.lstrip(b"0123456789"))
    return int(digits[:length]) * (-1 if sign == b"-" else 1) if length else None


def _shown(line: bytes) -> str:
    """A line that makes no sense, for people."""
    text = ascii(line[:_SHOWN_CHARACTERS].decode(errors="replace"))[1:-1]
    return f'"{text}{"…" if len(line) > _SHOWN_CHARACTERS else ""}"'
