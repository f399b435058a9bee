"""What the import tells about itself: a line for each setting that is lost, changed, or needs somebody to look."""

from collections.abc import Iterable
from enum import Enum

from masqmail.frozen import frozen


class Weight(Enum):
    """How much a note matters; the values are the headings of the report."""

    WRONG = "Could not be used"
    CHECK = "Please look at these"
    LOST = "Has no counterpart; each is a comment in the new file"
    CHANGED = "Means something else now"
    KNOWN = "Good to know"


@frozen
class Note:
    """One line of the report. `setting` is the old setting with its value, `place` the file with the line."""

    weight: Weight
    text: str
    setting: str = ""
    place: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.setting, self.text) if part)


class Report:
    """Gathers notes; the same thing is only said once."""

    def __init__(self) -> None:
        self._notes: dict[Note, None] = {}

    def add(self, weight: Weight, text: str, setting: str = "", place: str = "") -> None:
        self._notes.setdefault(Note(weight, *(one_line(part) for part in (text, setting, place))))

    @property
    def notes(self) -> tuple[Note, ...]:
        return tuple(self._notes)


def render(notes: Iterable[Note]) -> str:
    """The report as text: the heaviest first, otherwise in the order of the old files."""
    listed = tuple(notes)
    parts = []
    for weight in Weight:
        lines = [f"  {one_line(str(note))}\n" for note in listed if note.weight is weight]
        if lines:
            parts.append(f"{weight.value}:\n{''.join(lines)}")
    return "\n".join(parts)


def one_line(text: str) -> str:
    """The text without line breaks and other control characters, for one line of a report or comment."""
    return "".join(char if char.isprintable() else " " for char in text).strip()
