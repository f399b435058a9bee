"""The one thread that waits for the disk, and its group commit.

Requests are served in the order in which they came. All that wait when the thread is free go into one transaction;
while that is being synced the next ones gather, so the busier it is, the more messages share one sync. Callers are
answered when *their* commit is on disk.

The database is used by one at a time. Small joint work, which is nearly all there is in a busy minute, is done in the
event loop while the thread is idle, and only its commit in the thread: each statement in a thread would have to win
Python's lock back from a busy loop. Everything else is done in the thread.

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
from functools import partial
from itertools import takewhile
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from masqmail.spool.api import SpoolBroken, SpoolError, SpoolFull, Tell
from masqmail.spool.database import Database, what_failed

S = TypeVar("S")
T = TypeVar("T")

#: A transaction with so many requests takes no more, so that the first of them are not kept waiting.
MAX_GROUP = 256

#: A group with more content than this is written in the thread: it would keep the event loop too long.
MAX_CARRIED_BYTES = 512 * 1024


class Effect(Enum):
    """What a request asks of the disk."""

    NOTHING = "nothing"  # it only reads; answered at once when nothing unsynced was done before it
    LOOSE = "loose"  # survives the death of the process; a power failure may undo it
    FIRM = "firm"  # on stable storage before the answer


class Request(NamedTuple):
    """Something to do with the database.

    `work` may be a generator function: then its slices run between the transactions of others and its return
    value is the answer. With a `share` it is joint work: it is done once for the shares of several requests.
    The answer goes to `future`, or `tell` hears that it is done, or why not. `on_failure` runs in the thread, with
    the share, when nothing of it was stored. What `is_owed` follows from something we have accepted: the ballast is
    there for it.
    """

    work: Callable[..., Any]
    effect: Effect
    future: asyncio.Future[Any] | None
    tell: Tell | None = None
    share: Any = None
    size_bytes: int = 0  # of the share
    on_failure: Callable[[Any], None] | None = None
    is_owed: bool = True


Answer = tuple[Request, Any, Exception | None]


class Carried(NamedTuple):
    """A group whose transaction was begun in the event loop: all is written but the commit, or it failed."""

    requests: list[Request]
    outcome: list[Answer] | Exception


class Writer:
    """Owns the database from `start` to `close`. Its methods belong to the event loop it was made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[list[Request] | Carried | None] = SimpleQueue()
        self._slices: deque[tuple[Request, Generator[None, None, Any]]] = deque()
        self._database: Database
        self._asked: list[Request] = []  # and not handed over yet
        self._is_turn_over_awaited = False
        self._handed_over = 0  # groups given to the thread
        self._taken = 0  # groups the thread has taken
        self._is_idle = False  # the thread has nothing to do and does not use the database
        self._long_requests = 0  # whose slices may keep the thread from ever being idle
        self._end: SpoolError | None = None  # why nothing is taken any more

    async def start(self, open_database: Callable[[], Database]) -> None:
        """Opens the database in the thread; raises what that raises."""
        opened = self._loop.create_future()
        self._ended = self._loop.create_future()
        threading.Thread(target=self._run, args=(open_database, opened), name="spool", daemon=True).start()
        await opened

    def submit(self, work: Callable[[Database], T], effect: Effect) -> asyncio.Future[T]:
        """Queues a request; it takes effect whether or not the answer is awaited."""
        future = self._loop.create_future()
        self._put(Request(work, effect, future))
        return future

    def submit_joint(
        self,
        work: Callable[[Database, Sequence[S]], None],
        share: S,
        effect: Effect,
        tell: Tell,
        *,
        size_bytes: int = 0,
        on_failure: Callable[[S], None] | None = None,
        is_owed: bool = True,
    ) -> None:
        """Queues a share of work that is done for many at a time, since each statement has its price.

        Between two other requests the order of works does not matter: what is submitted like this must allow that,
        and be quick for its `size_bytes`.
        """
        self._put(Request(work, effect, None, tell, share, size_bytes, on_failure, is_owed))

    def future(self) -> tuple[asyncio.Future[None], Tell]:
        """A future, and what joint work may tell so that it is answered."""
        future = self._loop.create_future()
        return future, partial(_resolve, future, None)

    def submit_sliced(self, work: Callable[[Database], Generator[None, None, T]]) -> asyncio.Future[T]:
        """Queues a long request that makes a break at each `yield`; others may go in between.

        It is given up at its next break when its caller is cancelled.
        """
        self._long_requests += 1
        future = self._loop.create_future()
        future.add_done_callback(self._note_long_request_over)
        self._put(Request(work, Effect.NOTHING, future))
        return future

    def _note_long_request_over(self, future: asyncio.Future[Any]) -> None:
        self._long_requests -= 1

    def _put(self, request: Request) -> None:
        """Lets a request gather with those of this turn of the event loop, and until the thread can do something."""
        if self._end is not None:
            if request.on_failure is not None:
                request.on_failure(request.share)
            _answer([(request, None, self._end)])
            return
        self._asked.append(request)
        if not self._is_turn_over_awaited and (self._is_idle or self._long_requests):
            self._await_turn_over()

    def _await_turn_over(self) -> None:
        self._is_turn_over_awaited = True
        self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        """Gives the thread, if it can do something, what was asked for until now."""
        self._is_turn_over_awaited = False
        if self._is_idle and self._asked:
            group, self._asked = self._asked[:MAX_GROUP], self._asked[MAX_GROUP:]
            self._give(self._carried(group) if _is_quick(group) else group)
        if self._long_requests:
            self._hand_over()

    def _hand_over(self) -> None:
        """Gives the thread all that was asked for."""
        for start in range(0, len(self._asked), MAX_GROUP):
            self._give(self._asked[start : start + MAX_GROUP])
        self._asked = []

    def _give(self, group: list[Request] | Carried) -> None:
        self._is_idle = False
        self._handed_over += 1
        self._queue.put(group)

    def _carried(self, group: list[Request]) -> Carried:
        """Does all the work of a group but its commit. What fails is left for the thread to undo."""
        try:
            answers = _carry_out(self._database, group)
            self._database.write()
        except Exception as error:
            return Carried(group, error)
        return Carried(group, answers)

    def _note_open(self, opened: asyncio.Future[None]) -> None:
        self._is_idle = True
        _resolve(opened, None, None)

    def _note_report(self, answers: list[Answer], taken: int) -> None:
        """Answers of the thread, and how many groups it had taken when it had nothing more to do; else -1."""
        _answer(answers)
        if taken == self._handed_over:
            self._is_idle = True
            if self._asked and not self._is_turn_over_awaited:
                self._await_turn_over()

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
        answers: list[Answer] = [(request, None, end) for request, _ in self._slices]
        with suppress(Empty):
            while True:
                group = self._queue.get_nowait()
                answers += [(request, None, end) for request in _requests(group)]
        _answer(answers)
        _resolve(self._ended, None, None)

    # --- from here on everything runs in the thread

    def _run(self, open_database: Callable[[], Database], opened: asyncio.Future[None]) -> None:
        try:
            database = self._database = open_database()
        except Exception as error:
            self._in_loop(_resolve, opened, None, error)
            return
        self._in_loop(self._note_open, opened)
        end = SpoolError("the spool is closed")
        group: list[Request] | Carried | None = []
        try:
            while (group := self._gather()) is not None:
                answers = self._serve(database, group)
                answers += self._serve_slice(database)
                self._report(answers)
        except Exception as error:
            end = error if isinstance(error, SpoolBroken) else SpoolBroken(f"the spool's thread ended: {error!r}")
            self._in_loop(_answer, [(request, None, end) for request in _requests(group)])
        database.close()
        self._in_loop(self._finish, end)

    def _gather(self) -> list[Request] | Carried | None:
        """Everything that waits now; waits itself when there is nothing at all to do. None at the end."""
        group: list[Request] = []
        while len(group) < MAX_GROUP:
            try:
                given = self._queue.get(block=not group and not self._slices)
            except Empty:
                break
            if given is None:
                if group:
                    self._queue.put(None)
                return group or None
            self._taken += 1
            if isinstance(given, Carried):  # the thread was idle before: there is nothing else
                return given
            group += given
        return group

    def _serve(self, database: Database, group: list[Request] | Carried) -> list[Answer]:
        """Carries out a group; its reads are answered before the changes are made."""
        if isinstance(group, Carried):
            return self._change(database, group.requests, group.outcome)
        reads = list(takewhile(lambda request: request.effect is Effect.NOTHING, group))
        answers = [_read(database, request) for request in reads]
        answers = [answer for answer in answers if not self._is_long(answer)]
        if len(reads) == len(group):
            return answers
        if answers:
            self._in_loop(_answer, answers)
        return [answer for answer in self._change(database, group[len(reads) :]) if not self._is_long(answer)]

    def _change(
        self, database: Database, requests: list[Request], carried: list[Answer] | Exception | None = None
    ) -> list[Answer]:
        """Carries out requests in one transaction, or each in its own if that fails."""
        try:
            if isinstance(carried, Exception):
                raise carried
            answers = _carry_out(database, requests) if carried is None else carried
            database.commit()
        except Exception as error:
            failure = _surviving(error)
            database.rollback()
            if len(requests) > 1:
                return [answer for request in requests for answer in self._change(database, [request])]
            if isinstance(failure, SpoolFull) and requests[0].is_owed and database.make_room():
                return self._change(database, requests)
            answers = [(requests[0], None, failure)]
            if requests[0].on_failure is not None:
                requests[0].on_failure(requests[0].share)
        return answers

    def _serve_slice(self, database: Database) -> list[Answer]:
        """Carries the longest waiting of the long requests on by one slice."""
        if not self._slices:
            return []
        request, generator = self._slices[0]
        if request.future is not None and request.future.cancelled():
            generator.close()
            self._slices.popleft()
            return []
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
        if not is_done:
            return []
        self._slices.pop()
        return [(request, value, failure)]

    def _is_long(self, answer: Answer) -> bool:
        """Whether an answer is still to be found, slice by slice."""
        is_long = isinstance(answer[1], Generator)
        if is_long:
            self._slices.append((answer[0], answer[1]))
        return is_long

    def _report(self, answers: list[Answer]) -> None:
        """Gives answers to their callers, and says when there is nothing more to do: one call into the event loop."""
        is_idle = not self._slices and self._queue.empty()
        if answers or is_idle:
            self._in_loop(self._note_report, answers, self._taken if is_idle else -1)

    def _in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # a loop that was closed has no callers any more
            self._loop.call_soon_threadsafe(function, *arguments)


