"""The one thread that touches the queue file, and its group commit.

Requests are served in the order in which they came. All that wait when the thread is free go into one transaction;
while that is being synced the next ones gather, so the busier it is, the more messages share one sync. Callers are
answered when *their* commit is on disk.

When a request of a group fails the whole group is undone and each of its requests runs again in a transaction of
its own, so that one bad one fails alone. That is rare; a savepoint around every request would cost each accepted
message a copy of every page it changes. So a request must be repeatable.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from enum import Enum
from itertools import takewhile
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from masqmail.spool.api import SpoolBroken, SpoolError, SpoolFull
from masqmail.spool.database import Database, what_failed

S = TypeVar("S")
T = TypeVar("T")

#: A transaction with so many requests takes no more, so that the first of them are not kept waiting.
MAX_GROUP = 256


class Effect(Enum):
    """What a request asks of the disk."""

    NOTHING = "nothing"  # it only reads; answered at once when nothing unsynced was done before it
    LOOSE = "loose"  # survives the death of the process; a power failure may undo it
    FIRM = "firm"  # on stable storage before the answer


class Request(NamedTuple):
    """Something to do with the database.

    `work` may be a generator function: then its slices run between the transactions of others and its return
    value is the answer. With a `share` it is joint work: it is done once for the shares of several requests.
    `on_failure` runs in the thread when nothing of it was stored. What `is_owed` follows from something we have
    accepted: the ballast is there for it.
    """

    work: Callable[..., Any]
    effect: Effect
    future: asyncio.Future[Any]
    on_failure: Callable[[], None] | None = None
    is_owed: bool = True
    share: object = None


Answer = tuple[asyncio.Future[Any], Any, Exception | None]


class Writer:
    """Owns the database from `start` to `close`. Its methods belong to the event loop it was made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[list[Request] | None] = SimpleQueue()
        self._slices: deque[tuple[asyncio.Future[Any], Generator[None, None, Any]]] = deque()
        self._asked: list[Request] = []  # in this turn of the event loop
        self._end: SpoolError | None = None  # why nothing is taken any more

    async def start(self, open_database: Callable[[], Database]) -> None:
        """Opens the database in the thread; raises what that raises."""
        opened = self._loop.create_future()
        self._ended = self._loop.create_future()
        threading.Thread(target=self._run, args=(open_database, opened), name="spool", daemon=True).start()
        await opened

    def submit(
        self,
        work: Callable[[Database], T],
        effect: Effect,
        *,
        on_failure: Callable[[], None] | None = None,
        is_owed: bool = True,
    ) -> asyncio.Future[T]:
        """Queues a request; it takes effect whether or not the answer is awaited."""
        return self._put(work, effect, on_failure, is_owed)

    def submit_joint(
        self,
        work: Callable[[Database, Sequence[S]], None],
        share: S,
        effect: Effect,
        *,
        on_failure: Callable[[], None] | None = None,
        is_owed: bool = True,
    ) -> asyncio.Future[None]:
        """Queues a share of work that is done for many at a time, since each statement has its price.

        Between two other requests the order of works does not matter: what is submitted like this must allow that.
        """
        return self._put(work, effect, on_failure, is_owed, share)

    def submit_sliced(self, work: Callable[[Database], Generator[None, None, T]]) -> asyncio.Future[T]:
        """Queues a long request that makes a break at each `yield`; others may go in between."""
        return self._put(work, Effect.NOTHING, None, True)

    def _put(
        self,
        work: Callable[..., Any],
        effect: Effect,
        on_failure: Callable[[], None] | None,
        is_owed: bool,
        share: object = None,
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._end is not None:
            future.set_exception(self._end)
            if on_failure is not None:
                on_failure()
        else:
            if not self._asked:
                self._loop.call_soon(self._hand_over)
            self._asked.append(Request(work, effect, future, on_failure, is_owed, share))
        return future

    def _hand_over(self) -> None:
        """Wakes the thread, once for everything that was asked for in one turn of the event loop."""
        for start in range(0, len(self._asked), MAX_GROUP):
            self._queue.put(self._asked[start : start + MAX_GROUP])
        self._asked.clear()

    async def close(self) -> None:
        """Serves what was asked for before, then closes the database."""
        self._end = self._end or SpoolError("the spool is closed")
        self._hand_over()
        self._queue.put(None)
        await asyncio.shield(self._ended)

    def _finish(self, end: SpoolError) -> None:
        """In the event loop: the thread is done, so nobody else takes from the queue."""
        self._end = end
        self._hand_over()
        answers: list[Answer] = [(future, None, end) for future, _ in self._slices]
        with suppress(Empty):
            while True:
                answers += [(request.future, None, end) for request in self._queue.get_nowait() or ()]
        _answer([*answers, (self._ended, None, None)])

    # --- from here on everything runs in the thread

    def _run(self, open_database: Callable[[], Database], opened: asyncio.Future[None]) -> None:
        try:
            database = open_database()
        except Exception as error:
            self._release([(opened, None, error)])
            return
        self._release([(opened, None, None)])
        end = SpoolError("the spool is closed")
        group: list[Request] | None = []
        try:
            while (group := self._gather()) is not None:
                self._serve(database, group)
                self._serve_slice(database)
        except Exception as error:
            end = error if isinstance(error, SpoolBroken) else SpoolBroken(f"the spool's thread ended: {error!r}")
            self._release([(request.future, None, end) for request in group or ()])
        database.close()
        self._in_loop(self._finish, end)

    def _gather(self) -> list[Request] | None:
        """Everything that waits now; waits itself when there is nothing at all to do. None at the end."""
        group: list[Request] = []
        with suppress(Empty):
            while len(group) < MAX_GROUP:
                requests = self._queue.get(block=not group and not self._slices)
                if requests is None:
                    if group:
                        self._queue.put(None)
                    return group or None
                group += requests
        return group

    def _serve(self, database: Database, group: list[Request]) -> None:
        reads = list(takewhile(lambda request: request.effect is Effect.NOTHING, group))
        for request in reads:
            try:
                self._release([(request.future, request.work(database), None)])
            except Exception as error:
                self._release([(request.future, None, _surviving(error))])
        if len(reads) < len(group):
            self._change(database, group[len(reads) :])

    def _change(self, database: Database, requests: list[Request]) -> None:
        """Carries out requests in one transaction, or each in its own if that fails."""
        try:
            database.begin(durable=any(request.effect is Effect.FIRM for request in requests))
            answers = _carry_out(database, requests)
            database.commit()
        except Exception as error:
            failure = _surviving(error)
            database.rollback()
            if len(requests) > 1:
                for request in requests:
                    self._change(database, [request])
                return
            if isinstance(failure, SpoolFull) and requests[0].is_owed and database.make_room():
                self._change(database, requests)
                return
            answers = [(requests[0].future, None, failure)]
            if requests[0].on_failure is not None:
                requests[0].on_failure()
        self._release(answers)

    def _serve_slice(self, database: Database) -> None:
        """Carries the longest waiting of the long requests on by one slice."""
        if not self._slices:
            return
        future, generator = self._slices[0]
        try:
            database.begin(durable=False)
            is_done, value = _step(generator)
            database.commit()
            failure = None
        except Exception as error:
            failure = _surviving(error)
            database.rollback()
            is_done, value = True, None
        self._slices.rotate(-1)
        if is_done:
            self._slices.pop()
            self._release([(future, value, failure)])

    def _release(self, answers: Sequence[Answer]) -> None:
        """Gives answers to their callers, with one call into the event loop for all of them."""
        finished = []
        for answer in answers:
            if isinstance(answer[1], Generator):
                self._slices.append((answer[0], answer[1]))
            else:
                finished.append(answer)
        if finished:
            self._in_loop(_answer, finished)

    def _in_loop(self, function: Callable[[Any], None], argument: object) -> None:
        with suppress(RuntimeError):  # a loop that was closed has no callers any more
            self._loop.call_soon_threadsafe(function, argument)


def _carry_out(database: Database, requests: Sequence[Request]) -> list[Answer]:
    """Does the work of requests in their order, and joint work once for all that stand between two others."""
    answers: list[Answer] = []
    joint: dict[Callable[..., Any], list[object]] = {}
    for request in requests:
        value = None
        if request.share is not None:
            joint.setdefault(request.work, []).append(request.share)
        else:
            _finish_joint(database, joint)
            value = request.work(database)
        answers.append((request.future, value, None))
    _finish_joint(database, joint)
    return answers


def _finish_joint(database: Database, joint: dict[Callable[..., Any], list[object]]) -> None:
    for work, shares in joint.items():
        work(database, shares)
    joint.clear()


def _answer(answers: Sequence[Answer]) -> None:
    for future, value, error in answers:
        if future.done():
            continue  # its caller was cancelled
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)


def _surviving(error: Exception) -> Exception:
    """What the caller is told. Raises it instead when the spool cannot go on."""
    failure = what_failed(error)
    if isinstance(failure, SpoolBroken):
        raise failure from error
    return failure


def _step(generator: Generator[None, None, T]) -> tuple[bool, T | None]:
    """Runs a generator to its next break; says whether it ended, and with what."""
    try:
        next(generator)
    except StopIteration as end:
        return True, end.value
    return False, None
