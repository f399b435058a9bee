"""What the parent opens for the daemon beside addresses to listen at: secret files that are configured."""

import os
import stat


def open_secret(path: str) -> int:
    """A regular file for reading. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "is not a regular file")
    return descriptor
