"""How the commands write for people: aligned, short, in colour on a terminal."""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

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
    "deferred": "yellow",
    "paused": "yellow",
    "held": "yellow",
    "failed": "red",
}


def use_colour() -> bool:
    """On a terminal, unless the user says no (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """The text in a colour where that is wanted."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colour and use_colour() else text


def paint_state(state: str) -> str:
    return paint(state, STATE_COLOURS.get(state, ""))


def table(rows: Iterable[Sequence[str]], *, indent: str = "") -> str:
    """Columns aligned by their widest cell; the last one is as long as it likes."""
    cells = [[_clean(cell) for cell in row] for row in rows]
    if not cells:
        return ""
    widths = [max(len(row[column]) for row in cells if column < len(row)) for column in range(max(map(len, cells)))]
    lines = []
    for row in cells:
        padded = [_pad(cell, widths[column]) for column, cell in enumerate(row[:-1])]
        lines.append((indent + "  ".join([*padded, row[-1]])).rstrip())
    return "\n".join(lines)


def _pad(cell: str, width: int) -> str:
    return paint_state(cell) + " " * (width - len(cell))


def _clean(cell: str) -> str:
    """A cell never moves the cursor or breaks a line, whatever a peer put into it."""
    return "".join(character if character.isprintable() else "?" for character in cell.replace("\n", " "))


def size(size_bytes: int) -> str:
    """A size as people say it: powers of 1000."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value = float(size_bytes)
    for unit in ("KB", "MB", "GB"):
        value /= 1000
        if value < 1000 or unit == "GB":
            break
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"


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
    return "now"


def since(instant: str | None, now: datetime | None = None) -> str:
    """How long ago an ISO 8601 instant was, or how far ahead it is."""
    if not instant:
        return ""
    span = datetime.fromisoformat(instant) - (now or datetime.now(UTC))
    return f"in {duration(span)}" if span > timedelta(0) else f"{duration(-span)} ago"
