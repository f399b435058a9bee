"""Writes a TOML file with comments: sections in the order in which they were asked for, keys as they were set."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from masqmail.importing.report import one_line

#: What a setting can be. A text with line breaks is written over several lines.
Value: TypeAlias = "str | bool | int | Sequence[str] | Mapping[str, str]"

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
_WIDTH = 110

#: The order of the sections in the file; others stand behind, in the order they were made.
_ORDER = ("host", "paths", "submission", "queue", "smtp", "links", "routes", "local", "fetch", "notices", "log")

#: The keys that stand first in a section, in this order.
_KEYS = (
    "detect",
    "links",
    "protocol",
    "smarthost",
    "server",
    "deliver",
    "command",
    "resolve",
    "tls",
    "tls_ca",
    "username",
)


class Section:
    """One table of the file. One that is `disabled`, with a reason, is written as a comment altogether."""

    def __init__(self, path: tuple[str, ...]) -> None:
        self.path = path
        self.disabled = ""
        self._values: dict[str, Value] = {}
        self._comments: list[str] = []

    def __setitem__(self, key: str, value: Value) -> None:
        self._values[key] = value

    def __getitem__(self, key: str) -> Value:
        return self._values[key]

    def get(self, key: str, default: Value) -> Value:
        return self._values.get(key, default)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def remove(self, key: str) -> None:
        """Forgets a setting, if there is one."""
        self._values.pop(key, None)

    def comment(self, text: str) -> None:
        """Adds a line of comment, which stands above the settings; the same one is written once."""
        line = f"# {one_line(text)}"
        if line not in self._comments:
            self._comments.append(line)

    def lines(self) -> list[str]:
        """The lines of the section; none when there is nothing to say."""
        ordered = sorted(self._values, key=lambda key: _KEYS.index(key) if key in _KEYS else len(_KEYS))
        settings = [f"{key_text(key)} = {value_text(self._values[key])}" for key in ordered]
        if not settings and not self._comments and not self.disabled:
            return []
        header = ".".join(map(key_text, self.path))
        if not self.disabled:
            return [f"[{header}]", *self._comments, *settings]
        commented = [f"# {line}" for setting in settings for line in setting.split("\n")]
        return [f"# Left out: {one_line(self.disabled)}", f"# [{header}]", *self._comments, *commented]


class Document:
    """A whole file."""

    def __init__(self) -> None:
        self._sections: dict[tuple[str, ...], Section] = {}
        self._head: list[str] = []

    def section(self, *path: str) -> Section:
        """The section of this name, made if need be."""
        return self._sections.setdefault(path, Section(path))

    def names(self, *path: str) -> tuple[str, ...]:
        """The names of the sections right below a path that are not left out."""
        depth = len(path)
        found = (other.path for other in self._sections.values() if not other.disabled)
        return tuple(dict.fromkeys(other[depth] for other in found if len(other) > depth and other[:depth] == path))

    def left_out(self) -> dict[str, str]:
        """The headers of the sections that are left out, with the reason."""
        disabled = (section for section in self._sections.values() if section.disabled)
        return {".".join(map(key_text, section.path)): section.disabled for section in disabled}

    def head(self, text: str) -> None:
        """Adds a comment at the top of the file."""
        self._head.append(f"# {one_line(text)}")

    def render(self) -> str:
        ranks = {name: rank for rank, name in enumerate(_ORDER)}
        for path, section in self._sections.items():
            parent = self._sections.get(path[:-1])
            section.disabled = section.disabled or (parent.disabled if parent else "")
        ordered = sorted(self._sections.values(), key=lambda section: ranks.get(section.path[0], len(ranks)))
        blocks = [self._head, *(section.lines() for section in ordered)]
        return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def key_text(key: str) -> str:
    """A key as TOML wants it, with quotes where it needs them."""
    return key if _BARE_KEY.fullmatch(key) else _basic(key)


def value_text(value: Value) -> str:
    """A value as TOML."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return _text(value)
        case Mapping():
            pairs = ", ".join(f"{key_text(key)} = {_basic(entry)}" for key, entry in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case _:
            return _list([_basic(entry) for entry in value])


def _list(entries: Sequence[str]) -> str:
    line = f"[{', '.join(entries)}]"
    if len(line) <= _WIDTH:
        return line
    return "[\n" + "".join(f"    {entry},\n" for entry in entries) + "]"


def _text(value: str) -> str:
    if "\n" not in value:
        return _basic(value)
    return '"""\n' + "\n".join(map(_escaped, value.split("\n"))) + '"""'


def _basic(value: str) -> str:
    return f'"{_escaped(value)}"'


def _escaped(text: Iterable[str]) -> str:
    return "".join(map(_character, text))


def _character(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    return f"\\u{ord(char):04x}" if ord(char) < 32 or ord(char) == 127 else char
