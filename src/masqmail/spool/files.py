"""What every file of the spool needs beside SQLite: the meaning of its errors, and folders on stable storage."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from masqmail.spool.api import SpoolBroken, SpoolError, SpoolFull

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def mapped_errors(what: str) -> Iterator[None]:
    """Raises what an `OSError` means for the spool."""
    try:
        yield
    except OSError as error:
        text = f"cannot {what}: {error}"
        if error.errno in _NO_ROOM:
            raise SpoolFull(text) from error
        raise (SpoolBroken if error.errno == errno.EIO else SpoolError)(text) from error


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to stable storage."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
