"""Appends a message to an mbox file: all of it, or nothing.

A From_ line, the message with LF line ends and quoted From lines (mboxrd), a blank line. What fails in the
middle is cut off again while the locks are still held. Between the sync here and the record in the spool a
crash makes a second copy possible: an mbox has no names by which a repeat could be recognised.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from masqmail.delivery.files import sync_directory, write_all
from masqmail.delivery.locks import WAITS, locked
from masqmail.delivery.text import with_lf, with_quoted_from


def append(
    path: str,
    pieces: Iterable[bytes],
    *,
    sender: str,
    now: float | None = None,
    waits: Sequence[float] = WAITS,
    stop: threading.Event | None = None,
) -> None:
    """Appends the message that `pieces` (CRLF line ends) make up and returns when it is on stable storage.

    `sender` is the reverse-path, empty for the null one. Raises `NotUsable` and `OSError`; the file is as
    long as before then.
    """
    start = from_line(sender, time.time() if now is None else now)
    with locked(path, waits=waits, stop=stop) as descriptor:
        old_length = os.fstat(descriptor).st_size
        try:
            write_all(descriptor, _entry(_gap(descriptor, old_length) + start, pieces))
            os.fsync(descriptor)
            if not old_length:
                sync_directory(os.path.dirname(path))
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell
                os.ftruncate(descriptor, old_length)
                os.fsync(descriptor)
            raise


def _entry(start: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The message as it stands in the file, with the blank line at its end."""
    yield start
    last = b""
    for piece in with_quoted_from(with_lf(pieces)):
        last = piece
        yield piece
    yield b"\n" if last.endswith(b"\n") else b"\n\n"


def from_line(sender: str, now: float) -> bytes:
    """`From sender Thu Jan  1 00:00:00 1970` in UTC; a blank would end the sender early, so it has none."""
    who = "_".join(sender.split()) or "MAILER-DAEMON"
    return f"From {who} {time.asctime(time.gmtime(now))}\n".encode()


def _gap(descriptor: int, length: int) -> bytes:
    """What is missing for a blank line at the end of a file that somebody left unfinished."""
    end = os.pread(descriptor, 2, max(0, length - 2))
    if not length or end == b"\n\n":
        return b""
    return b"\n" if end.endswith(b"\n") else b"\n\n"
