"""Whether the disk has room for one more message: refusing in time beats a full disk."""

import os
from collections.abc import Callable
from pathlib import Path

#: Kept free for what has been accepted: outcomes, reports and SQLite's own journal.
LEAST_RESERVE_BYTES = 64 * 1024 * 1024
MOST_RESERVE_BYTES = 1024 * 1024 * 1024
RESERVE_SHARE = 0.01  # of the file system, between these two

_CACHED_SECONDS = 1.0


class Room:
    """Free space of one file system beyond the reserve, asked for once a second at most."""

    def __init__(self, directory: Path, monotonic: Callable[[], float]) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._asked_at = float("-inf")
        self._free_bytes = 0.0

    def has(self, size_bytes: int) -> bool:
        now = self._monotonic()
        if now - self._asked_at >= _CACHED_SECONDS:
            self._free_bytes = self._ask()
            self._asked_at = now
        return size_bytes <= self._free_bytes

    def _ask(self) -> float:
        disk = os.statvfs(self._directory)
        reserve = min(max(disk.f_blocks * disk.f_frsize * RESERVE_SHARE, LEAST_RESERVE_BYTES), MOST_RESERVE_BYTES)
        return disk.f_bavail * disk.f_frsize - reserve
