"""Small things that every file we write for somebody needs."""

import os
from collections.abc import Iterable


class NotUsable(Exception):
    """A mailbox, file or program cannot be used as it is; the message says why. Always temporary."""


def write_all(descriptor: int, pieces: Iterable[bytes]) -> int:
    """Writes every byte, however little the system takes at a time. Returns how many there were."""
    total = 0
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            written = os.write(descriptor, rest)
            total += written
            rest = rest[written:]
    return total


def sync_directory(path: str) -> None:
    """Makes the names in a directory durable; one that we may write but not read is left to the file system."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
