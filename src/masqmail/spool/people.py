"""What a person does to messages: hold, release, retry, remove, count."""

from collections.abc import Callable, Collection, Iterator
from datetime import datetime

from masqmail.spool import custody, history
from masqmail.spool.api import Counts, HistoryEntry
from masqmail.spool.database import Database
from masqmail.spool.rows import STATE, id_range, instant, storable
from masqmail.spool.statements import load
from masqmail.spool.states import State

SQL = load("people")


def hold(db: Database, queue_ids: Collection[str], reason: str, leased: bool) -> int:
    """Holds what waits, and with `leased` notes it for what is being sent now."""

    def hold_one(id: int, number: int, state: State, old_reason: str, held: str | None) -> bool:
        if leased and state is State.LEASED and held is None:
            db.connection.execute(SQL["set_lease_hold"], (storable(reason), id))
            return True
        return state.is_waiting and _move(db, id, number, state, State.HELD, reason)

    return _each_recipient(db, queue_ids, "held", reason, hold_one)


def release(db: Database, queue_ids: Collection[str]) -> int:
    """Undoes `hold`."""

    def release_one(id: int, number: int, state: State, reason: str, held: str | None) -> bool:
        if held is not None:
            db.connection.execute(SQL["set_lease_hold"], (None, id))
            return True
        return state is State.HELD and _move(db, id, number, state, State.QUEUED, "")

    return _each_recipient(db, queue_ids, "released", "", release_one)


def retry(db: Database, queue_ids: Collection[str]) -> int:
    """Makes deferred recipients queued ones."""

    def retry_one(id: int, number: int, state: State, reason: str, held: str | None) -> bool:
        if state is State.DEFERRED:
            _move(db, id, number, state, State.QUEUED, reason)
        return state.is_waiting

    return _each_recipient(db, queue_ids, "retried", "", retry_one)


def _move(db: Database, id: int, number: int, old: State, new: State, reason: str) -> bool:
    db.connection.execute(SQL["set_state"], (new.value, storable(reason), id))
    db.tally.move(number, old, new)
    return True


def _each_recipient(
    db: Database,
    queue_ids: Collection[str],
    event: str,
    text: str,
    change: Callable[[int, int, State, str, str | None], bool],
) -> int:
    """Applies a change to each recipient of these messages; returns how many it concerned."""
    total = 0
    for queue_id, key, _, _ in _in_custody(db, queue_ids):
        rows = db.connection.execute(SQL["get_standing"], id_range(key)).fetchall()
        concerned = sum(change(id, number, STATE[state], reason, held) for id, number, state, reason, held in rows)
        if concerned:
            history.add(db, [HistoryEntry(db.now(), queue_id, event, text=text)])
        total += concerned
    return total


def remove(db: Database, queue_ids: Collection[str], now: datetime, text: str) -> int:
    """Deletes messages, the leased ones too: their records will be passed over."""
    total = 0
    for queue_id, key, size_bytes, is_elsewhere in _in_custody(db, queue_ids):
        for _, number, state in db.connection.execute(custody.SQL["get_states"], id_range(key)):
            db.tally.remove(number, STATE[state])
        db.connection.execute(custody.SQL["delete_leases"], id_range(key))
        custody.remove(db, {key: (queue_id, size_bytes, is_elsewhere)})
        history.add(db, [HistoryEntry(now, queue_id, "removed", text=text)])
        total += 1
    return total


def _in_custody(db: Database, queue_ids: Collection[str]) -> Iterator[tuple[str, int, int, bool]]:
    """Those of these messages that are there: queue ID, key, size and whether the body is a file."""
    for queue_id in queue_ids:
        row = db.connection.execute(custody.SQL["get_custody"], (queue_id,)).fetchone()
        if row:
            yield queue_id, *row


def counts(db: Database) -> Counts:
    """The numbers that are kept in memory."""
    oldest = db.connection.execute(SQL["get_oldest"]).fetchone()
    queued = db.tally.in_state(State.QUEUED) + db.tally.in_state(State.LEASED)
    deferred, held = db.tally.in_state(State.DEFERRED), db.tally.in_state(State.HELD)
    return Counts(
        messages=db.tally.messages,
        recipients=queued + deferred + held,
        queued=queued,
        deferred=deferred,
        held=held,
        bytes=db.tally.bytes,
        oldest_at=oldest and instant(oldest[0]),
    )
