"""The open queue file, with what is kept in memory beside it.

It belongs to one thread at a time, without a lock: `writer` has it used by the event loop or by its own thread, which
alone commits and undoes.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path

from masqmail.spool import tally
from masqmail.spool.api import SpoolBroken, SpoolError, SpoolFull
from masqmail.spool.bodies import Bodies, NewBody
from masqmail.spool.classes import Classes
from masqmail.spool.inserts import Inserts
from masqmail.spool.migrate import migrate
from masqmail.spool.room import Ballast
from masqmail.spool.segments import BLOCK_BYTES, SEGMENT_BYTES, Segments
from masqmail.spool.segments import FILE_NAME as SEGMENTS_NAME
from masqmail.spool.statements import load

SQL = load("start")

FILE_NAME = "queue.sqlite3"
LOCK_NAME = "lock"

#: The journal is copied into the file when it has this many pages, and cut back to the size of that many; on a
#: small disk sooner, lest it fill that.
CHECKPOINT_PAGES = 4000
LEAST_CHECKPOINT_PAGES = 64
JOURNAL_SHARE = 1 / 16
PAGE_BYTES = 4096

#: Pages kept in memory. Measured: eight times as much makes nothing faster, also with a million messages; the kernel
#: keeps the file's pages anyway.
CACHE_KIB = 2 * 1024

# SQLite's primary result codes; the extended ones carry them in their low byte.
_TAKEN = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_FINAL = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})

#: What to do about damage. Debian 12's sqlite3 has no `.recover`; an empty file must not take this one's place then.
_REPAIR = (
    "Nothing was deleted or repaired. Copy the whole folder of the queue to a safe place; then save what can be read"
    f" with `sqlite3 {FILE_NAME} .recover > saved.sql && sqlite3 recovered.sqlite3 < saved.sql` (if it says"
    ' "SQL logic error", this sqlite3 cannot do that; take another build) and put recovered.sqlite3 in the place of'
    f" {FILE_NAME}, or move {FILE_NAME}, {SEGMENTS_NAME} and bodies away to begin with an empty queue"
)


class Database:
    """One connection and its transactions."""

    def __init__(self, directory: Path, bodies: Bodies, now: Callable[[], datetime]) -> None:
        """Opens the queue of that folder, or makes it.

        Raises `SpoolError` when another process has it, `SpoolBroken` when it is damaged; nothing is deleted.
        """
        self.bodies = bodies
        self.now = now
        self.new_files: list[tuple[NewBody, str]] = []  # bodies to store before the commit, with their queue IDs
        self.after_commit: list[Callable[[], object]] = []
        self._ballast = Ballast(directory)
        self.last_number = 0
        self._is_synced = True
        self._is_written = False
        path = directory / FILE_NAME
        with ExitStack() as opened:
            opened.callback(os.close, _lock(directory / LOCK_NAME))
            _check_not_lost(path, bodies)
            self._connection = _connect(path)
            opened.callback(self._connection.close)
            self.inserts = Inserts(self._connection)
            try:
                self._prepare_with_ballast(settings_for(directory))
                self.segments = Segments(directory, self._segments())
            except sqlite3.Error as error:
                raise _opening_error(error, path) from error
            opened.callback(self.segments.close)
            self._opened = opened.pop_all()
        self._ballast.take()

    @property
    def connection(self) -> sqlite3.Connection:
        """For statements, which see all that was done before them."""
        self.inserts.write()
        return self._connection

    def _prepare_with_ballast(self, settings: Sequence[str]) -> None:
        try:
            self._prepare(settings)
        except sqlite3.Error as error:
            if not isinstance(what_failed(error), SpoolFull) or not self._ballast.give_up():
                raise
            self._prepare(settings)

    def _prepare(self, settings: Sequence[str]) -> None:
        for setting in settings:
            self.connection.execute(f"PRAGMA {setting}").fetchall()
        if self.connection.execute("PRAGMA user_version").fetchone() == (1,):
            self.bodies.flatten()
        migrate(self.connection)
        self.classes = Classes(self.connection)
        self.tally = tally.read(self.connection, [number for number, _ in self.classes.items()])
        (self.last_number,) = self.connection.execute(SQL["last_number"]).fetchone()
        self.bodies.clear_incoming()
        self.forget_classes()
        # What a process that was killed has committed need not be synced; the places that it gave up are free now.
        self._checkpoint()

    def _segments(self) -> Iterator[tuple[int, int, int]]:
        sizes = {"segment_bytes": SEGMENT_BYTES, "block_bytes": BLOCK_BYTES}
        yield from self.connection.execute(SQL["get_segments"], sizes)

    def next_number(self) -> int:
        """The next number for a message or a line of history; one order for both, none is used twice."""
        self.last_number += 1
        return self.last_number

    def forget_classes(self) -> None:
        """Forgets all classes and their counts when the queue is empty, lest those of each configuration stay.

        Else even recipients that have ended may still name a class.
        """
        if not self.tally.messages and self.classes.items():
            self.classes.forget([number for number, _ in self.classes.items()])
            self.tally.forget(self.connection)

    def begin(self, *, durable: bool) -> None:
        """Begins a transaction; one that is not durable may be lost when the power fails, but not by a crash."""
        self.tally.begin()  # first: what fails from here on takes back no count of the transaction before
        if durable is not self._is_synced:
            self.connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._is_synced = durable
        self.connection.execute("BEGIN")
        self._is_written = False

    def write(self) -> None:
        """Writes the rows that are still to be written, before the commit; harmless when that was done."""
        if not self._is_written:
            self.tally.write(self.inserts)
            self.inserts.write()  # before any file gets its name: a queue ID that is taken is found out here
            self._is_written = True

    def commit(self) -> None:
        """Ends the transaction. Raises `SpoolFull` when it can be undone, else `SpoolBroken`: that is final."""
        self.write()
        if self.new_files:
            self.bodies.store(self.new_files)
            self.new_files.clear()
        self.segments.write()
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            failure = what_failed(error)
            raise failure if isinstance(failure, SpoolFull) else SpoolBroken(str(failure)) from error
        self.segments.note_commit(is_durable=self._is_synced and self.segments.has_changes)
        for action in self.after_commit:
            action()
        self.after_commit.clear()
        self._ballast.take()

    def make_room(self) -> bool:
        """Gives up the ballast on a full disk, between transactions; False when that was done before."""
        if not self._ballast.give_up():
            return False
        self.empty_journal()
        return True

    def empty_journal(self) -> None:
        """Between transactions: copies the journal into the queue file and cuts it, if there is room for that.

        Then all that was committed is on stable storage. Raises `SpoolBroken` when that failed: it is final.
        """
        try:
            is_done = self._checkpoint()
        except sqlite3.Error as error:
            failure = what_failed(error)
            if isinstance(failure, SpoolBroken):
                raise failure from error
            return
        if is_done:
            self.segments.note_synced()

    def _checkpoint(self) -> bool:
        ((is_blocked, _, _),) = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return not is_blocked

    def rollback(self) -> None:
        """Undoes the transaction, and what was learnt from it."""
        self.inserts.forget()
        self.new_files.clear()
        if self._connection.in_transaction:  # SQLite ends some failed ones by itself
            self._connection.execute("ROLLBACK")
        self.segments.undo()
        self.tally.rollback()
        self.classes.reload()
        self.after_commit.clear()

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._opened.close()


def settings_for(directory: Path) -> tuple[str, ...]:
    """What SQLite is told when it opens the queue."""
    disk = os.statvfs(directory)
    pages = int(disk.f_blocks * disk.f_frsize * JOURNAL_SHARE) // PAGE_BYTES
    pages = max(min(pages, CHECKPOINT_PAGES), LEAST_CHECKPOINT_PAGES)
    return (
        "locking_mode = EXCLUSIVE",
        "auto_vacuum = INCREMENTAL",  # only before the first table
        "journal_mode = WAL",
        "synchronous = FULL",
        f"wal_autocheckpoint = {pages}",
        f"journal_size_limit = {pages * PAGE_BYTES}",
        f"cache_size = -{CACHE_KIB}",
        "temp_store = MEMORY",
        "secure_delete = FAST",  # Debian's wipes free pages as well: with big bodies half of the work of sending
    )


def what_failed(error: Exception) -> Exception:
    """What an error of SQLite means for the spool; other exceptions are passed on as they are."""
    if not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return SpoolFull(f"no room in the queue file: {error}")
    if code in _DAMAGED:
        return SpoolBroken(f"{FILE_NAME} is damaged ({error}). {_REPAIR}")
    if code in _FINAL:
        return SpoolBroken(f"the queue file cannot be used any longer: {error}")
    return SpoolError(f"the queue file refused a change: {error}")


def _lock(path: Path) -> int:
    """Keeps other processes out for as long as the descriptor is open; the kernel ends it when we die."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise SpoolError(f"another masqmail uses this spool ({path.parent})") from error
    return descriptor


def _check_not_lost(path: Path, bodies: Bodies) -> None:
    """Raises `SpoolBroken` when there is no queue file, or an empty one, beside what only a queue leaves behind.

    To go on would drop the journal, sweep the bodies and fill the segments anew.
    """
    if _size_of(path):
        return
    left = [name for name in (f"{FILE_NAME}-wal", SEGMENTS_NAME) if _size_of(path.with_name(name))]
    if bodies.has_any():
        left.append("bodies")
    if left:
        raise SpoolBroken(
            f"{path} is missing or empty, but mail of its queue may be in {', '.join(left)}. Nothing was changed;"
            f" put the {FILE_NAME} of the same time back, or move {', '.join(left)} away to begin with an empty queue"
        )


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite would ask the umask
    return sqlite3.connect(path, timeout=0, isolation_level=None, cached_statements=256, check_same_thread=False)


def _opening_error(error: sqlite3.Error, path: Path) -> Exception:
    """What to tell somebody whose queue cannot be opened."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _TAKEN:
        return SpoolError(f"another program uses {path}")
    if code in _DAMAGED:
        return SpoolBroken(f"{path} is damaged ({error}). {_REPAIR}")
    return what_failed(error)
