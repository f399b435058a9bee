"""How messages come into our custody and leave it: transactions of `accept` and `record`."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from masqmail.spool import history
from masqmail.spool.api import HistoryEntry, NewMessage, Record, SpoolError
from masqmail.spool.bodies import NewBody
from masqmail.spool.changes import accepted_entries, is_allowed, message_size, recorded_entry, settled
from masqmail.spool.database import Database
from masqmail.spool.rows import (
    MAX_RECIPIENTS,
    STATE,
    Row,
    id_range,
    message_key,
    optional_stamp,
    stamp,
    storable,
    write_entry,
    write_message,
    write_recipient,
    write_status,
)
from masqmail.spool.statements import load
from masqmail.spool.states import State

SQL = load("custody")


def accept(db: Database, messages: Sequence[NewMessage]) -> None:
    """Writes messages with their bodies, recipients and first lines of history."""
    for message in messages:
        if not message.recipients:
            raise SpoolError(f"the message {message.queue_id} has no recipients")
        received, *others = accepted_entries(message)
        key = db.next_number()
        db.connection.execute(history.SQL["add"], write_entry(key, received))
        if others:
            history.add(db, others)
        if all(recipient.state.is_ended for recipient in message.recipients):
            if isinstance(message.body, NewBody):
                db.after_commit.append(message.body.remove)
        else:
            _store(db, key, message)


def _store(db: Database, key: int, message: NewMessage) -> None:
    if len(message.recipients) > MAX_RECIPIENTS:
        raise SpoolError(f"{len(message.recipients)} recipients are too many for one message")
    size, touched = message_size(message), stamp(message.received_at)
    db.connection.execute(SQL["add_message"], write_message(key, message, size))
    first, _ = id_range(key)
    rows = []
    for id, recipient in enumerate(message.recipients, first):
        number = db.classes.number(recipient.route_class)
        rows.append(write_recipient(id, number, touched, db.classes.usable_seconds(number), recipient))
        db.tally.add(number, recipient.state)
    db.connection.executemany(SQL["add_recipient"], rows)
    body = message.body.settle(message.queue_id) if isinstance(message.body, NewBody) else message.body
    db.connection.execute(SQL["add_content"], (key, message.header, body))
    db.tally.add_message(size)


def record(db: Database, records: Sequence[Record], reports: Sequence[NewMessage]) -> None:
    """Ends leases, removes the messages that have ended with them, and accepts the reports."""
    changed: defaultdict[int, dict[int, Row]] = defaultdict(dict)
    ending: dict[int, tuple[str, int, bool]] = {}
    entries: list[HistoryEntry] = []
    for item in records:
        key = message_key(item.recipient_id)
        row = db.connection.execute(SQL["get_standing"], (item.recipient_id,)).fetchone()
        if row is None or item.recipient_id in changed[key] or not is_allowed(STATE[row[4]], item.state):
            continue
        changed[key][item.recipient_id] = _settle(db, item, row)
        if item.state.is_ended:
            ending[key] = row[:3]
        entry = recorded_entry(item, row[0], row[6], row[14], db.now())
        if entry is not None:
            entries.append(entry)
    db.connection.executemany(SQL["end_lease"], [(id,) for rows in changed.values() for id in rows])
    for key, rows in changed.items():
        if key in ending and _have_ended(db, key, rows):
            remove(db, key, *ending[key])
        else:
            db.connection.executemany(SQL["update_recipient"], [(*row, id) for id, row in rows.items()])
    history.add(db, entries)
    accept(db, reports)


def _settle(db: Database, item: Record, row: Row) -> Row:
    """The values for `update_recipient` after a record; counts the move."""
    (old, old_state, base, _, attempts, warned, last_attempt_at, code, enhanced, text, route, _, held) = row[3:]
    new = db.classes.number(item.route_class)
    state, reason = settled(item, held)
    db.tally.remove(old, STATE[old_state])
    db.tally.add(new, state)
    status = write_status(item.status) if item.status is not None else (code, enhanced, text)
    if item.attempt is not None:
        attempts += item.attempt.spent
        last_attempt_at = stamp(item.attempt.at)
        route = item.attempt.route
    return (
        new,
        state.value,
        optional_stamp(item.due) if state is State.DEFERRED else None,
        db.classes.moved_base(base, old, new),
        attempts,
        warned if item.warned is None else item.warned,
        last_attempt_at,
        *status,
        route,
        storable(reason),
    )


def _have_ended(db: Database, key: int, changed: dict[int, Row]) -> bool:
    """Whether no recipient of a message is left, once these rows are written."""
    return all(
        STATE[changed[id][1] if id in changed else state].is_ended
        for id, _, state in db.connection.execute(SQL["get_states"], id_range(key))
    )


def remove(db: Database, key: int, queue_id: str, size_bytes: int, has_file: bool) -> None:
    """Deletes a message, whatever its recipients' states; its history stays."""
    ids = id_range(key)
    db.connection.execute(SQL["delete_recipients"], ids)
    db.connection.execute(SQL["delete_content"], (key,))
    db.connection.execute(SQL["delete_message"], (key,))
    db.tally.remove_message(size_bytes)
    if has_file:
        db.after_commit.append(partial(db.bodies.remove, queue_id))
