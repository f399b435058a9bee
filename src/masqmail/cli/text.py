"""How the commands write for people: aligned, short, in colour on a terminal."""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from masqmail.mail.size import in_words

_COLOURS = {"green": "32", "yellow": "33", "red": "31", "bold": "1", "dim": "2"}

#: The colour of a state, of a link, a route or a recipient.
STATE_COLOURS = {
    "up": "green",
    "ready": "green",
    "delivered": "green",
    "down": "dim",
    "unknown": "dim",
    "waiting": "dim",
    "queued": "bold",
    "fetching": "bold",
    "manual": "dim",
    "deferred": "yellow",
    "paused": "yellow",
    "held": "yellow",
    "failed": "red",
}

#: A column narrower than this is not worth wrapping text in.
_NARROWEST = 30


def use_colour() -> bool:
    """On a terminal, unless the user says no (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """The text in a colour where that is wanted."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colour and use_colour() else text


def paint_state(state: str) -> str:
    return paint(state, STATE_COLOURS.get(state, ""))


def clean(value: Any) -> Any:
    """A document whose texts move no cursor and break no line, whatever a stranger put into them."""
    if isinstance(value, str):
        return value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in _joined(value))
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {name: clean(item) for name, item in value.items()}
    return value


def _joined(text: str) -> str:
    return " ".join(text.split()) if "\n" in text else text


def clean_lines(data: bytes) -> bytes:
    """The same for lines of a message that go to a terminal."""
    return b"".join(bytes([octet]) if octet in b"\t\n" or 32 <= octet != 127 else b"?" for octet in data)


def table(rows: Iterable[Sequence[str]], *, indent: str = "") -> str:
    """Columns aligned by their widest cell. On a terminal the last one is wrapped, else it is as long as it likes."""
    cells = [list(row) for row in rows]
    if not cells:
        return ""
    widths = [max(map(len, column)) for column in list(zip(*cells, strict=True))[:-1]]
    left = len(indent) + sum(width + 2 for width in widths)
    lines = []
    for row in cells:
        padded = [paint_state(cell) + " " * (width - len(cell)) for cell, width in zip(row, widths, strict=False)]
        first, *others = _wrapped(row[-1], left)
        lines.append((indent + "  ".join([*padded, paint_state(first)])).rstrip())
        lines += [" " * left + other for other in others]
    return "\n".join(lines)


def _wrapped(text: str, left: int) -> list[str]:
    """A text in lines that fit beside what stands `left` of it."""
    room = _terminal_columns() - left if sys.stdout.isatty() else 0
    if room < _NARROWEST or len(text) <= room:
        return [text]
    import textwrap

    return textwrap.wrap(text, room, break_on_hyphens=False)


def _terminal_columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def count(number: int, noun: str) -> str:
    """ "1 message", "2 messages"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def size(size_bytes: int) -> str:
    """A size as people say it: powers of 1000."""
    return in_words(size_bytes)


def duration(span: timedelta) -> str:
    """A time span in its largest one or two units: "4 h 10 min"."""
    seconds = max(0, round(span.total_seconds()))
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for index, (unit, length) in enumerate(units):
        if seconds >= length:
            whole, rest = divmod(seconds, length)
            if index + 1 < len(units) and (smaller := rest // units[index + 1][1]) and whole < 10:
                return f"{whole} {unit} {smaller} {units[index + 1][0]}"
            return f"{whole} {unit}"
    return "0 s"


def since(instant: str | None, now: datetime | None = None) -> str:
    """How long ago an ISO 8601 instant was, or how far ahead it is."""
    if not instant:
        return ""
    span = datetime.fromisoformat(instant) - (now or datetime.now(UTC))
    if abs(span) < timedelta(seconds=1):
        return "now"
    return f"in {duration(span)}" if span > timedelta(0) else f"{duration(-span)} ago"


def local_time(instant: str) -> str:
    """An ISO 8601 instant by the clock on the wall."""
    return f"{datetime.fromisoformat(instant).astimezone():%Y-%m-%d %H:%M:%S}"
