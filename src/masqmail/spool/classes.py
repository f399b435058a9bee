"""The distinct classes of recipients and the clocks of their usable time, held in memory as well.

There are few of them, so every step can use them without a query. The clock of a class only ever runs forward;
a recipient's age is the difference to the value it stored, so no recipient is touched when time passes.
"""

import sqlite3
from collections.abc import Collection, Iterable

from masqmail.routing.route import RouteClass
from masqmail.spool.rows import read_class, write_class
from masqmail.spool.statements import load

SQL = load("classes")


class Classes:
    """The table `class`. Numbers are its row ids."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.reload()

    def reload(self) -> None:
        """Reads the table again, after a transaction was undone."""
        self._values: dict[int, RouteClass] = {}
        self._numbers: dict[RouteClass, int] = {}
        self._usable: dict[int, float] = {}
        for number, text, usable_seconds in self._connection.execute(SQL["get_classes"]):
            self._learn(number, read_class(text), usable_seconds)

    def _learn(self, number: int, value: RouteClass, usable_seconds: float) -> None:
        self._values[number] = value
        self._numbers[value] = number
        self._usable[number] = usable_seconds

    def number(self, value: RouteClass) -> int:
        """The number of a class, which is added when it is new."""
        number = self._numbers.get(value)
        if number is None:
            ((number,),) = self._connection.execute(SQL["add_class"], (write_class(value),)).fetchall()
            self._learn(number, value, 0.0)
        return number

    def known(self, values: Iterable[RouteClass]) -> list[int]:
        """The numbers of those classes that any recipient ever had."""
        return [self._numbers[value] for value in values if value in self._numbers]

    def value(self, number: int) -> RouteClass:
        return self._values[number]

    def items(self) -> Collection[tuple[int, RouteClass]]:
        return self._values.items()

    def usable_seconds(self, number: int) -> float:
        """How long one of the class's routes could be used, since the class exists."""
        return self._usable[number]

    def moved_base(self, base: float, old: int, new: int) -> float:
        """The base with which a recipient keeps its age in another class."""
        return self._usable[new] - (self._usable[old] - base)

    def advance(self, numbers: Iterable[int], seconds: float) -> None:
        """Lets the clocks of these classes run on."""
        for number in numbers:
            self._usable[number] += seconds
            self._connection.execute(SQL["set_usable"], (self._usable[number], number))

    def forget(self, numbers: Iterable[int]) -> None:
        """Removes classes that no recipient has."""
        for number in numbers:
            self._connection.execute(SQL["delete_class"], (number,))
            del self._numbers[self._values.pop(number)], self._usable[number]
