"""The marks of fetched messages in the queue file."""

from collections.abc import Collection, Generator, Sequence

from masqmail.spool.database import Database
from masqmail.spool.fetchmark import FetchFate, FetchMark, Uid
from masqmail.spool.rows import Row, instant, stamp
from masqmail.spool.statements import load

SQL = load("fetched")

#: Marks read in one slice; takes a few milliseconds.
PAGE = 1000

_FATE = {item.value: item for item in FetchFate}


def note(db: Database, mark: FetchMark) -> None:
    """Has a mark written with this transaction, in place of an older one."""
    db.inserts.add(SQL["put"], [_row(mark)])


def put(db: Database, marks: Sequence[FetchMark]) -> None:
    """Writes marks in place of older ones."""
    db.connection.executemany(SQL["put"], map(_row, marks))


def forget(db: Database, account: str, uids: Collection[Uid]) -> None:
    """Deletes marks of an account."""
    db.connection.executemany(SQL["forget"], ((account, *uid) for uid in uids))


def read(db: Database, account: str) -> Generator[None, None, dict[Uid, FetchMark]]:
    """All marks of an account, a page to a slice."""
    found: dict[Uid, FetchMark] = {}
    last = Uid("", "")
    while True:
        rows = db.connection.execute(SQL["get_page"], (account, *last, PAGE)).fetchall()
        for folder, name, fate, at, size_bytes in rows:
            last = Uid(folder, name)
            found[last] = FetchMark(account, last, _FATE[fate], instant(at), size_bytes)
        if len(rows) < PAGE:
            return found
        yield


def _row(mark: FetchMark) -> Row:
    return (mark.account, *mark.uid, mark.fate.value, stamp(mark.at), mark.size_bytes)
