"""The dot-lock of an mbox: a file `MAILBOX.lock` that exists while somebody writes to the mailbox.

Ours says the process ID in its first line, as others do, and in its second the boot it was made in. It is
only made and removed by who holds the `fcntl` lock of the mailbox: one of ours found while holding that lock
was left over by a process that died.
"""

import errno
import os
import time
from contextlib import suppress
from functools import cache

from masqmail.delivery.files import write_all

#: Any other dot-lock is left over when it is older than that and its process is gone.
STALE_SECONDS = 300.0

_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)


def take(mailbox: str) -> bool:
    """Makes the dot-lock of a mailbox whose `fcntl` lock we hold.

    True also where the directory does not let us make one. False when it is taken, or was left over and is now
    removed: try again.
    """
    path = f"{mailbox}.lock"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        if _is_left_over(path):
            with suppress(OSError):
                os.unlink(path)
        return False
    except OSError as error:
        if error.errno in _FORBIDDEN:
            return True
        raise
    try:
        write_all(descriptor, [f"{os.getpid()}\n{_boot()}\n".encode()])
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    return True


def release(mailbox: str) -> None:
    """Removes the dot-lock, if it is ours."""
    path = f"{mailbox}.lock"
    with suppress(OSError):
        process, boot, _ = _read(path)
        if (process, boot) == (os.getpid(), _boot()):
            os.unlink(path)


def _is_left_over(path: str) -> bool:
    try:
        process, boot, age_seconds = _read(path)
    except OSError:  # gone again, or not ours to read
        return False
    return boot == _boot() != "" or (age_seconds > STALE_SECONDS and not _is_running(process))


def _read(path: str) -> tuple[int, str, float]:
    """Process ID (0 when there is none), boot and age of a dot-lock."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        lines = os.read(descriptor, 200).decode("ascii", "replace").split("\n")
        age_seconds = time.time() - os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
    number = lines[0].strip()
    process = int(number) if number.isdigit() and len(number) < 10 else 0
    return process, lines[1] if len(lines) > 1 else "", age_seconds


def _is_running(process: int) -> bool:
    if not process:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@cache
def _boot() -> str:
    """What tells this run of the kernel from every other, here and elsewhere; empty where that is unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"masqmail {file.read().strip()}"
    except OSError:
        return ""