def _is_quick(group: Sequence[Request]) -> bool:
    """Whether there is nothing but small joint work, which the event loop can do itself."""
    size_bytes = 0
    for request in group:
        if request.share is None:
            return False
        size_bytes += request.size_bytes
    return size_bytes <= MAX_CARRIED_BYTES


def _read(database: Database, request: Request) -> Answer:
    try:
        return request, request.work(database), None
    except Exception as error:
        return request, None, _surviving(error)


def _carry_out(database: Database, requests: Sequence[Request]) -> list[Answer]:
    """Begins a transaction and does the work of requests in their order.

    Joint work is done once for all that stand between two others.
    """
    database.begin(durable=any(request.effect is Effect.FIRM for request in requests))
    answers: list[Answer] = []
    joint: dict[Callable[..., Any], list[object]] = {}
    for request in requests:
        value = None
        if request.share is not None:
            joint.setdefault(request.work, []).append(request.share)
        else:
            _finish_joint(database, joint)
            value = request.work(database)
        answers.append((request, value, None))
    _finish_joint(database, joint)
    return answers


def _finish_joint(database: Database, joint: dict[Callable[..., Any], list[object]]) -> None:
    for work, shares in joint.items():
        work(database, shares)
    joint.clear()


def _requests(group: list[Request] | Carried | None) -> Sequence[Request]:
    return group.requests if isinstance(group, Carried) else group or ()


def _answer(answers: Sequence[Answer]) -> None:
    for request, value, error in answers:
        try:
            if request.tell is not None:
                request.tell(error)
            elif request.future is not None:
                _resolve(request.future, value, error)
        except Exception as fault:  # nobody else may go without an answer because of it
            loop = asyncio.get_running_loop()
            loop.call_exception_handler({"message": "An answer of the spool was not taken", "exception": fault})


def _resolve(future: asyncio.Future[Any], value: object, error: Exception | None) -> None:
    if future.done():
        return  # its caller was cancelled
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
