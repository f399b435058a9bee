"""Message bodies: small ones go into the message's rows, bigger ones into segments, big ones into files.

A big body is written to `bodies/incoming/N` while it is received. The big bodies of a transaction are renamed to
`bodies/QUEUEID` and synced, then the folder is, all before the rows commit. So a file without a row may exist after a
crash, and is swept at the next start; a row without its file cannot.
"""

import os
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from masqmail.spool.api import SpoolError, SpoolFull
from masqmail.spool.files import mapped_errors, sync_folder

#: Bodies up to this size live in the queue file, others up to the second one in segments beside it, and until then in
#: memory. Measured: docs/explanation/durability.md.
IN_ROW_BYTES = 32 * 1024
IN_MEMORY_BYTES = 128 * 1024

_SWEPT_NAMES = 200

_SAFE_NAME = re.compile(r"[A-Za-z0-9_-]+")


class Bodies:
    """The folder of body files."""

    def __init__(self, directory: Path, has_room: Callable[[int], bool]) -> None:
        """Makes the folder if it is not there. `has_room` is asked before a body grows."""
        self.has_room = has_room
        self._directory = directory
        self._incoming = directory / "incoming"
        self._numbers = count(1)
        self._is_swept = False
        for folder in (directory, self._incoming):
            self._make_folder(folder)

    def new(self, data: bytes = b"") -> "NewBody":
        return NewBody(self, data)

    def path(self, queue_id: str) -> Path:
        """Where the body of a message is, if it is a file."""
        if not _SAFE_NAME.fullmatch(queue_id):
            raise SpoolError(f"{queue_id!r} cannot be the name of a file")
        return self._directory / queue_id

    def create(self) -> tuple[Path, int]:
        """An empty file for a body to come, and its descriptor."""
        path = self._incoming / str(next(self._numbers))
        return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def store(self, bodies: "Sequence[tuple[NewBody, str]]") -> None:
        """Puts files under the queue IDs of their messages, on stable storage. May be repeated.

        All are renamed before the first is synced: a journalling file system then needs one commit for most of it.
        """
        with mapped_errors("store a message body"):
            for body, queue_id in bodies:
                body.move(self.path(queue_id))
            for body, _ in bodies:
                body.sync()
            sync_folder(self._directory)

    def remove(self, queue_id: str) -> None:
        """Removes the body of a message that is gone; one that cannot be removed is swept after the next start."""
        with suppress(OSError):
            self.path(queue_id).unlink()

    def has_any(self) -> bool:
        """Whether there is a body of an accepted message; also one in a folder of schema 1."""
        return any(path != self._incoming for path in self._directory.iterdir())

    def flatten(self) -> None:
        """Moves bodies out of the folders in which they lay, by the end of their queue IDs, until schema 2."""
        for folder in [entry for entry in self._directory.iterdir() if entry != self._incoming and entry.is_dir()]:
            for path in folder.iterdir():
                path.rename(self._directory / path.name)
            sync_folder(self._directory)
            folder.rmdir()

    def clear_incoming(self) -> None:
        """Removes bodies that were being received when we died."""
        for path in self._incoming.iterdir():
            path.unlink()

    def sweep(self, is_wanted: Callable[[str], bool]) -> Generator[None, None, None]:
        """Removes bodies whose row did not commit when we died, once, in slices.

        It belongs into the thread that places bodies, between transactions: then all that are there are either
        wanted or never will be.
        """
        if self._is_swept:
            return
        self._is_swept = True
        with os.scandir(self._directory) as entries:
            for number, entry in enumerate(entries, 1):
                if entry.is_file() and not is_wanted(entry.name):
                    with suppress(OSError):
                        os.unlink(entry)
                if number % _SWEPT_NAMES == 0:
                    yield

    def _make_folder(self, folder: Path) -> None:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            sync_folder(folder.parent)


class NewBody:
    """A body while it is received: in memory at first, in a file when it grows.

    The receiver calls `write`, `read` and `discard`. `take` gives it to the spool; from then on the writer
    alone has it: what is in memory is for a row or a segment, and what is a file is moved and synced, or removed if
    that came to nothing.
    """

    __slots__ = ("_bodies", "_descriptor", "_failure", "_is_taken", "_memory", "_path", "size_bytes")

    def __init__(self, bodies: Bodies, data: bytes) -> None:
        self.size_bytes = len(data)
        self._bodies = bodies
        self._memory = bytearray(data)
        self._path: Path | None = None
        self._descriptor: int | None = None
        self._failure: OSError | None = None
        self._is_taken = False

    @property
    def in_memory(self) -> bytearray | None:
        """All of it; None when the body is to be a file."""
        return self._memory if self.size_bytes <= IN_MEMORY_BYTES else None

    def write(self, data: bytes) -> None:
        """Adds to the body. Raises `SpoolFull` when the disk is."""
        self._memory += data
        self.size_bytes += len(data)
        if len(self._memory) > IN_MEMORY_BYTES:
            if not self._bodies.has_room(len(self._memory)):
                raise SpoolFull("the disk is nearly full")
            self._spill()

    def read(self) -> bytes:
        """All that was written, wherever it is by now."""
        if self._path is None:
            return bytes(self._memory)
        with mapped_errors("read a message body"):
            return self._path.read_bytes() + self._memory

    def discard(self) -> None:
        """Forgets the body, unless the spool has it."""
        if not self._is_taken:
            self.remove()

    def take(self) -> None:
        """From now on the body is the spool's."""
        self._is_taken = True

    def move(self, path: Path) -> None:
        """Gives the file its name; makes one of what is still in memory."""
        self._spill()
        if self._path is not None and self._path != path:
            self._path = self._path.rename(path)

    def sync(self) -> None:
        """Brings the file to stable storage. A failure is final: a second try might find nothing left to write."""
        if self._failure is not None:
            raise self._failure
        if self._descriptor is not None:
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                self._failure = error
                raise
            self._close()

    def remove(self) -> None:
        """Removes the file, wherever it is now."""
        self._close()
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
            self._path = None
        self._memory = bytearray()

    def _spill(self) -> None:
        with mapped_errors("write a message body"):
            if self._path is None:
                self._path, self._descriptor = self._bodies.create()
            while self._memory and self._descriptor is not None:
                written = os.write(self._descriptor, self._memory)
                del self._memory[:written]

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
