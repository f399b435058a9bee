"""How messages come into our custody and leave it: transactions of `accept` and `record`."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from masqmail.spool import fetched, history
from masqmail.spool.api import HistoryEntry, NewMessage, NewRecipient, Record, SpoolError
from masqmail.spool.bodies import IN_ROW_BYTES, NewBody
from masqmail.spool.changes import (
    forwarded_entries,
    is_allowed,
    message_size,
    new_children,
    received_text,
    recorded_entry,
    settled,
    unqueued_entries,
)
from masqmail.spool.database import Database
from masqmail.spool.rows import (
    MAX_RECIPIENTS,
    POSITION_BITS,
    STATE,
    TARGET_KIND,
    Row,
    id_list,
    id_range,
    message_key,
    optional_stamp,
    stamp,
    storable,
    write_message,
    write_recipient,
    write_status,
)
from masqmail.spool.segments import Extent
from masqmail.spool.statements import load
from masqmail.spool.states import State

SQL = load("custody")

#: Of a message: its queue ID, its size, and whether its body is elsewhere than in its row.
_Custody = tuple[str, int, bool]


def accept(db: Database, shares: Sequence[Sequence[NewMessage]]) -> None:
    """Writes messages with their bodies, recipients and first lines of history."""
    rows = _Rows(db)
    for message in chain.from_iterable(shares):
        if not message.recipients:
            raise SpoolError(f"the message {message.queue_id} has no recipients")
        key, size, at = db.next_number(), message_size(message), stamp(message.received_at)
        rows.received.append((key, at, message.queue_id, storable(received_text(message, size))))
        if message.fetched is not None:
            fetched.note(db, message.fetched)
        is_ended = True
        for recipient in message.recipients:
            if recipient.state is not State.QUEUED:
                is_ended = _tell_unqueued(db, message)
                break
            is_ended = False
        if not is_ended:
            rows.add(key, message, size, at)
        elif isinstance(message.body, NewBody):
            db.after_commit.append(message.body.remove)
    rows.write()


def _tell_unqueued(db: Database, message: NewMessage) -> bool:
    """Writes the history of recipients that do not simply wait; says whether all of them have ended."""
    history.add(db, unqueued_entries(message))
    return all(recipient.state.is_ended for recipient in message.recipients)


class _Rows:
    """The rows of messages that are accepted together, table by table."""

    def __init__(self, db: Database) -> None:
        self.received: list[Row] = []  # lines of history
        self._db = db
        self._messages: list[Row] = []
        self._recipients: list[Row] = []
        self._contents: list[Row] = []
        self._extents: list[Row] = []
        self._size_bytes = 0

    def add(self, key: int, message: NewMessage, size_bytes: int, at: int) -> None:
        """Adds a message with its recipients."""
        if len(message.recipients) > MAX_RECIPIENTS:
            raise SpoolError(f"{len(message.recipients)} recipients are too many for one message")
        db, classes = self._db, self._db.classes
        for id, recipient in enumerate(message.recipients, key << POSITION_BITS):
            number = classes.number(recipient.route_class)
            self._recipients.append(write_recipient(id, number, at, classes.usable_seconds(number), recipient))
            db.tally.add(number, recipient.state)
        self._messages.append(write_message(key, message, size_bytes, at))
        self._contents.append((key, message.header, self._body_for_row(key, message)))
        self._size_bytes += size_bytes

    def _body_for_row(self, key: int, message: NewMessage) -> bytes | bytearray | None:
        """A small body; another one is stored elsewhere with this transaction."""
        body = message.body
        if isinstance(body, NewBody) and body.in_memory is None:
            self._db.new_files.append((body, message.queue_id))
            return None
        content = body.in_memory if isinstance(body, NewBody) else body
        assert isinstance(content, bytes | bytearray)
        if len(content) <= IN_ROW_BYTES:
            return content
        self._extents.append((key, *self._db.segments.place(content)))
        return None

    def write(self) -> None:
        """Has them written with this transaction."""
        inserts = self._db.inserts
        inserts.add(SQL["add_received"], self.received)
        inserts.add(SQL["add_message"], self._messages)
        inserts.add(SQL["add_recipient"], self._recipients)
        inserts.add(SQL["add_content"], self._contents)
        inserts.add(SQL["add_extent"], self._extents)
        self._db.tally.add_messages(len(self._messages), self._size_bytes)


def drop(messages: Sequence[NewMessage]) -> None:
    """Removes the bodies of messages that were not accepted."""
    for message in messages:
        if isinstance(message.body, NewBody):
            message.body.remove()


def drop_reports(share: tuple[Sequence[Record], Sequence[NewMessage]]) -> None:
    """The same for what was not recorded."""
    drop(share[1])


def record(db: Database, shares: Sequence[tuple[Sequence[Record], Sequence[NewMessage]]]) -> None:
    """Ends leases, removes the messages that have ended with them, and accepts the reports.

    Of two records for one recipient the first counts.
    """
    records = [item for share, _ in shares for item in share]
    wanted = id_list([item.recipient_id for item in records])
    standing = {id: row for id, *row in db.connection.execute(SQL["get_standing"], (wanted,))}
    changed: dict[int, Row] = {}
    ending: dict[int, _Custody] = {}
    entries: list[HistoryEntry] = []
    for item in records:
        row = standing.get(item.recipient_id)
        if row is None or item.recipient_id in changed or not is_allowed(STATE[row[4]], item.state):
            continue
        changed[item.recipient_id] = _settle(db, item, row)
        if item.state.is_ended:
            ending[message_key(item.recipient_id)] = (row[0], row[1], row[2])
        entry = recorded_entry(item, row[0], row[6], row[14], db.now())
        if entry is not None:
            entries.append(entry)
    db.connection.execute(SQL["end_leases"], (id_list(changed),))
    ended = _ended(db, ending, changed)
    remove(db, ended)
    staying = [(*row, id) for id, row in changed.items() if message_key(id) not in ended]
    db.connection.executemany(SQL["update_recipient"], staying)
    history.add(db, entries)
    accept(db, [reports for _, reports in shares])


_Forward = tuple[int, Sequence[NewRecipient], Sequence[NewMessage], str]


def drop_forward(share: _Forward) -> None:
    """Removes the bodies of reports that were not stored."""
    drop(share[2])


def forward(db: Database, shares: Sequence[_Forward]) -> None:
    """Puts children in the place of recipients, see `api.Spool.forward`."""
    for id, children, reports, text in shares:
        row = db.connection.execute(SQL["get_standing"], (id_list([id]),)).fetchone()
        if row is None or STATE[row[5]] is not State.LEASED:
            drop(reports)
            continue
        _, queue_id, size_bytes, is_elsewhere, old_class, old_state, _, target, *_, held = row
        key = message_key(id)
        rows = db.connection.execute(SQL["get_targets"], id_range(key)).fetchall()
        there = [(TARGET_KIND[kind], name) for other, kind, name in rows if other != id]
        new = new_children(children, there, held)
        _add_recipients(db, key, max(other for other, _, _ in rows) + 1, new)
        db.tally.remove(old_class, STATE[old_state])
        db.connection.execute(SQL["end_leases"], (id_list([id]),))
        db.connection.execute(SQL["delete_recipient"], (id,))
        history.add(db, forwarded_entries(queue_id, target, text, new, db.now()))
        if not db.connection.execute(SQL["get_unended"], (id_list([key]),)).fetchone():
            remove(db, {key: (queue_id, size_bytes, is_elsewhere)})
        accept(db, [reports])


def _add_recipients(db: Database, key: int, first: int, recipients: Sequence[NewRecipient]) -> None:
    """Writes further recipients of a message, from this ID on."""
    if first + len(recipients) > id_range(key)[1]:
        raise SpoolError(f"{len(recipients)} recipients more are too many for one message")
    touched, rows = stamp(db.now()), []
    for id, recipient in enumerate(recipients, first):
        number = db.classes.number(recipient.route_class)
        rows.append(write_recipient(id, number, touched, db.classes.usable_seconds(number), recipient))
        db.tally.add(number, recipient.state)
    db.connection.executemany(SQL["add_recipient"], rows)


def _settle(db: Database, item: Record, row: Sequence[Any]) -> Row:
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


def _ended(db: Database, ending: Mapping[int, _Custody], changed: Mapping[int, Row]) -> dict[int, _Custody]:
    """Those of these messages that have no recipient left, once the changed rows are written."""
    if not ending:
        return {}
    unended = {
        message_key(id)
        for (id,) in db.connection.execute(SQL["get_unended"], (id_list(ending),))
        if id not in changed or not STATE[changed[id][1]].is_ended
    }
    return {key: custody for key, custody in ending.items() if key not in unended}


def remove(db: Database, messages: Mapping[int, _Custody]) -> None:
    """Deletes messages, by their keys, whatever their recipients' states; their history stays."""
    if not messages:
        return
    keys = id_list(messages)
    for statement in ("delete_recipients", "delete_content", "delete_messages"):
        db.connection.execute(SQL[statement], (keys,))
    for _, size_bytes, _ in messages.values():
        db.tally.remove_message(size_bytes)
    _remove_bodies(db, {key: queue_id for key, (queue_id, _, is_elsewhere) in messages.items() if is_elsewhere})


def _remove_bodies(db: Database, messages: dict[int, str]) -> None:
    """Gives up the bodies of these messages, which are in segments or files, by their keys and queue IDs."""
    if not messages:
        return
    keys = id_list(messages)
    for key, *extent in db.connection.execute(SQL["get_extents"], (keys,)):
        db.segments.give_up(Extent(*extent))
        del messages[key]
    db.connection.execute(SQL["delete_extents"], (keys,))
    for queue_id in messages.values():
        db.after_commit.append(partial(db.bodies.remove, queue_id))
