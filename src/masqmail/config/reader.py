"""Turns tables of a TOML file into sections of the model, driven by the types of their fields."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from masqmail.config.faults import Faults, closest, key_text, place_text, quote
from masqmail.config.lines import KeyPath
from masqmail.config.values import BadValue, complaint, describe, item_of, kind_of, without_none
from masqmail.routing.route import AddressMap
from masqmail.settings import TemplateSource

Section = TypeVar("Section")


class _Bad(Enum):
    """Stands for a value whose fault is noted."""

    VALUE = "value"


def settings_of(section: type) -> Mapping[str, Field[Any]]:
    """The settings of a section by their key in the file, in order."""
    return {field.metadata["key"] or field.name: field for field in fields(section) if "doc" in field.metadata}


class Reader:
    """Reads sections and notes every fault. What is wrong is replaced by its default, so that reading goes on."""

    def __init__(self, faults: Faults, folder: Path, home: Path, header_of: Callable[[str], str]) -> None:
        """`folder` is where relative paths begin, `home` is `~`; `header_of` tells which section knows a key."""
        self.faults = faults
        self._folder = folder
        self._home = home
        self._header_of = header_of

    def section(
        self,
        kind: type[Section],
        table: object,
        path: KeyPath,
        *,
        defaults: Mapping[str, object] | None = None,
        parts: Mapping[str, object] | None = None,
    ) -> Section | None:
        """Reads a table; None when it is none, or when a setting that must be there is missing.

        `defaults` replace those of the model. `parts` are given as they are: a name, or sections that the caller
        has read and taken out of the table.
        """
        content = self.table(table, path)
        if content is None:
            return None
        settings = settings_of(kind)
        values: dict[str, Any] = {**(defaults or {}), **(parts or {})}
        for key in content:
            if key not in settings:
                self.unknown(key, tuple(settings), path)
        complete = True
        for key, field in settings.items():
            if key in content:
                value = self.value(field.type, content[key], (*path, key))
                if value is not _Bad.VALUE:
                    values[field.name] = value
                    continue
            if field.name not in values and field.default is MISSING:
                complete = False
                if key not in content:
                    example = field.metadata["example"]
                    self.faults.add(path, f"[{key_text(path)}] needs {key}", f"write {key} = {example}")
        return kind(**values) if complete else None

    def table(self, value: object, path: KeyPath) -> dict[str, object] | None:
        """A table's content, or None with a fault when the value is none."""
        if isinstance(value, dict):
            return value
        name = key_text(path)
        self.faults.add(
            path, f"{name} is {describe(value)}, not a section", f"write [{name}] and its settings below it"
        )
        return None

    def unknown(self, key: str, known: tuple[str, ...], path: KeyPath) -> None:
        """Notes a key that this table does not have, with the one that was probably meant."""
        place = f"in [{key_text(path)}]" if path else "outside of the sections"
        if likely := closest(key, known):
            instead = f"write {likely}"
        elif header := self._header_of(key):
            instead = f"write it below [{header}]"
        else:
            instead = "take it out"
        self.faults.add((*path, key), f"there is no setting {quote(key)} {place}", instead)

    def value(self, hint: object, value: object, path: KeyPath) -> object:
        """Reads one value, or notes why not and returns `_Bad.VALUE`."""
        hint = without_none(hint)
        item = item_of(hint)
        if hint is AddressMap and isinstance(value, dict):
            pairs = [self._single(hint, {glob: address}, path, entry=glob) for glob, address in value.items()]
            return _Bad.VALUE if _Bad.VALUE in pairs else kind_of(hint).read(value)
        if item is None:
            return self._single(hint, value, path)
        if isinstance(value, str):
            value = [value]  # one is a list of one
            entries = [self._single(item, value[0], path)]
        elif isinstance(value, list):
            entries = [self._single(item, entry, (*path, index)) for index, entry in enumerate(value)]
        else:
            wrong = f"{place_text(path)} is {describe(value)}, not a list"
            examples = kind_of(item).example.partition(" or ")[0]
            self.faults.add(path, wrong, f"write it like [{examples}]")
            return _Bad.VALUE
        return _Bad.VALUE if _Bad.VALUE in entries else tuple(entries)

    def _single(self, hint: object, value: object, path: KeyPath, *, entry: str = "") -> object:
        """Reads what is no list; `entry` is the key of the only entry in a table of which it is a part."""
        kind = kind_of(hint)
        try:
            read = kind.read(value)
        except BadValue as bad:
            self.faults.add((*path, entry) if entry else path, *complaint(place_text(path), value, kind, bad))
            return _Bad.VALUE
        if isinstance(read, TemplateSource) and read.path:
            return TemplateSource(path=self._place(read.path))
        return self._place(read) if isinstance(read, Path) else read

    def _place(self, path: Path) -> Path:
        """An absolute path: `~` is the daemon's own home, and the rest begins beside the configuration file."""
        if path.parts[:1] == ("~",):
            return self._home.joinpath(*path.parts[1:])
        return self._folder / path
