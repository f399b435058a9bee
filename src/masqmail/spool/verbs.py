"""Verbs that act at once and are awaited all the same, for a spool that has nothing to wait for."""

import functools
from collections.abc import Awaitable, Callable, Generator
from typing import Generic, ParamSpec, TypeVar

from masqmail.spool.api import SpoolError

P = ParamSpec("P")
T = TypeVar("T")


class Answer(Generic[T]):
    """What a verb did already; awaiting it only tells."""

    def __init__(self, value: T | None, error: SpoolError | None) -> None:
        self._value = value
        self._error = error

    def __await__(self) -> Generator[None, None, T]:
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]
        yield


def verb(method: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """Makes a method that acts when it is called into one whose result is awaited."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> Answer[T]:
        try:
            return Answer(method(*args, **kwargs), None)
        except SpoolError as error:
            return Answer(None, error)

    return call
