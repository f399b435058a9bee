"""Who uses the database when, and what becomes of requests whose work, commit or undoing fails."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from typing import cast

import pytest

from masqmail.spool import writer as module
from masqmail.spool.api import SpoolBroken, SpoolError, SpoolFull
from masqmail.spool.database import Database
from masqmail.spool.writer import Effect, Writer


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("it failed")
    error.sqlite_errorcode = code
    return error


class FakeDatabase:
    """Keeps what is added when it is committed. Notes who calls it, and fails or waits where it is told to."""

    def __init__(self) -> None:
        self.loop_thread = threading.current_thread()
        self.calls: list[tuple[str, bool]] = []  # what was called, and whether the event loop did
        self.kept: list[object] = []
        self.new: list[object] = []
        self.durable: list[bool] = []
        self.failures: dict[str, list[Exception]] = {}  # of the next calls of that name
        self.bad: object = None  # cannot be written
        self.has_ballast = True
        self.is_in_transaction = False
        self.may_commit = threading.Event()
        self.may_commit.set()

    def _note(self, name: str) -> None:
        self.calls.append((name, threading.current_thread() is self.loop_thread))
        if self.failures.get(name):
            raise self.failures[name].pop(0)

    def begin(self, *, durable: bool) -> None:
        self._note("begin")
        assert not self.is_in_transaction
        self.is_in_transaction = True
        self.durable.append(durable)

    def add(self, item: object) -> None:
        self._note("add")
        assert self.is_in_transaction
        self.new.append(item)

    def write(self) -> None:
        self._note("write")
        if self.bad in self.new:
            raise SpoolError("it is bad")

    def commit(self) -> None:
        self._note("commit")
        assert self.may_commit.wait(10)
        if self.bad in self.new:
            raise SpoolError("it is bad")
        self.kept += self.new
        self.new.clear()
        self.is_in_transaction = False

    def rollback(self) -> None:
        self._note("rollback")
        self.new.clear()
        self.is_in_transaction = False

    def make_room(self) -> bool:
        self._note("make_room")
        had_ballast, self.has_ballast = self.has_ballast, False
        return had_ballast

    def close(self) -> None:
        self._note("close")

    def names(self, *, in_loop: bool) -> list[str]:
        return [name for name, was_in_loop in self.calls if was_in_loop is in_loop]


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


@pytest.fixture
async def writer(database: FakeDatabase) -> AsyncIterator[Writer]:
    writer = Writer()
    await writer.start(lambda: cast("Database", database))
    await asyncio.sleep(0)
    yield writer
    database.may_commit.set()
    await writer.close()


def add_all(database: Database, items: Sequence[object]) -> None:
    for item in items:
        cast("FakeDatabase", database).add(item)


def keep(
    writer: Writer,
    item: object,
    effect: Effect = Effect.FIRM,
    *,
    size_bytes: int = 1,
    on_failure: Callable[[object], None] | None = None,
    is_owed: bool = True,
) -> asyncio.Future[None]:
    """Asks for something small, with others."""
    future, tell = writer.future()
    writer.submit_joint(add_all, item, effect, tell, size_bytes=size_bytes, on_failure=on_failure, is_owed=is_owed)
    return future


def keep_alone(writer: Writer, item: object) -> asyncio.Future[None]:
    return writer.submit(lambda db: add_all(db, [item]), Effect.FIRM)


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def results(*futures: asyncio.Future[None]) -> list[type]:
    return [type(result) for result in await asyncio.gather(*futures, return_exceptions=True)]


# who uses the database


async def test_small_joint_work_is_done_in_the_event_loop_and_committed_in_the_thread(
    writer: Writer, database: FakeDatabase
) -> None:
    await asyncio.gather(keep(writer, 1), keep(writer, 2))
    assert database.names(in_loop=True) == ["begin", "add", "add", "write"]
    assert database.names(in_loop=False) == ["commit"]
    assert database.kept == [1, 2]


async def test_much_content_is_written_in_the_thread(writer: Writer, database: FakeDatabase) -> None:
    await asyncio.gather(*(keep(writer, n, size_bytes=module.MAX_CARRIED_BYTES // 2 + 1) for n in range(2)))
    assert database.names(in_loop=True) == []
    assert database.kept == [0, 1]


async def test_a_group_with_other_work_is_done_in_the_thread(writer: Writer, database: FakeDatabase) -> None:
    await asyncio.gather(keep(writer, 1), keep_alone(writer, 2), keep(writer, 3))
    assert database.names(in_loop=True) == []
    assert database.kept == [1, 2, 3]


async def test_while_the_thread_commits_the_loop_leaves_the_database_alone(
    writer: Writer, database: FakeDatabase
) -> None:
    database.may_commit.clear()
    first = keep(writer, 1)
    await turns()
    others = [keep(writer, n) for n in (2, 3)]
    await turns()
    assert database.names(in_loop=True) == ["begin", "add", "write"]
    database.may_commit.set()
    await asyncio.gather(first, *others)
    assert [name for name, _ in database.calls].count("commit") == 2  # what had gathered shared one
    assert database.kept == [1, 2, 3]


async def test_only_a_group_with_something_firm_is_synced(writer: Writer, database: FakeDatabase) -> None:
    await keep(writer, 1, Effect.LOOSE)
    await asyncio.gather(keep(writer, 2, Effect.LOOSE), keep(writer, 3))
    assert database.durable == [False, True]


async def test_a_turn_with_very_many_requests_takes_several_groups(
    writer: Writer, database: FakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GROUP", 2)
    await asyncio.gather(*(keep(writer, n) for n in range(5)))
    assert database.kept == [0, 1, 2, 3, 4]
    assert database.names(in_loop=False) == ["commit"] * 3


async def test_what_a_cancelled_caller_asked_for_is_done(writer: Writer, database: FakeDatabase) -> None:
    database.may_commit.clear()
    under_way = keep(writer, 1)
    await turns()
    gathered = keep(writer, 2)
    under_way.cancel()
    gathered.cancel()
    database.may_commit.set()
    await keep(writer, 3)
    assert database.kept == [1, 2, 3]


# failures


@pytest.mark.parametrize("name", ["begin", "add", "write", "commit"])
async def test_a_group_that_fails_is_undone_in_the_thread_and_each_is_done_alone(
    writer: Writer, database: FakeDatabase, name: str
) -> None:
    database.failures[name] = [SpoolError("just now")]
    await asyncio.gather(keep(writer, 1), keep(writer, 2))
    assert database.kept == [1, 2]
    after = database.calls[database.calls.index(("rollback", False)) + 1 :]
    assert after == [("begin", False), ("add", False), ("commit", False)] * 2
    await keep(writer, 3)
    assert database.calls[-2:] == [("write", True), ("commit", False)]  # as ever


async def test_a_bad_share_fails_alone_and_is_told_so_in_the_thread(writer: Writer, database: FakeDatabase) -> None:
    database.bad = 2
    told: list[threading.Thread] = []
    futures = [keep(writer, n, on_failure=lambda _: told.append(threading.current_thread())) for n in (1, 2, 3)]
    assert await results(*futures) == [type(None), SpoolError, type(None)]
    assert database.kept == [1, 3]
    assert [thread.name for thread in told] == ["spool"]


async def test_a_bad_share_that_is_alone_is_not_tried_again(writer: Writer, database: FakeDatabase) -> None:
    database.bad = 1
    assert await results(keep(writer, 1)) == [SpoolError]
    assert database.calls == [("begin", True), ("add", True), ("write", True), ("rollback", False)]


async def test_a_full_disk_gives_its_ballast_for_what_is_owed(writer: Writer, database: FakeDatabase) -> None:
    for number, name in enumerate(("write", "commit")):
        database.has_ballast = True
        database.failures[name] = [SpoolFull("full")]
        assert await results(keep(writer, "new", is_owed=False)) == [SpoolFull]
        database.failures[name] = [SpoolFull("full")]
        await keep(writer, "owed")
        assert database.kept == ["owed"] * (number + 1)
    assert "make_room" not in database.names(in_loop=True)


@pytest.mark.parametrize("name", ["begin", "add", "write", "commit", "rollback"])
async def test_a_disk_that_cannot_be_read_or_written_is_final(
    writer: Writer, database: FakeDatabase, name: str
) -> None:
    database.bad = "bad" if name == "rollback" else None  # gives a reason to undo something
    database.failures[name] = [sqlite_error(sqlite3.SQLITE_IOERR)]
    assert await results(keep(writer, 1), keep(writer, "bad")) == [SpoolBroken] * 2
    assert await results(keep(writer, 3), keep_alone(writer, 4)) == [SpoolBroken] * 2
    assert database.kept == []
    assert database.calls[-1] == ("close", False)


async def test_what_has_gathered_when_the_spool_breaks_is_refused(writer: Writer, database: FakeDatabase) -> None:
    database.may_commit.clear()
    database.bad = 1
    database.failures["rollback"] = [sqlite_error(sqlite3.SQLITE_IOERR)]
    asked = [keep_alone(writer, 1)]
    await turns()
    asked += [keep(writer, 2), keep_alone(writer, 3), writer.submit_sliced(lambda db: steps([]))]
    await turns()
    database.may_commit.set()
    assert await results(*asked) == [SpoolBroken] * 4
    assert database.names(in_loop=True) == []


# the end


async def test_who_fails_to_take_an_answer_keeps_nobody_from_theirs(writer: Writer) -> None:
    def fail(error: Exception | None) -> None:
        raise RuntimeError("who cares")

    loop, faults = asyncio.get_running_loop(), []
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
    writer.submit_joint(add_all, 1, Effect.FIRM, fail, size_bytes=1)
    await keep(writer, 2)
    loop.set_exception_handler(handler)
    assert [str(fault) for fault in faults] == ["who cares"]


async def test_closing_serves_what_was_asked_for_before(writer: Writer, database: FakeDatabase) -> None:
    database.may_commit.clear()
    carried = keep(writer, 1)
    await turns()
    gathered = keep(writer, 2)
    closed = asyncio.ensure_future(writer.close())
    await turns()
    late: list[object] = []
    refused = keep(writer, 3, on_failure=late.append)
    database.may_commit.set()
    assert await results(carried, gathered, refused) == [type(None), type(None), SpoolError]
    await closed
    assert (database.kept, late) == ([1, 2], [3])
    assert database.calls[-1] == ("close", False)
    await writer.close()  # harmless


async def test_what_fails_in_the_event_loop_while_it_closes_is_undone(writer: Writer, database: FakeDatabase) -> None:
    database.bad = 1
    futures = [keep(writer, n) for n in (1, 2)]
    await asyncio.sleep(0)  # the thread has it, and nothing was answered
    await writer.close()
    assert await results(*futures) == [SpoolError, type(None)]
    assert database.kept == [2]


# long requests


def steps(done: list[int], number: int = 3) -> Generator[None, None, list[int]]:
    for step in range(number):
        done.append(step)
        yield
    return done


async def test_others_are_served_before_a_long_request_ends(writer: Writer, database: FakeDatabase) -> None:
    def until_three_are_kept(db: Database) -> Generator[None, None, list[object]]:
        while len(database.kept) < 3:
            yield
        return database.kept.copy()

    long = writer.submit_sliced(until_three_are_kept)
    for number in range(3):
        await keep(writer, number)
    assert await long == [0, 1, 2]


async def test_a_long_request_gets_its_turn_while_others_never_end(writer: Writer, database: FakeDatabase) -> None:
    stop = False

    async def ask_and_ask() -> None:
        while not stop:
            await keep(writer, 1)

    others = [asyncio.ensure_future(ask_and_ask()) for _ in range(3)]
    await turns()
    assert await writer.submit_sliced(lambda db: steps([], 20)) == list(range(20))
    stop = True
    await asyncio.gather(*others)


class Held:
    """A long request that stands in its second slice until it is let go on, and would take a long time."""

    def __init__(self) -> None:
        self.is_there, self.may_go_on = threading.Event(), threading.Event()
        self.slices = 0
        self.is_closed = False

    def work(self, database: Database) -> Generator[None, None, None]:
        try:
            while True:
                yield
                self.slices += 1
                self.is_there.set()
                assert self.may_go_on.wait(10)
        finally:
            self.is_closed = True

    async def stands(self) -> None:
        await asyncio.to_thread(self.is_there.wait, 10)


async def test_all_of_a_turn_is_served_beside_a_long_request(
    writer: Writer, database: FakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GROUP", 2)
    held = Held()
    held.may_go_on.set()
    long = writer.submit_sliced(held.work)
    await asyncio.gather(*(keep(writer, n) for n in range(5)))  # more than its group takes
    assert database.kept == [0, 1, 2, 3, 4]
    assert not long.done()
    long.cancel()


async def test_a_long_request_whose_caller_is_gone_is_given_up_and_keeps_nobody_waiting(
    writer: Writer, database: FakeDatabase
) -> None:
    held = Held()
    long = writer.submit_sliced(held.work)
    await held.stands()
    long.cancel()
    await turns()
    asked = keep(writer, 1)
    await turns()
    assert database.names(in_loop=True) == []
    held.may_go_on.set()
    await asked
    assert (held.slices, held.is_closed) == (1, True)
    assert database.names(in_loop=True) == ["begin", "add", "write"]  # the thread is idle as ever


async def test_a_slice_that_fails_is_undone_and_ends_its_request_alone(
    writer: Writer, database: FakeDatabase
) -> None:
    def fail(db: Database) -> Generator[None, None, None]:
        yield
        add_all(db, ["half"])
        raise SpoolError("in the middle")

    assert await results(writer.submit_sliced(fail), keep(writer, 1)) == [SpoolError, type(None)]
    await keep(writer, 2)
    assert database.kept == [1, 2]
