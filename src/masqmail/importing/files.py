"""Reads old files where they are now: a tree may have been copied away from the place that its own paths name."""

import os
import stat
from pathlib import Path, PurePosixPath

MAX_FILE_BYTES = 1_000_000

_IN_PLACE = Path("/etc")


class OldFiles:
    """Files below a folder by the names that the configuration in it has for them.

    `/etc/masqmail/fastnet.route` is first looked for as if the folder were a copy of /etc/masqmail or of a folder
    above it, then below the folder (unless that is in /etc), then at its own place. Nothing but regular files of
    bounded size is read, and all are only read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._texts: dict[str, str | None] = {}

    def read(self, path: str) -> str | None:
        """The text of a file, UTF-8 or else Latin-1; None when it cannot be read."""
        if path not in self._texts:
            self._texts[path] = next(
                (text for place in self._places(path) if (text := _text(place)) is not None), None
            )
        return self._texts[path]

    def find_folder(self, path: str) -> Path | None:
        """Where a folder is now, found like a file; None when there is none."""
        return next((place for place in self._places(path) if place.is_dir()), None)

    def _places(self, path: str) -> list[Path]:
        """Where the file may be, the likeliest place first."""
        named = PurePosixPath(path)
        if "\0" in path:
            return []
        if not named.is_absolute():
            return [self._folder / named]
        parts = named.parts[1:]
        roots = (parent for parent in self._folder.parents if parent != parent.parent)
        copies = [root.joinpath(*parts) for root in roots]
        copies.sort(key=lambda copy: not copy.is_relative_to(self._folder))
        flat = [self._folder.joinpath(*parts[start:]) for start in range(len(parts))]
        return [*copies, *(() if self._folder.is_relative_to(_IN_PLACE) else flat), Path(named)]


def _text(path: Path) -> str | None:
    data = read_regular(path)
    if data is None:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_regular(path: Path, limit: int = MAX_FILE_BYTES) -> bytes | None:
    """The content of a regular file that is not too big, else None. Waits for nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        try:
            data = file.read(limit + 1)
        except OSError:
            return None
    return data if len(data) <= limit else None
