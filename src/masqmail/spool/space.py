"""Space given back: bodies that no message wants, free pages of the queue file, its journal, segments. In slices."""

from collections.abc import Generator
from functools import partial

from masqmail.spool.database import SQL, Database
from masqmail.spool.segments import SEGMENT_BYTES, Extent

#: Free pages are soon used again; only when there are so many of them, and such a share of the file, it shrinks.
LEAST_FREE_PAGES = 1024
LEAST_FREE_SHARE = 1 / 8

#: Pages given back in one slice; takes a few milliseconds.
_VACUUMED_PAGES = 200


def tidy(db: Database) -> Generator[None, None, None]:
    """Gives back what there is much of, after a crash, a long queue, or many configurations."""
    db.forget_classes()
    yield from db.bodies.sweep(partial(_has_body_file, db))
    yield from empty_segments(db)
    free, total = _pragma(db, "freelist_count"), _pragma(db, "page_count")
    if free >= max(LEAST_FREE_PAGES, total * LEAST_FREE_SHARE):
        yield from shrink(db)


def _has_body_file(db: Database, queue_id: str) -> bool:
    return db.connection.execute(SQL["has_body_file"], (queue_id,)).fetchone() is not None


def empty_segments(db: Database) -> Generator[None, None, None]:
    """Moves what is left in segments of little use, and in the last ones, and cuts the file behind the rest."""
    chosen = db.segments.choose_to_empty()
    for number in chosen:
        start = number * SEGMENT_BYTES
        for message, *old in db.connection.execute(
            SQL["get_extents_between"], (start, start + SEGMENT_BYTES)
        ).fetchall():
            new = db.segments.place(db.segments.read(Extent(*old)))
            db.connection.execute(SQL["move_extent"], (new.position, message))
            db.segments.give_up(Extent(*old))
        yield
    db.after_commit.append(partial(_cut_segments, db, has_moved_any=bool(chosen)))


def _cut_segments(db: Database, *, has_moved_any: bool) -> None:
    if has_moved_any:
        db.empty_journal()  # else the places they were moved from are not free yet
    db.segments.cut()


def shrink(db: Database) -> Generator[None, None, None]:
    """Gives every free page of the queue file back, then the journal that this made long."""
    had_any = False
    while free := _pragma(db, "freelist_count"):
        for _ in range(min(free, _VACUUMED_PAGES)):
            db.connection.execute("PRAGMA incremental_vacuum(1)")  # Python ends one for more pages after the first
        had_any = True
        yield
    if had_any:
        db.after_commit.append(db.empty_journal)


def _pragma(db: Database, name: str) -> int:
    (value,) = db.connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
