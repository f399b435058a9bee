"""The grammar of old configuration, route and get files, with what each version made of lines that break it."""

import re

from masqmail.frozen import frozen
from masqmail.importing.dialect import Dialect

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_BARE = re.compile(r"[A-Za-z0-9_\-./@;:]*")
_BLANKS = re.compile(r"\s*")
_LINE_REST = re.compile(r"[^\n]*")

#: Settings whose values are not shown to anybody.
HIDDEN = re.compile(r"secret|pass|pwd", re.IGNORECASE)

_LONGEST_VALUE_BYTES = 2047
_LONGEST_NAME_BYTES = 255


@frozen
class Statement:
    """One `name = value`. One that is not `alive` stands where the old program had stopped reading."""

    name: str
    value: str
    line: int
    alive: bool = True


@frozen
class Remark:
    """Something in the file that was not read as its author may have thought."""

    line: int
    text: str


@frozen
class Reading:
    """What stands in a file."""

    statements: tuple[Statement, ...]
    remarks: tuple[Remark, ...]


def read_statements(text: str, dialect: Dialect) -> Reading:
    """Reads a file. Never fails: what breaks the grammar becomes a remark."""
    return _Scanner(text, dialect).read()


class _Scanner:
    def __init__(self, text: str, dialect: Dialect) -> None:
        self._text = text.replace("\r\n", "\n")
        self._dialect = dialect
        self._position = 0
        self._line, self._counted = 1, 0
        self._alive = True
        self._statements: list[Statement] = []
        self._remarks: list[Remark] = []

    def read(self) -> Reading:
        while self._skip_blanks() < len(self._text):
            if self._text[self._position] == "#":
                self._take(_LINE_REST)
            else:
                self._statement()
        return Reading(tuple(self._statements), tuple(self._remarks))

    def _statement(self) -> None:
        start, line = self._position, self._current_line()
        name = self._take(_NAME)
        self._skip_blanks()
        if not name or self._text[self._position : self._position + 1] != "=":
            self._broken(name, start, line)
            return
        self._position += 1
        self._skip_blanks()
        value = self._quoted(name, line) if self._text.startswith('"', self._position) else self._bare(name, line)
        rest = self._take(_LINE_REST).strip()
        if rest and not rest.startswith("#"):
            shown = "blank" if HIDDEN.search(name) else _short(rest)
            self._remark(line, f"{name}: the value ends before {shown}, which was never read; quotes were missing")
        for what, length, limit in (("value", value, _LONGEST_VALUE_BYTES), ("name", name, _LONGEST_NAME_BYTES)):
            if len(length.encode()) > limit:
                self._remark(line, f"{name[:60]}: the {what} was cut at {limit} bytes, and is taken whole")
        self._statements.append(Statement(name, value, line, self._alive))

    def _broken(self, name: str, start: int, line: int) -> None:
        """No `=`: up to 0.3.4 the file ended here; later one character was skipped."""
        what = f"there is no = after {_short(name)}" if name else f"{_short(self._text[start])} begins no setting"
        if self._dialect is Dialect.V10:
            self._remark(line, f"{what}; the old program passed over it")
        elif self._alive:
            self._alive = False
            self._remark(line, f"{what}; up to 0.3.4 the rest of the file was not read")
        if not name:
            self._position = start + 1
            self._take(_LINE_REST)

    def _quoted(self, name: str, line: int) -> str:
        """A quoted value; a backslash takes the next character as it is."""
        characters: list[str] = []
        index = self._position + 1
        while index < len(self._text) and self._text[index] != '"':
            if self._text[index] == "\\" and index + 1 < len(self._text):
                index += 1
            characters.append(self._text[index])
            index += 1
        if index >= len(self._text):
            self._remark(line, f"{name}: the closing quote is missing, so everything behind it belongs to the value")
        self._position = index + 1
        value = "".join(characters)
        if "\n" not in value:
            return value
        if self._dialect is Dialect.V10:
            return value
        if self._dialect is Dialect.V03:
            self._remark(line, f"{name}: the line breaks in the value are dropped, as up to 0.3.4")
        return value.replace("\n", "")

    def _bare(self, name: str, line: int) -> str:
        value = self._take(_BARE)
        if ":" in value and self._dialect is Dialect.V02:
            self._remark(line, f"{name}: before 0.2.25 the value ended before the colon; it is taken whole")
        return value

    def _skip_blanks(self) -> int:
        self._take(_BLANKS)
        return self._position

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._position)
        taken = match[0] if match else ""
        self._position += len(taken)
        return taken

    def _current_line(self) -> int:
        self._line += self._text.count("\n", self._counted, self._position)
        self._counted = self._position
        return self._line

    def _remark(self, line: int, text: str) -> None:
        self._remarks.append(Remark(line, text))


def _short(text: str) -> str:
    return f'"{text[:40]}…"' if len(text) > 40 else f'"{text}"'
