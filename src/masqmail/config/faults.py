"""What is wrong in a configuration file: gathered over all of its sections and reported in one run."""

import re
from collections.abc import Sequence

from masqmail.config.lines import KeyPath, line_of, locate
from masqmail.frozen import frozen

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_USER_INFORMATION = re.compile(r"(?<=://)[^/\s]*@")
_LONGEST_QUOTE = 120


@frozen
class Fault:
    """One thing that is wrong, where it stands, and what to write instead. Line 0 means the file as a whole."""

    file: str
    line: int
    key: str
    wrong: str
    instead: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.wrong}; {self.instead}"


class ConfigError(Exception):
    """A configuration that cannot be used; `faults` are all the reasons at once."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


class Faults:
    """Gathers the faults of one file by key; their lines are looked up only if there are any."""

    def __init__(self, file: str, source: str) -> None:
        self._file = file
        self._source = source
        self._found: list[tuple[KeyPath, str, str]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, path: KeyPath, wrong: str, instead: str) -> None:
        """Notes that the value at `path`, or its absence there, is wrong."""
        self._found.append((path, wrong, instead))

    def at(self, *path: str) -> bool:
        """Whether something at this key or below it is already known to be wrong."""
        return any(found[: len(path)] == path for found, _, _ in self._found)

    def listing(self) -> list[Fault]:
        """Every fault with its line, in the order of the file."""
        if not self._found:
            return []
        lines = locate(self._source)
        faults = [
            Fault(self._file, line_of(lines, path), key_text(path), wrong, instead)
            for path, wrong, instead in self._found
        ]
        return sorted(faults, key=lambda fault: fault.line)

    def raise_any(self) -> None:
        """Raises `ConfigError` when anything was noted."""
        if self._found:
            raise ConfigError(self.listing())


def quote(text: str) -> str:
    """Text of the file for a message: in quotes, short, printable, without a password in a URL."""
    text = _USER_INFORMATION.sub("…@", text)
    if len(text) > _LONGEST_QUOTE:
        text = text[: _LONGEST_QUOTE - 1] + "…"
    printable = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return f'"{printable}"'


def key_text(path: KeyPath) -> str:
    """A key as the file writes it; the place of a list's entry is left out."""
    parts = (part for part in path if isinstance(part, str))
    return ".".join(part if _BARE_KEY.fullmatch(part) else quote(part) for part in parts)


def place_text(path: KeyPath) -> str:
    """A key for a message: `queue.retry`, or `entry 2 of queue.retry`."""
    entries = [f"entry {part + 1} of " for part in reversed(path) if isinstance(part, int)]
    return "".join(entries) + key_text(path)


def closest(word: str, words: Sequence[str]) -> str:
    """The word that was probably meant, or nothing."""
    from difflib import get_close_matches  # only who makes a mistake pays for it

    matches = get_close_matches(word, words, n=1, cutoff=0.6)
    return matches[0] if matches else ""


def one_of(words: Sequence[str]) -> str:
    """`"a", "b" or "c"`."""
    quoted = [f'"{word}"' for word in words]
    return " or ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))


def write_one_of(word: object, words: Sequence[str]) -> str:
    """The advice for a word that is none of the allowed ones."""
    likely = closest(word.lower(), words) if isinstance(word, str) else ""
    return f'write "{likely}"' if likely else f"write {one_of(words)}"
