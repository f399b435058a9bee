"""The alias files on disk: read when they change, so that an edit counts for the next message without a restart."""

import os
from codecs import BOM_UTF8
from collections.abc import Sequence
from logging import WARNING
from pathlib import Path

from masqmail.routing.aliasfile import AliasTable, parse
from masqmail.system.events import ALIAS_FAULTY, emit

MAX_FILE_BYTES = 16_000_000

_Stamp = tuple[int, int, int, int]


class AliasFiles:
    """The tables of all configured alias files. A missing or unreadable one stops nothing; `problems` says so.

    While a file cannot be read what it said last counts, so that nobody it names becomes unknown; one that is gone
    says nothing.
    """

    def __init__(self, paths: Sequence[Path], glob_paths: Sequence[Path] = ()) -> None:
        self.paths = tuple(paths)
        self.glob_paths = tuple(glob_paths)
        self._read: dict[Path, tuple[_Stamp, AliasTable]] = {}
        self._troubles: dict[Path, str] = {}

    def tables(self) -> list[AliasTable]:
        """What the files say now, in configured order."""
        return [table for path in self.paths if (table := self._table(path)) is not None]

    def globs(self) -> list[AliasTable]:
        """The same of the files whose names are globs."""
        return [table for path in self.glob_paths if (table := self._table(path, has_globs=True)) is not None]

    def problems(self) -> list[str]:
        """What is wrong with the files now, for `masqmail status`."""
        faults = [str(fault) for table in (*self.tables(), *self.globs()) for fault in table.faults]
        paths = (*self.paths, *self.glob_paths)
        return [*(self._troubles[path] for path in paths if path in self._troubles), *faults]

    def _table(self, path: Path, *, has_globs: bool = False) -> AliasTable | None:
        try:
            found = os.stat(path)
            stamp = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
            known = self._read.get(path)
            if known and known[0] == stamp and path not in self._troubles:
                return known[1]
            table = parse(_read_text(path), str(path), has_globs=has_globs)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                self._read.pop(path, None)
            self._note_trouble(path, f"the alias file {path} cannot be read: {error.strerror}")
            return self._read[path][1] if path in self._read else None
        self._troubles.pop(path, None)
        self._read[path] = (stamp, table)
        for fault in table.faults:
            emit(ALIAS_FAULTY, level=WARNING, reason=str(fault))
        return table

    def _note_trouble(self, path: Path, reason: str) -> None:
        if self._troubles.get(path) != reason:
            self._troubles[path] = reason
            emit(ALIAS_FAULTY, level=WARNING, reason=reason)


def read_included(path: str) -> str:
    """The text of an `:include:` file. Raises `OSError`."""
    return _read_text(Path(path))


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise OSError(0, f"it is larger than {MAX_FILE_BYTES} bytes", str(path))
    return data.removeprefix(BOM_UTF8).decode("utf-8", "surrogateescape")
