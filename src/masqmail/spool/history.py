"""What happened to messages, and the few facts that outlive the process."""

from collections.abc import Generator, Iterable
from datetime import datetime

from masqmail.spool.api import HistoryEntry
from masqmail.spool.database import Database
from masqmail.spool.rows import read_entry, stamp, write_entry
from masqmail.spool.space import shrink
from masqmail.spool.statements import load

SQL = load("history")

_TRIMMED_LINES = 1000


def add(db: Database, entries: Iterable[HistoryEntry]) -> None:
    """Writes lines of history, in this order."""
    db.inserts.add(SQL["add"], [write_entry(db.next_number(), entry) for entry in entries])


def read(db: Database, queue_id: str, limit: int) -> list[HistoryEntry]:
    """The last lines of one message, or of all."""
    if queue_id:
        rows = db.connection.execute(SQL["get"], (queue_id, limit)).fetchall()
    else:
        rows = db.connection.execute(SQL["get_latest"], (limit,)).fetchall()
    return [read_entry(row) for row in reversed(rows)]


def trim(db: Database, before: datetime) -> Generator[None, None, None]:
    """Forgets old lines of messages that are gone, then gives the space back, in slices."""
    last = 0
    while True:
        first = last + 1
        (last,) = db.connection.execute(SQL["get_end_of_slice"], (last, _TRIMMED_LINES)).fetchone()
        if last is None:
            break
        db.connection.execute(SQL["trim"], {"first": first, "last": last, "before": stamp(before)})
        yield
    yield from shrink(db)


def remember(db: Database, name: str, value: str) -> None:
    db.connection.execute(SQL["remember"], (name, value))


def recall(db: Database, name: str) -> str | None:
    row = db.connection.execute(SQL["recall"], (name,)).fetchone()
    return row and str(row[0])
