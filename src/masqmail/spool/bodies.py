"""Message bodies: small ones go into the message's rows, big ones into files.

A body is written to `bodies/incoming/N` while it is received. When it is accepted it is synced, renamed to
`bodies/xx/QUEUEID` (xx: the last two characters of the queue ID) and its directory synced, all before the row
commits. So a file without a row may exist after a crash, and is swept at the next start; a row without its file
cannot.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from masqmail.spool.api import SpoolBroken, SpoolError, SpoolFull

#: Bodies up to this size live in the queue file. Measured: docs/explanation/durability.md.
IN_ROW_BYTES = 64 * 1024

_SAFE_NAME = re.compile(r"[A-Za-z0-9_-]+")
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Bodies:
    """The folder of body files."""

    def __init__(self, directory: Path, has_room: Callable[[int], bool]) -> None:
        """Makes the folder if it is not there. `has_room` is asked before a body grows."""
        self.has_room = has_room
        self._directory = directory
        self._incoming = directory / "incoming"
        self._numbers = count(1)
        self._known: set[Path] = set()
        for folder in (directory, self._incoming):
            self._make_folder(folder)

    def new(self, data: bytes = b"") -> "NewBody":
        return NewBody(self, data)

    def path(self, queue_id: str) -> Path:
        """Where the body of a message is, if it is a file."""
        if not _SAFE_NAME.fullmatch(queue_id):
            raise SpoolError(f"{queue_id!r} cannot be the name of a file")
        return self._directory / queue_id[-2:] / queue_id

    def create(self) -> tuple[Path, int]:
        """An empty file for a body to come, and its descriptor."""
        path = self._incoming / str(next(self._numbers))
        return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def place(self, path: Path, queue_id: str) -> Path:
        """Moves a synced file to its message's name, on stable storage."""
        target = self.path(queue_id)
        if target.parent not in self._known:
            self._make_folder(target.parent)
            self._known.add(target.parent)
        path.rename(target)
        _sync_folder(target.parent)
        return target

    def remove(self, queue_id: str) -> None:
        """Removes the body of a message that is gone; one that cannot be removed is swept at the next start."""
        with suppress(OSError):
            self.path(queue_id).unlink()

    def sweep(self, is_wanted: Callable[[str], bool]) -> None:
        """Removes what no message wants: bodies that were being received, or whose row did not commit."""
        for path in self._directory.glob("*/*"):
            if path.is_file() and (path.parent == self._incoming or not is_wanted(path.name)):
                path.unlink()

    def _make_folder(self, folder: Path) -> None:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            _sync_folder(folder.parent)


class NewBody:
    """A body while it is received: in memory at first, in a file when it grows.

    The receiver calls `write` and `discard`. `take` gives it to the spool; from then on the writer thread
    alone has it, calls `settle` when its row is written, and `remove` if that came to nothing.
    """

    __slots__ = ("_bodies", "_descriptor", "_is_placed", "_is_taken", "_memory", "_path", "size_bytes")

    def __init__(self, bodies: Bodies, data: bytes) -> None:
        self.size_bytes = len(data)
        self._bodies = bodies
        self._memory = bytearray(data)
        self._path: Path | None = None
        self._descriptor: int | None = None
        self._is_taken = False
        self._is_placed = False

    def write(self, data: bytes) -> None:
        """Adds to the body. Raises `SpoolFull` when the disk is."""
        self._memory += data
        self.size_bytes += len(data)
        if len(self._memory) > IN_ROW_BYTES:
            if not self._bodies.has_room(len(self._memory)):
                raise SpoolFull("the disk is nearly full")
            self._spill()

    def discard(self) -> None:
        """Forgets the body, unless the spool has it."""
        if not self._is_taken:
            self.remove()

    def take(self) -> None:
        """From now on the body is the spool's."""
        self._is_taken = True

    def settle(self, queue_id: str) -> bytearray | None:
        """What belongs into the row; None when the body is on stable storage as a file. May be repeated."""
        if self.size_bytes <= IN_ROW_BYTES:
            return self._memory
        if not self._is_placed:
            self._spill()
            with _mapped_errors("store a message body"):
                self._place(queue_id)
        return None

    def remove(self) -> None:
        """Removes the file, wherever it is now."""
        self._close()
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
            self._path = None
        self._memory = bytearray()

    def _spill(self) -> None:
        with _mapped_errors("write a message body"):
            if self._path is None:
                self._path, self._descriptor = self._bodies.create()
            while self._memory and self._descriptor is not None:
                written = os.write(self._descriptor, self._memory)
                del self._memory[:written]

    def _place(self, queue_id: str) -> None:
        if self._descriptor is not None:
            os.fdatasync(self._descriptor)
            self._close()
        if self._path is not None:
            self._path = self._bodies.place(self._path, queue_id)
            self._is_placed = True

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def _mapped_errors(what: str) -> Iterator[None]:
    """Raises what an `OSError` means for the spool."""
    try:
        yield
    except OSError as error:
        text = f"cannot {what}: {error}"
        if error.errno in _NO_ROOM:
            raise SpoolFull(text) from error
        raise (SpoolBroken if error.errno == errno.EIO else SpoolError)(text) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
