"""New rows, gathered over a transaction and written many to a statement.

Every statement has its price beside the insert itself, and in a thread it lets go of Python's lock and must get that
back from a busy event loop, which costs more. So the rows of a whole group of messages go into each table with one
statement.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from itertools import chain

from masqmail.spool.rows import Row

#: More rows than this take several statements: each number of rows is a statement that SQLite must know.
MAX_ROWS = 16


class Inserts:
    """Rows that are still to be written. The tables do not refer to each other, so each is filled by itself."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._waiting: defaultdict[str, list[Row]] = defaultdict(list)

    def add(self, statement: str, rows: Iterable[Row]) -> None:
        """Keeps rows for an INSERT of one row."""
        self._waiting[statement] += rows

    def write(self) -> None:
        """Writes what was added, in that order within each table."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, defaultdict(list)
        for statement, rows in waiting.items():
            for start in range(0, len(rows), MAX_ROWS):
                some = rows[start : start + MAX_ROWS]
                self._connection.execute(_for_rows(statement, len(some)), list(chain.from_iterable(some)))

    def forget(self) -> None:
        """Drops what was added, with the transaction that it was for."""
        self._waiting.clear()


@cache
def _for_rows(statement: str, number: int) -> str:
    """An INSERT of one row as one of several rows."""
    head, values = statement.rstrip(";").split("VALUES")
    return f"{head}VALUES{','.join([values] * number)}"
