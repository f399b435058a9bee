import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from masqmail.spool import custody, database, statements, tally
from masqmail.spool.bodies import Bodies
from masqmail.spool.inserts import Inserts
from masqmail.spool.migrate import migrate
from masqmail.spool.sqlite import SqliteSpool
from masqmail.spool.states import State
from spool.conformance import MINUTE, START, A, C, lease_one, message, recipient, record


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        yield connection


def written(kept: tally.Tally, connection: sqlite3.Connection) -> dict[tuple[int, str], int]:
    inserts = Inserts(connection)
    kept.write(inserts)
    inserts.write()
    return dict(tally.stored(connection))


def test_only_what_changed_is_stored(connection: sqlite3.Connection) -> None:
    kept = tally.read(connection, [])
    kept.begin()
    kept.add(1, State.QUEUED)
    kept.add(1, State.FAILED)
    kept.add_messages(1, 100)
    kept.add(2, State.HELD)
    kept.remove(2, State.HELD)
    assert written(kept, connection) == {(0, "messages"): 1, (0, "bytes"): 100, (1, "queued"): 1}


def test_a_transaction_that_is_undone_counts_nothing(connection: sqlite3.Connection) -> None:
    counts = Counter({(0, "messages"): 0, (0, "bytes"): 0, (1, "queued"): 3})
    kept = tally.Tally(counts.copy())
    kept.begin()
    kept.move(1, State.QUEUED, State.LEASED)
    kept.add_messages(1, 5)
    kept.rollback()
    assert kept.is_right(counts)
    kept.begin()
    assert written(kept, connection) == {(0, "messages"): 0, (0, "bytes"): 0}


def test_what_was_forgotten_in_a_transaction_that_is_undone_counts_again(connection: sqlite3.Connection) -> None:
    counts = Counter({(0, "messages"): 1, (0, "bytes"): 5, (1, "queued"): 1, (2, "held"): 0})
    kept = tally.Tally(counts.copy())
    kept.begin()
    kept.remove(1, State.QUEUED)  # the last message ends in the same transaction
    kept.remove_message(5)
    kept.forget(connection)
    assert kept.messages == 0
    kept.rollback()
    assert kept.is_right(counts)


def test_a_transaction_that_cannot_begin_takes_back_nothing(tmp_path: Path) -> None:
    def forbid(action: int, *names: str | None) -> int:
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION else sqlite3.SQLITE_OK

    kept = database.Database(tmp_path, Bodies(tmp_path / "bodies", lambda size_bytes: True), lambda: START)
    kept.begin(durable=True)
    custody.accept(kept, [[message("m1")]])
    kept.commit()
    kept.connection.set_authorizer(forbid)
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        kept.begin(durable=True)
    kept.rollback()
    assert kept.tally.messages == 1
    assert kept.tally.is_right(tally.count(kept.connection))
    kept.close()


async def fill(folder: Path) -> SqliteSpool:
    """One message of each kind: queued, leased, deferred, held."""
    spool = await SqliteSpool.open(folder)
    await spool.accept([message("m1"), message("m2"), message("m3", recipient(route_class=C)), message("m4")])
    await spool.record([record(await lease_one(spool), State.DEFERRED, due=START + MINUTE)])
    await spool.hold(["m3"], "wait")
    await spool.lease("w", [A], now=START, max_messages=1)
    return spool


async def test_the_counts_survive_a_crash(tmp_path: Path) -> None:
    spool = await fill(tmp_path / "spool")
    before = await spool.counts(), await spool.classes()
    shutil.copytree(tmp_path / "spool", tmp_path / "copy")
    after = await SqliteSpool.open(tmp_path / "copy")
    assert (await after.counts(), await after.classes()) == before
    for one in (spool, after):
        await one.close()


@pytest.mark.parametrize("change", ["DELETE FROM tally", "UPDATE tally SET number = 0 WHERE counted = 'held'"])
async def test_counts_that_cannot_be_right_are_counted_anew(tmp_path: Path, change: str) -> None:
    spool = await fill(tmp_path)
    before = await spool.counts(), await spool.classes()
    await spool.close()
    connection = sqlite3.connect(tmp_path / "queue.sqlite3", isolation_level=None)
    connection.execute(change)
    connection.close()
    for _ in range(2):  # the second start finds what the first has stored
        spool = await SqliteSpool.open(tmp_path)
        assert (await spool.counts(), await spool.classes()) == before
        await spool.close()


@pytest.fixture
def first_version() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, statements.schema_changes()[:1])
        yield connection


def test_a_queue_of_the_first_version_is_counted_by_the_upgrade(first_version: sqlite3.Connection) -> None:
    connection = first_version
    connection.execute("INSERT INTO message VALUES (1, 'a', '', '', 70, 0, '', '', 0, '', '', '', 0, '', 0)")
    for id, number, state in (
        (1, 1, "queued"),
        (2, 1, "leased"),
        (3, 2, "deferred"),
        (4, 2, "held"),
        (5, 2, "failed"),
    ):
        values = (id, number, state)
        connection.execute(
            "INSERT INTO recipient (id, class, state, touched, base, target, original, kind, domain, source, orcpt,"
            " reported, reason) VALUES (?, ?, ?, 0, 0, '', '', '', '', '', '', 0, '')",
            values,
        )
    connection.execute("INSERT INTO lease (recipient, worker) VALUES (2, 'w')")
    migrate(connection)
    assert tally.stored(connection) == {
        (0, "messages"): 1,
        (0, "bytes"): 70,
        (1, "queued"): 1,
        (1, "leased"): 1,
        (2, "deferred"): 1,
        (2, "held"): 1,
    }
    assert tally.is_plausible(connection, tally.stored(connection), [1, 2])


@pytest.mark.slow
async def test_opening_a_long_queue_takes_no_more_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the instructions of SQLite's machine, so that the load of the host does not matter."""
    connect: Callable[[Path], sqlite3.Connection] = database._connect
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def counting(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.set_progress_handler(count, 1)
        return connection

    async def cost(length: int) -> int:
        nonlocal steps
        folder = tmp_path / str(length)
        spool = await SqliteSpool.open(folder)
        for start in range(0, length, 200):
            await spool.accept([message(f"m{n}") for n in range(start, start + 200)])
        await spool.close()
        with monkeypatch.context() as patched:
            patched.setattr(database, "_connect", counting)
            steps = 0
            spool = await SqliteSpool.open(folder)
            await spool.recover(START)
            await spool.clamp_due(START, MINUTE)
            found = steps
        await spool.close()
        return found

    assert await cost(20_000) <= await cost(200) + 100
