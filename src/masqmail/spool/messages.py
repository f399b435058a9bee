"""Reading messages and recipients out of the queue file."""

from collections.abc import Generator, Iterable, Sequence
from functools import partial
from pathlib import Path

from masqmail.spool.api import ContentLost, QueuedMessage, Selection, StoredMessage, StoredRecipient
from masqmail.spool.changes import is_selected
from masqmail.spool.database import Database
from masqmail.spool.rows import Row, id_range, read_message, read_recipient
from masqmail.spool.segments import Extent
from masqmail.spool.statements import load

SQL = load("messages")

#: Messages read in one slice of a long list, and recipients after which it ends; takes a few milliseconds.
PAGE = 100
PAGE_RECIPIENTS = 500


def message(db: Database, key: int, *, with_body: bool = True) -> StoredMessage:
    """The message of that key; without its body also one whose content is lost. Raises `ContentLost`."""
    statement = SQL["get_message" if with_body else "get_message_without_body"]
    row = db.connection.execute(statement, (key,)).fetchone()
    if row is None:
        raise ContentLost("its header and body are not in the queue file any more")
    return read_message(row, partial(_other_body, db))


def _other_body(db: Database, key: int, queue_id: str) -> bytes | Path:
    """The body of a message that is not in its row."""
    extent = db.connection.execute(SQL["get_extent"], (key,)).fetchone()
    return db.segments.read(Extent(*extent)) if extent else db.bodies.path(queue_id)


def recipients(db: Database, rows: Iterable[Row]) -> tuple[StoredRecipient, ...]:
    """The values of whole rows of recipients."""
    classes = db.classes
    return tuple(read_recipient(row, classes.value, classes.usable_seconds) for row in rows)


def all_recipients(db: Database, key: int) -> tuple[StoredRecipient, ...]:
    """Every recipient of a message, in their order."""
    return recipients(db, db.connection.execute(SQL["get_recipients"], id_range(key)))


def find(db: Database, queue_id: str, *, with_body: bool = True) -> QueuedMessage | None:
    """The message with that queue ID."""
    row = db.connection.execute(SQL["get_key"], (queue_id,)).fetchone()
    return row and QueuedMessage(message(db, *row, with_body=with_body), all_recipients(db, *row))


def key_of(db: Database, queue_id: str) -> int | None:
    """The key of a message, also of one that is gone if its history is there; None for an unknown one."""
    row = db.connection.execute(SQL["get_key"], (queue_id,)).fetchone()
    row = row or db.connection.execute(SQL["get_past_key"], (queue_id,)).fetchone()
    return row and int(row[0])


def listing(
    db: Database, after: str, limit: int | None, owner_uid: int | None
) -> Generator[None, None, list[QueuedMessage]]:
    """Messages in order of arrival without header and body, a page to a slice."""
    found: list[QueuedMessage] = []
    start = key_of(db, after) if after else 0
    while start is not None:
        wanted = PAGE if limit is None else min(PAGE, limit - len(found))
        start, items = _page(db, start, wanted, owner_uid)
        found += items
        if limit is not None and len(found) >= limit:
            break
        yield
    return found


def select(db: Database, selection: Selection) -> Generator[None, None, list[str]]:
    """The queue IDs of the messages that are meant, in order of arrival."""
    found: list[str] = []
    if selection.queue_ids is not None:
        for queue_id in dict.fromkeys(selection.queue_ids):
            item = find(db, queue_id, with_body=False)
            if item and is_selected(selection, item):
                found.append(queue_id)
        return found
    start: int | None = 0
    while start is not None:
        start, items = _page(db, start, PAGE, selection.owner_uid)
        found += [item.message.queue_id for item in items if is_selected(selection, item)]
        yield
    return found


def _page(db: Database, after: int, limit: int, owner_uid: int | None) -> tuple[int | None, Sequence[QueuedMessage]]:
    """Some messages behind a key, of all or of one owner, and the key to go on behind; None: these were the last."""
    statement = SQL["get_page" if owner_uid is None else "get_page_of_owner"]
    parameters = {"after": after, "limit": limit, "owner_uid": owner_uid}
    rows = db.connection.execute(statement, parameters).fetchall()
    items: list[QueuedMessage] = []
    number_of_recipients = 0
    for row in rows:
        item = QueuedMessage(read_message(row, partial(_other_body, db)), all_recipients(db, row[0]))
        items.append(item)
        number_of_recipients += len(item.recipients)
        if number_of_recipients >= PAGE_RECIPIENTS:
            break
    return (items[-1].message.key if items and (len(items) < len(rows) or len(rows) == limit) else None), items
