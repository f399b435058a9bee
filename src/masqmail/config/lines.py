"""Which line of a TOML file a key or a list's entry stands on; `tomllib` does not tell.

The scanner is only run for messages, over text that `tomllib` has already accepted. It knows strings,
comments and brackets, and nothing of what values mean.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

#: The keys from the top of the file to a value; a number is the place of an entry in a list, from 0.
KeyPath = tuple[str | int, ...]

_TOKEN = re.compile(
    r'''(?P<comment>\#[^\n]*)
    | (?P<text>"""(?:[^"\\]|\\.|"(?!""))*"{3,5} | \'\'\'(?:[^']|'(?!''))*'{3,5}
               | "(?:[^"\\\n]|\\.)*" | '[^'\n]*')
    | (?P<newline>\n)
    | (?P<mark>[\[\]{}=,.])
    | (?P<bare>[^\s\[\]{}=,.\#"']+)''',
    re.VERBOSE | re.DOTALL,
)


@dataclass(slots=True)
class _Open:
    """A bracket that is not closed yet: an inline table, or a list with the place of its current entry."""

    path: KeyPath
    entry: int | None = None


def locate(source: str) -> dict[KeyPath, int]:
    """The line of each table, key and list entry of a TOML file, from 1."""
    scanner = _Scanner()
    for kind, text, line in _tokens(source):
        scanner.take(kind, text, line)
    return scanner.lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """The line of a key, or of the nearest thing around it; 1 when there is none."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _tokens(source: str) -> Iterator[tuple[str, str, int]]:
    """Everything but comments and blanks, each with the line it begins on."""
    line, counted = 1, 0
    for match in _TOKEN.finditer(source):
        kind = match.lastgroup or ""
        if kind == "comment":
            continue
        line += source.count("\n", counted, match.start())
        counted = match.start()
        yield kind, match[0], line


class _Scanner:
    """Follows tables, keys and brackets. It is in a header, in a key, or in a value."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._table: KeyPath = ()
        self._parts: list[str] = []  # of the key or header being read
        self._in_header = False
        self._in_key = True
        self._value: KeyPath = ()  # the key whose value is being read
        self._open: list[_Open] = []

    def take(self, kind: str, text: str, line: int) -> None:
        if kind == "newline":
            self._end_line()
        elif self._in_header:
            self._take_header(kind, text, line)
        elif self._in_key:
            self._take_key(kind, text, line)
        else:
            self._take_value(kind, text, line)

    def _end_line(self) -> None:
        if not self._open:
            self._in_header, self._in_key = False, True
            self._parts.clear()

    def _take_header(self, kind: str, text: str, line: int) -> None:
        if kind != "mark":
            self._parts.append(_key(kind, text))
        elif text == "]" and self._parts:
            self._table = self._note((), line)

    def _take_key(self, kind: str, text: str, line: int) -> None:
        if kind != "mark":
            self._parts.append(_key(kind, text))
        elif text == "[":
            self._in_header = True
        elif text == "=":
            self._value = self._note(self._open[-1].path if self._open else self._table, line)
            self._in_key = False
        elif text == "}":
            self._close()

    def _take_value(self, kind: str, text: str, line: int) -> None:
        inside = self._open[-1] if self._open else None
        if text in ("]", "}") and kind == "mark":
            self._close()
        elif text == "," and kind == "mark":
            if inside and inside.entry is not None:
                inside.entry += 1
                self._value = (*inside.path, inside.entry)
            else:
                self._in_key = True
        else:
            if inside and inside.entry is not None:
                self.lines.setdefault(self._value, line)
            if text == "[":
                self._open.append(_Open(self._value, 0))
                self._value = (*self._value, 0)
            elif text == "{":
                self._open.append(_Open(self._value))
                self._in_key = True

    def _close(self) -> None:
        """A bracket closes; what comes next belongs to the value around it."""
        self._value = self._open.pop().path
        self._in_key = False

    def _note(self, start: KeyPath, line: int) -> KeyPath:
        """Ends a key: every table on the way to it begins here, unless it began before."""
        path = start
        for part in self._parts:
            path = (*path, part)
            self.lines.setdefault(path, line)
        self._parts.clear()
        return path


def _key(kind: str, text: str) -> str:
    """A part of a key without its quotes and escapes."""
    if kind == "bare":
        return text
    value = tomllib.loads(f"key = {text}")["key"]
    assert isinstance(value, str)
    return value
