"""How many recipients of each class are in each state, and how many messages, kept in memory.

Every step keeps the counts right, and its transaction stores those that it changed. So they cost nothing however
long the queue is, are there at once when it is opened, and survive a crash like what they count.
"""

import sqlite3
from collections import Counter

from masqmail.spool.inserts import Inserts
from masqmail.spool.statements import load
from masqmail.spool.states import State

SQL = load("start")

#: What is counted of all messages; no class has the number 0.
_MESSAGES, _BYTES = (0, "messages"), (0, "bytes")

#: The states that count, and those of them that an index tells of.
_COUNTED = (State.QUEUED, State.DEFERRED, State.HELD, State.LEASED)
_INDEXED = (State.QUEUED, State.DEFERRED, State.HELD)

Counts = Counter[tuple[int, str]]


class Tally:
    """The counts, with the way back to where they were when a transaction began. Ended recipients do not count."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._before: dict[tuple[int, str], int] = {}  # what this transaction changed, as it was

    def begin(self) -> None:
        """From here on the counts can be taken back."""
        self._before.clear()

    def rollback(self) -> None:
        """Back to the last `begin`."""
        for key, number in self._before.items():
            self._counts[key] = number
        self._before.clear()

    def write(self, inserts: Inserts) -> None:
        """Stores what has changed since `begin`."""
        counts = self._counts
        rows = [(*key, counts[key]) for key, before in self._before.items() if counts[key] != before]
        inserts.add(SQL["set_number"], rows)

    def _add(self, key: tuple[int, str], number: int) -> None:
        before = self._counts[key]
        if key not in self._before:
            self._before[key] = before
        self._counts[key] = before + number

    def add_messages(self, number: int, size_bytes: int) -> None:
        """So many messages more, of this size together."""
        self._add(_MESSAGES, number)
        self._add(_BYTES, size_bytes)

    def remove_message(self, size_bytes: int) -> None:
        self._add(_MESSAGES, -1)
        self._add(_BYTES, -size_bytes)

    def add(self, class_number: int, state: State) -> None:
        """One more recipient."""
        if not state.is_ended:
            self._add((class_number, state._value_), 1)

    def remove(self, class_number: int, state: State) -> None:
        """One recipient less."""
        if not state.is_ended:
            self._add((class_number, state._value_), -1)

    def move(self, class_number: int, old: State, new: State) -> None:
        """One recipient changes its state."""
        self.remove(class_number, old)
        self.add(class_number, new)

    def forget(self, connection: sqlite3.Connection) -> None:
        """Removes what was counted and stored; for a queue that is empty, as far as this transaction knows."""
        self._before = {**self._counts, **self._before}
        self._counts.clear()
        connection.execute(SQL["forget_tally"])

    @property
    def messages(self) -> int:
        return self._counts[_MESSAGES]

    @property
    def bytes(self) -> int:
        return self._counts[_BYTES]

    def recipients(self, class_number: int, state: State) -> int:
        """Recipients of a class in a state."""
        return self._counts[class_number, state.value]

    def in_class(self, class_number: int) -> int:
        """Recipients of a class that have not ended."""
        return sum(self._counts[class_number, state.value] for state in _COUNTED)

    def in_state(self, state: State) -> int:
        """Recipients in a state."""
        return sum(number for (_, counted), number in self._counts.items() if counted == state.value)

    def is_right(self, counts: Counts) -> bool:
        """Whether these are the same numbers."""
        return +self._counts == +counts


def stored(connection: sqlite3.Connection) -> Counts:
    """The counts as the last transaction left them."""
    return Counter({(number, counted): count for number, counted, count in connection.execute(SQL["get_tally"])})


def is_plausible(connection: sqlite3.Connection, counts: Counts, class_numbers: list[int]) -> bool:
    """Whether there is something exactly where something was counted; costs a look at an index for each class.

    A count of nothing that is there would hide mail from the scheduler, so this is not left to trust.
    """
    places: list[tuple[str, tuple[int, ...], tuple[int, str]]] = [("has_message", (), _MESSAGES)]
    places += [(f"has_{state.value}", (n,), (n, state.value)) for n in class_numbers for state in _INDEXED]
    return all(
        connection.execute(SQL[name], arguments).fetchone()[0] == (counts[key] > 0) for name, arguments, key in places
    )


def count(connection: sqlite3.Connection) -> Counts:
    """The counts, found by reading the whole queue."""
    counts: Counts = Counter()
    counts[_MESSAGES], counts[_BYTES] = connection.execute(SQL["count_messages"]).fetchone()
    for state in _COUNTED:
        for class_number, number in connection.execute(SQL[f"count_{state.value}"]):
            counts[class_number, state.value] = number
    return counts


def read(connection: sqlite3.Connection, class_numbers: list[int]) -> Tally:
    """The tally of a queue that was just opened; counted anew, once, when what was stored cannot be right."""
    counts = stored(connection)
    if not is_plausible(connection, counts, class_numbers):
        counts = count(connection)
        connection.execute("BEGIN")
        connection.execute(SQL["forget_tally"])
        connection.executemany(SQL["set_number"], [(*key, number) for key, number in counts.items()])
        connection.execute("COMMIT")
    return Tally(counts)
