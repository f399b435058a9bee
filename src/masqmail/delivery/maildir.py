"""Puts a message into a Maildir: written and synced under `tmp`, then renamed into `new`.

The name comes from the delivery's identity and the file's size, and from nothing else: a repeat after a crash
finds the first copy, in `new` or with its flags in `cur`, and leaves it at that.
"""

import os
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress

from masqmail.delivery.files import sync_directory, write_all
from masqmail.delivery.text import with_lf

_UNSAFE = re.compile(r"[^A-Za-z0-9@_+-]")
_PARTS = ("new", "cur", "tmp")  # where `tmp` is, which is made last, the others are


def put(path: str, pieces: Iterable[bytes], *, identity: str, is_first: bool = False) -> bool:
    """Delivers the message that `pieces` (CRLF line ends) make up, and returns when it is on stable storage.

    False when it was there already; with `is_first` nobody looks. A missing Maildir is made, but not the
    directory above it. Raises `OSError`; nothing is left behind then.
    """
    temporary = os.path.join(path, "tmp", f"{time.time_ns()}.{os.getpid()}_{secrets.token_hex(8)}")
    try:
        name = f"{_safe(identity)},S={_write(path, temporary, pieces)}"
        is_there = not is_first and _is_there(path, name)
        if not is_there:
            _rename(path, temporary, name)
    except BaseException:
        _unlink(temporary)
        raise
    if is_there:
        _unlink(temporary)
    sync_directory(os.path.join(path, "new"))  # also for a repeat: the first attempt may have died before this
    return not is_there


def _write(path: str, temporary: str, pieces: Iterable[bytes]) -> int:
    """Writes and syncs the file; returns its size."""
    descriptor = _create(path, temporary)
    try:
        size = write_all(descriptor, with_lf(pieces))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return size


def _create(path: str, temporary: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(temporary, flags, 0o600)
    except FileNotFoundError:
        _make(path)
        return os.open(temporary, flags, 0o600)


def _rename(path: str, temporary: str, name: str) -> None:
    try:
        os.rename(temporary, os.path.join(path, "new", name))
    except FileNotFoundError:  # somebody removed `new`, or made only a part of the Maildir
        _make(path)
        os.rename(temporary, os.path.join(path, "new", name))


def _make(path: str) -> None:
    """Makes the Maildir, or what is missing of it."""
    for directory in (path, *[os.path.join(path, part) for part in _PARTS]):
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
    sync_directory(path)
    sync_directory(os.path.dirname(path))


def _is_there(path: str, name: str) -> bool:
    """Whether an earlier attempt delivered it: mail readers move it to `cur` and add `:2,` and flags."""
    if os.path.lexists(os.path.join(path, "new", name)):
        return True
    try:
        return any(found.partition(":")[0] == name for found in os.listdir(os.path.join(path, "cur")))
    except FileNotFoundError:  # nobody has read anything here
        return False


def _safe(identity: str) -> str:
    """The identity as a file name: no slash, no colon, no dot."""
    return _UNSAFE.sub(lambda match: "".join(f"={byte:02X}" for byte in match[0].encode()), identity)


def _unlink(path: str) -> None:
    """What cannot be removed is left to the mail reader, which clears old files out of `tmp`."""
    with suppress(OSError):
        os.unlink(path)
