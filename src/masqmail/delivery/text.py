"""How a message looks in a file on this host: LF line ends, and in an mbox quoted From lines.

All work on pieces of any size and give pieces back; where the cuts are never matters.
"""

import re
from collections.abc import Iterable, Iterator

_FROM = re.compile(rb"^(>*)From ", re.MULTILINE)
_UNDECIDED = re.compile(rb">*((?:F(?:r(?:om?)?)?)?)")


def with_lf(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Takes the CR from each CRLF and changes nothing else."""
    held = b""
    for piece in pieces:
        data = held + piece
        held = b"\r" if data.endswith(b"\r") else b""
        if data := (data[:-1] if held else data).replace(b"\r\n", b"\n"):
            yield data
    if held:
        yield held


def with_quoted_from(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Puts a `>` before each line that begins with `From `, `>From ` and so on (mboxrd).

    Undone by taking one `>` from each line that matches `^>+From `. A `>` more in front of a row of them is the
    same wherever in the row it is added, so only the letters have to be kept back at the end of a piece.
    """
    held = b""
    at_start = True  # only `>` so far in the line that the next piece goes on with
    for piece in pieces:
        data = held + piece
        begin = 0 if at_start else data.find(b"\n") + 1
        goes_on = not at_start and not begin  # still in the line of the piece before
        last_line = data[data.rfind(b"\n") + 1 :]
        undecided = None if goes_on else _UNDECIDED.fullmatch(last_line)
        at_start = undecided is not None
        held = undecided[1] if undecided else b""
        ready = data[: len(data) - len(held)]
        if b"From " in ready:
            ready = ready[:begin] + (ready[begin:] if goes_on else _FROM.sub(rb">\1From ", ready[begin:]))
        if ready:
            yield ready
    if held:
        yield held
