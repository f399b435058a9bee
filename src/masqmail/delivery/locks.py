"""The locks of an mbox file: first `fcntl`, then a dot-lock, the order of Debian's policy §11.6.

Both are tried without waiting; when one is taken, both are given back before the next try, so that a mail
reader that locks in the other order cannot deadlock with us. Where the directory does not let us make a
dot-lock, `fcntl` has to do.

POSIX locks hold between processes, not between threads, so within one process there is one append at a time.
"""

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from masqmail.delivery import dotlock
from masqmail.delivery.files import NotUsable

#: Seconds between the tries to get the locks: half a minute together. They stay short, so that in a burst of mail for
#: one mailbox the next delivery soon sees that it is free, and none is always too late.
WAITS = (*[0.01] * 20, *[0.05] * 40, *[0.1] * 278)

_one_at_a_time = threading.Lock()

_OPEN_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class MailboxBusy(NotUsable):
    """Another program held the mailbox's lock all the time we were ready to wait."""


@contextmanager
def locked(path: str, *, waits: Sequence[float] = WAITS, stop: threading.Event | None = None) -> Iterator[int]:
    """Opens the mbox at `path` for appending, makes it if it is missing, and holds its locks.

    Gives the file descriptor. Raises `MailboxBusy` when the locks could not be had in time or `stop` was set,
    `NotUsable` when the file is none that mail may be appended to, and `OSError`.
    """
    with _one_at_a_time:
        descriptor = _wait_for_locks(path, waits, stop or threading.Event())
        try:
            yield descriptor
        finally:
            dotlock.release(path)
            os.close(descriptor)  # gives back the fcntl lock


def _wait_for_locks(path: str, waits: Sequence[float], stop: threading.Event) -> int:
    for wait in (0.0, *waits):
        if stop.wait(wait):
            break
        descriptor = _try_locks(path)
        if descriptor is not None:
            return descriptor
    raise MailboxBusy(f"{path} is locked by another program")


def _try_locks(path: str) -> int | None:
    """Opens the file with both locks, or gives None when one of them is taken."""
    descriptor = _open(path)
    try:
        _check(os.fstat(descriptor), path)
        if _lock(descriptor, path):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _open(path: str) -> int:
    """Opens the file, or makes it with mode 0600."""
    while True:
        try:
            return os.open(path, _OPEN_FLAGS)
        except FileNotFoundError:
            with suppress(FileExistsError):  # made by somebody else just now: it is opened like any other
                return _make(path)
        except OSError as error:
            if error.errno == errno.ELOOP and os.path.islink(path):
                raise NotUsable(f"{path} is a symbolic link") from error
            raise


def _make(path: str) -> int:
    try:
        return os.open(path, _OPEN_FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
    except PermissionError as error:
        raise NotUsable(f"{path} does not exist, and {os.path.dirname(path)} lets us make no files") from error


def _check(status: os.stat_result, path: str) -> None:
    """Mail goes only where nobody else can have led us: into a plain file with one name, ours or root's."""
    if not stat.S_ISREG(status.st_mode):
        raise NotUsable(f"{path} is not a regular file")
    if status.st_nlink > 1:
        raise NotUsable(f"{path} has more than one hard link")
    if status.st_uid not in (os.geteuid(), 0):
        raise NotUsable(f"{path} belongs to another user (uid {status.st_uid})")


def _lock(descriptor: int, path: str) -> bool:
    """Takes both locks. The file must still be the one with that name: readers may replace it."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_same = os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except (BlockingIOError, PermissionError, FileNotFoundError):  # a taken lock is EAGAIN or EACCES
        return False
    return is_same and dotlock.take(path)
