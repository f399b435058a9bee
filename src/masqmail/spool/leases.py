"""The right to work on recipients: taking it, noting that it was used, and giving back what a crash left."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from masqmail.routing.route import RouteClass
from masqmail.spool import history, messages
from masqmail.spool.api import HistoryEntry, Lease
from masqmail.spool.changes import IN_DOUBT
from masqmail.spool.database import Database
from masqmail.spool.rows import STATE, Row, id_range, instant, message_key, optional_stamp, stamp
from masqmail.spool.statements import load
from masqmail.spool.states import State

SQL = load("leases")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which waiting recipients somebody asks for; see `api.Spool.lease`."""

    classes: Collection[RouteClass]
    now: datetime
    woken_at: datetime | None
    domain: str | None = None

    def parameters(self) -> dict[str, object]:
        """For the statements, which take what they need."""
        return {"now": stamp(self.now), "woken_at": optional_stamp(self.woken_at), "domain": self.domain}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is taken at a time."""

    max_messages: int
    max_bytes: int


def lease(db: Database, worker: str, wanted: Wanted, bounds: Bounds) -> list[Lease]:
    """Takes the oldest waiting recipients, a message's together."""
    numbers = db.classes.known(wanted.classes)
    candidates = _candidates(db, numbers, wanted, bounds.max_messages)
    parameters = wanted.parameters()
    leases: list[Lease] = []
    taken: list[Row] = []
    for key in _within(db, sorted(candidates), bounds):
        first, last = id_range(key)
        found = db.connection.execute(SQL["get_wanted"], {"first": first, "last": last, **parameters})
        rows = [row for row in found if row[1] in numbers]
        leases.append(Lease(messages.message(db, key), messages.recipients(db, map(_as_leased, rows))))
        taken += rows
    touched = stamp(db.now())
    db.connection.executemany(SQL["mark_leased"], [(touched, row[0]) for row in taken])
    db.connection.executemany(SQL["add_lease"], [(row[0], worker) for row in taken])
    for row in taken:
        db.tally.move(row[1], STATE[row[2]], State.LEASED)
    return leases


def _as_leased(row: Row) -> Row:
    """A row of `recipient` as it is after `mark_leased`."""
    return (row[0], row[1], State.LEASED.value, None, *row[4:])


def _candidates(db: Database, numbers: Sequence[int], wanted: Wanted, limit: int) -> set[int]:
    """Keys of messages with wanted recipients, the first ones of each class by index: enough to fill a lease."""
    suffix = "" if wanted.domain is None else "_in_domain"
    found: set[int] = set()
    for number in numbers:
        kinds = ["queued"] if db.tally.recipients[number, State.QUEUED] else []
        if db.tally.recipients[number, State.DEFERRED]:
            kinds += ["due"] if wanted.woken_at is None else ["due", "untouched"]
        for kind in kinds:
            keys: set[int] = set()
            for (id,) in db.connection.execute(SQL[kind + suffix], {**wanted.parameters(), "class": number}):
                keys.add(message_key(id))
                if len(keys) >= limit:
                    break
            found |= keys
    return found


def _within(db: Database, keys: Sequence[int], bounds: Bounds) -> list[int]:
    """As many of these messages as fit, but at least one."""
    size = 0
    for number, key in enumerate(keys[: bounds.max_messages]):
        size += db.connection.execute(SQL["get_size"], (key,)).fetchone()[0]
        if size > bounds.max_bytes and number:
            return list(keys[:number])
    return list(keys[: bounds.max_messages])


def begin(db: Database, recipient_ids: Collection[int]) -> None:
    """Notes that transactions may be completed by the other side from now on."""
    db.connection.executemany(SQL["begin"], [(id,) for id in recipient_ids])


def waiting_domains(db: Database, wanted: Wanted, limit: int) -> list[str]:
    """Domains with something to lease, found by jumping from one to the next in an index."""
    found: set[str] = set()
    for number in db.classes.known(wanted.classes):
        for domain in _domains_of(db, number, wanted):
            found.add(domain)
            if len(found) >= limit:
                return sorted(found)
    return sorted(found)


def _domains_of(db: Database, number: int, wanted: Wanted) -> Iterator[str]:
    parameters: dict[str, object] = {**wanted.parameters(), "class": number, "after": ""}
    while row := db.connection.execute(SQL["next_queued_domain"], parameters).fetchone():
        (parameters["after"],) = row
        yield row[0]
    parameters["after"] = ""
    while row := db.connection.execute(SQL["next_deferred_domain"], parameters).fetchone():
        domain, due = row
        parameters["after"] = parameters["domain"] = domain
        if due <= stamp(wanted.now) or db.connection.execute(SQL["untouched_in_domain"], parameters).fetchone():
            yield domain


def next_due(db: Database, classes: Collection[RouteClass], after: datetime) -> datetime | None:
    """The earliest due time of these classes behind an instant."""
    rows = [
        db.connection.execute(SQL["next_due"], {"class": number, "after": stamp(after)}).fetchone()
        for number in db.classes.known(classes)
    ]
    return min((instant(row[0]) for row in rows if row), default=None)


def recover(db: Database, now: datetime) -> int:
    """Gives back every lease there is; returns how many of them were begun."""
    doubts: list[HistoryEntry] = []
    for id, begun, held, number, target, reason, queue_id in db.connection.execute(SQL["get_abandoned"]).fetchall():
        if begun:
            reason = IN_DOUBT
            doubts.append(HistoryEntry(now, queue_id, "in doubt", target, text=IN_DOUBT))
        state = State.QUEUED if held is None else State.HELD
        db.connection.execute(SQL["give_back"], (state.value, reason if held is None else held, id))
        db.tally.move(number, State.LEASED, state)
    db.connection.execute(SQL["forget_leases"])
    history.add(db, doubts)
    return len(doubts)


def clamp_due(db: Database, now: datetime, longest_wait: timedelta) -> None:
    """Makes due now what is due too far away."""
    parameters = {"now": stamp(now), "latest": stamp(now + longest_wait)}
    for number, _ in db.classes.items():
        db.connection.execute(SQL["clamp_due"], {**parameters, "class": number})
