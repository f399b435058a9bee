"""Classes and the recipients in them: their clocks, and moving recipients when the configuration has changed."""

from collections.abc import Collection, Iterator, Sequence

from masqmail.routing.route import RouteClass
from masqmail.spool import messages
from masqmail.spool.api import QueuedMessage
from masqmail.spool.classes import SQL
from masqmail.spool.database import Database
from masqmail.spool.rows import STATE, message_key
from masqmail.spool.states import State


def classes(db: Database) -> dict[RouteClass, int]:
    """The classes in use and how many recipients each has."""
    sizes = {value: db.tally.in_class(number) for number, value in db.classes.items()}
    return {value: size for value, size in sizes.items() if size}


def advance(db: Database, seconds: float, usable: Collection[RouteClass]) -> None:
    """Lets the usable time of these classes run on."""
    db.classes.advance(db.classes.known(usable), seconds)


def stale(db: Database, generation: str, limit: int) -> list[QueuedMessage]:
    """Messages, without their bodies, with recipients that wait in classes of another generation."""
    keys = sorted({message_key(id) for id in _stale_ids(db, generation, limit)})[:limit]
    return [
        QueuedMessage(messages.message(db, key, with_body=False), messages.all_recipients(db, key)) for key in keys
    ]


def _stale_ids(db: Database, generation: str, limit: int) -> Iterator[int]:
    for number, value in db.classes.items():
        if value.generation == generation or value.is_local:
            continue
        for state in (State.QUEUED, State.DEFERRED, State.HELD):
            if db.tally.recipients(number, state):
                for (id,) in db.connection.execute(SQL[f"some_{state.value}"], (number, limit)):
                    yield id


def reclass(db: Database, moves: Sequence[tuple[int, RouteClass]]) -> None:
    """Moves recipients with their ages; what is leased, ended or gone stays as it is."""
    for id, value in moves:
        row = db.connection.execute(SQL["get_place"], (id,)).fetchone()
        if row is None or STATE[row[1]] is State.LEASED or STATE[row[1]].is_ended:
            continue
        old, state, base = row
        new = db.classes.number(value)
        db.connection.execute(SQL["set_place"], (new, db.classes.moved_base(base, old, new), id))
        db.tally.remove(old, STATE[state])
        db.tally.add(new, STATE[state])
