"""Space given back: bodies that no message wants, free pages of the queue file, its journal. All of it in slices."""

import sqlite3
from collections.abc import Generator
from contextlib import suppress
from functools import partial

from masqmail.spool.database import SQL, Database

#: Free pages are soon used again; only when there are so many of them, and such a share of the file, it shrinks.
LEAST_FREE_PAGES = 1024
LEAST_FREE_SHARE = 1 / 8

#: Pages given back in one slice; takes a few milliseconds.
_VACUUMED_PAGES = 200


def tidy(db: Database) -> Generator[None, None, None]:
    """Gives back what there is much of, after a crash or when a long queue was sent."""
    yield from db.bodies.sweep(partial(_has_body_file, db))
    free, total = _pragma(db, "freelist_count"), _pragma(db, "page_count")
    if free >= max(LEAST_FREE_PAGES, total * LEAST_FREE_SHARE):
        yield from shrink(db)


def _has_body_file(db: Database, queue_id: str) -> bool:
    return db.connection.execute(SQL["has_body_file"], (queue_id,)).fetchone() is not None


def shrink(db: Database) -> Generator[None, None, None]:
    """Gives every free page of the queue file back, then the journal that this made long."""
    had_any = False
    while free := _pragma(db, "freelist_count"):
        for _ in range(min(free, _VACUUMED_PAGES)):
            db.connection.execute("PRAGMA incremental_vacuum(1)")  # Python ends one for more pages after the first
        had_any = True
        yield
    if had_any:
        db.after_commit.append(partial(_empty_journal, db))


def _empty_journal(db: Database) -> None:
    with suppress(sqlite3.Error):  # the next checkpoint will do
        db.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _pragma(db: Database, name: str) -> int:
    (value,) = db.connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
