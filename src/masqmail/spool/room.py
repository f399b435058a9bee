"""Room on the disk: enough kept free to go on with what was accepted, since refusing in time beats a full disk."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: Kept free for what has been accepted: outcomes, reports and SQLite's own journal.
LEAST_RESERVE_BYTES = 64 * 1024 * 1024
MOST_RESERVE_BYTES = 1024 * 1024 * 1024
RESERVE_SHARE = 1 / 100  # of the file system, between these two …
MOST_RESERVE_SHARE = 1 / 8  # … but never more than this, which is what counts on a very small one

MOST_BALLAST_BYTES = 8 * 1024 * 1024
MOST_BALLAST_SHARE = 1 / 16

BALLAST_NAME = "ballast"

_CACHED_SECONDS = 1.0


class Room:
    """Free space of one file system beyond the reserve. That there is enough is believed for a second."""

    def __init__(self, directory: Path, monotonic: Callable[[], float]) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._asked_at = float("-inf")
        self._free_bytes = 0.0

    def has(self, size_bytes: int) -> bool:
        now = self._monotonic()
        if now - self._asked_at >= _CACHED_SECONDS or size_bytes > self._free_bytes:
            self._free_bytes = free_bytes(self._directory)
            self._asked_at = now
        return size_bytes <= self._free_bytes


class Ballast:
    """A file of nothing, given up when somebody else has filled the disk.

    Then the outcomes of what was accepted can be stored, mail leaves, and the disk may even become emptier.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / BALLAST_NAME
        self._is_there = self._path.is_file()

    def take(self) -> None:
        """Makes the file if it is not there and there is room for it beyond the reserve."""
        directory = self._path.parent
        if self._is_there or free_bytes(directory) < (size := ballast_bytes(directory)):
            return
        with suppress(OSError):  # better none than no queue
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
                self._is_there = True
            finally:
                os.close(descriptor)

    def give_up(self) -> bool:
        """Removes the file; False when there was none."""
        self._is_there = False
        try:
            self._path.unlink()
        except OSError:
            return False
        return True


def free_bytes(directory: Path) -> float:
    """How much may still be written without eating into the reserve; negative when it is eaten into."""
    disk = os.statvfs(directory)
    size = disk.f_blocks * disk.f_frsize
    reserve = min(max(size * RESERVE_SHARE, LEAST_RESERVE_BYTES), MOST_RESERVE_BYTES, size * MOST_RESERVE_SHARE)
    return disk.f_bavail * disk.f_frsize - reserve


def ballast_bytes(directory: Path) -> int:
    """The size of the ballast on this file system."""
    disk = os.statvfs(directory)
    return int(min(MOST_BALLAST_BYTES, disk.f_blocks * disk.f_frsize * MOST_BALLAST_SHARE))
