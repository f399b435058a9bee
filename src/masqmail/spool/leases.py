"""The right to work on recipients: taking it, noting that it was used, and giving back what a crash left."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, groupby

from masqmail.frozen import frozen
from masqmail.routing.route import RouteClass
from masqmail.spool import history, messages, people
from masqmail.spool.api import ContentLost, HistoryEntry, Lease, StoredMessage
from masqmail.spool.changes import IN_DOUBT
from masqmail.spool.database import Database
from masqmail.spool.rows import STATE, Row, id_list, instant, message_key, optional_stamp, stamp
from masqmail.spool.statements import load
from masqmail.spool.states import State

SQL = load("leases")


@frozen
class Wanted:
    """Which waiting recipients somebody asks for; see `api.Spool.lease`."""

    classes: Collection[RouteClass]
    now: datetime
    woken_at: datetime | None
    domain: str | None = None

    def parameters(self) -> dict[str, object]:
        """For the statements, which take what they need."""
        return {"now": stamp(self.now), "woken_at": optional_stamp(self.woken_at), "domain": self.domain}


@frozen
class Bounds:
    """How much is taken at a time."""

    max_messages: int
    max_bytes: int


def lease(db: Database, worker: str, wanted: Wanted, bounds: Bounds) -> list[Lease]:
    """Takes the oldest waiting recipients, a message's together. What cannot be read is held instead."""
    numbers = db.classes.known(wanted.classes)
    stored: dict[int, StoredMessage] = {}
    while not stored and (keys := _within(db, sorted(_candidates(db, numbers, wanted, bounds.max_messages)), bounds)):
        stored = dict(_read(db, keys))  # what was held instead is no candidate any more
    found = db.connection.execute(SQL["get_wanted"], {"keys": id_list([*stored]), **wanted.parameters()})
    taken = [row for row in found if row[1] in numbers]  # in the order of the keys
    _take(db, worker, taken)
    return [
        Lease(stored[key], messages.recipients(db, map(_as_leased, rows)))
        for key, rows in groupby(taken, lambda row: message_key(row[0]))
    ]


def _read(db: Database, keys: Sequence[int]) -> Iterator[tuple[int, StoredMessage]]:
    """Messages by their keys. One whose content is lost is held, so that it stops no other."""
    for key in keys:
        try:
            yield key, messages.message(db, key)
        except ContentLost as lost:
            people.hold(db, [messages.message(db, key, with_body=False).queue_id], str(lost), leased=False)


def _take(db: Database, worker: str, rows: Sequence[Row]) -> None:
    """Marks recipients as leased."""
    ids = id_list([row[0] for row in rows])
    db.connection.execute(SQL["mark_leased"], {"ids": ids, "touched": stamp(db.now())})
    db.connection.execute(SQL["add_leases"], {"ids": ids, "worker": worker})
    for row in rows:
        db.tally.move(row[1], STATE[row[2]], State.LEASED)


def _as_leased(row: Row) -> Row:
    """A row of `recipient` as it is after `mark_leased`."""
    return (row[0], row[1], State.LEASED.value, None, *row[4:])


def _candidates(db: Database, numbers: Sequence[int], wanted: Wanted, limit: int) -> set[int]:
    """Keys of messages with wanted recipients, the first ones of each class by index: enough to fill a lease."""
    suffix = "" if wanted.domain is None else "_in_domain"
    found: set[int] = set()
    for number in numbers:
        kinds = ["queued"] if db.tally.recipients(number, State.QUEUED) else []
        if db.tally.recipients(number, State.DEFERRED):
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
    sizes = db.connection.execute(SQL["get_sizes"], (id_list(keys[: bounds.max_messages]),)).fetchall()
    for number, (_, size_bytes) in enumerate(sizes):
        size += size_bytes
        if size > bounds.max_bytes and number:
            return list(keys[:number])
    return list(keys[: bounds.max_messages])


def begin(db: Database, shares: Sequence[Collection[int]]) -> None:
    """Notes that transactions of these recipients may be completed by the other side from now on."""
    db.connection.execute(SQL["begin"], (id_list(chain.from_iterable(shares)),))


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
    if db.tally.recipients(number, State.DEFERRED):
        # Each finds them all. One is slow when many domains are not due, the other when a few have much that is.
        by_domain, by_time = _deferred_by_domain(db, number, wanted), _deferred_by_time(db, number, wanted)
        for domains in zip(by_domain, by_time, strict=False):
            yield from filter(None, domains)


def _deferred_by_domain(db: Database, number: int, wanted: Wanted) -> Iterator[str | None]:
    """Jumps from one domain to the next; None for one that has to wait."""
    parameters: dict[str, object] = {**wanted.parameters(), "class": number, "after": ""}
    while row := db.connection.execute(SQL["next_deferred_domain"], parameters).fetchone():
        domain, due = row
        parameters["after"] = parameters["domain"] = domain
        is_due = due <= stamp(wanted.now)
        yield domain if is_due or db.connection.execute(SQL["untouched_in_domain"], parameters).fetchone() else None


def _deferred_by_time(db: Database, number: int, wanted: Wanted) -> Iterator[str]:
    """The domains of all that may go, many of them often."""
    parameters = {**wanted.parameters(), "class": number}
    for name in ("domains_due", "domains_untouched"):
        for (domain,) in db.connection.execute(SQL[name], parameters):
            if domain:
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
