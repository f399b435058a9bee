"""How many recipients of each class are in each state, and how many messages, kept in memory.

It is counted once when the queue file is opened, over small indexes, and kept right by every step. So the counts
cost nothing however long the queue is, and cannot drift over a restart.
"""

import sqlite3
from collections import Counter

from masqmail.spool.statements import load
from masqmail.spool.states import State

SQL = load("start")


class Tally:
    """The counts, with the way back to where they were when a transaction began. Ended recipients do not count."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.messages, self.bytes = connection.execute(SQL["count_messages"]).fetchone()
        self.recipients: Counter[tuple[int, State]] = Counter()
        for state in (State.QUEUED, State.LEASED, State.DEFERRED, State.HELD):
            for class_number, number in connection.execute(SQL[f"count_{state.value}"]):
                self.recipients[class_number, state] = number
        self.begin()

    def begin(self) -> None:
        """Remembers the counts as they are."""
        self._before = self.messages, self.bytes, self.recipients.copy()

    def rollback(self) -> None:
        """Back to the last `begin`."""
        self.messages, self.bytes, self.recipients = self._before
        self.begin()

    def add_message(self, size_bytes: int) -> None:
        self.messages += 1
        self.bytes += size_bytes

    def remove_message(self, size_bytes: int) -> None:
        self.messages -= 1
        self.bytes -= size_bytes

    def add(self, class_number: int, state: State) -> None:
        """One more recipient."""
        if not state.is_ended:
            self.recipients[class_number, state] += 1

    def remove(self, class_number: int, state: State) -> None:
        """One recipient less."""
        if not state.is_ended:
            self.recipients[class_number, state] -= 1

    def move(self, class_number: int, old: State, new: State) -> None:
        """One recipient changes its state."""
        self.remove(class_number, old)
        self.add(class_number, new)

    def in_class(self, class_number: int) -> int:
        """Recipients of a class that have not ended."""
        return sum(self.recipients[class_number, state] for state in State)

    def in_state(self, state: State) -> int:
        """Recipients in a state."""
        return sum(number for (_, standing), number in self.recipients.items() if standing is state)
