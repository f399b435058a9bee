import asyncio
import os
import random
import re
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from masqmail.mail.status import OK, Status
from masqmail.routing.route import RouteClass
from masqmail.spool import messages, statements, tally
from masqmail.spool.api import (
    ContentLost,
    Lease,
    NewMessage,
    QueuedMessage,
    Record,
    Selection,
    Spool,
    SpoolBroken,
    SpoolError,
    SpoolFull,
    StoredRecipient,
)
from masqmail.spool.database import Database
from masqmail.spool.memory import MemorySpool
from masqmail.spool.migrate import migrate
from masqmail.spool.sqlite import SqliteSpool
from masqmail.spool.states import State
from masqmail.spool.writer import Effect
from masqmail.system.clock import FakeClock
from spool.conformance import (
    LOCAL,
    MINUTE,
    START,
    A,
    B,
    C,
    Conformance,
    attempt,
    events,
    lease_one,
    message,
    recipient,
    record,
)

T = TypeVar("T")

BIG = b"x" * 200_000


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
async def spool(tmp_path: Path, clock: FakeClock) -> AsyncIterator[SqliteSpool]:
    spool = await SqliteSpool.open(tmp_path / "spool", now=clock.now, monotonic=clock.monotonic)
    yield spool
    await spool.close()


async def reopen(spool: SqliteSpool, tmp_path: Path) -> SqliteSpool:
    await spool.close()
    return await SqliteSpool.open(tmp_path / "spool")


async def run(spool: SqliteSpool, work: Callable[[Database], T]) -> T:
    """Runs something of the test's own in the writer thread."""
    return await spool._writer.submit(work, Effect.NOTHING)


def count_commits(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    commits: list[None] = []
    real = Database.commit
    monkeypatch.setattr(Database, "commit", lambda db: (commits.append(None), real(db)))
    return commits


def body_files(tmp_path: Path) -> list[str]:
    folder = tmp_path / "spool/bodies"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestSqliteSpool(Conformance):
    @pytest.fixture
    async def spool(self, spool: SqliteSpool) -> SqliteSpool:
        return spool


# the files


async def test_everything_is_there_after_a_restart(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.accept([message("m1", recipient("a@x"), recipient("b@y", B)), message("m2", body=BIG)])
    await spool.advance(60, [A])
    await spool.record([record(await lease_one(spool), State.DEFERRED, due=START + MINUTE, attempt=attempt())])
    await spool.hold(["m2"], "wait")
    await spool.remember("link", "dsl")
    before = await spool.listing(), await spool.history(), await spool.counts(), await spool.classes()
    spool = await reopen(spool, tmp_path)
    after = await spool.listing(), await spool.history(), await spool.counts(), await spool.classes()
    assert before == after
    assert await spool.recall("link") == "dsl"
    item = await spool.find("m2")
    assert item is not None and b"".join(item.message.body_chunks()) == BIG
    await spool.close()


async def test_who_asks_for_no_message_gets_none(spool: SqliteSpool) -> None:
    await spool.accept([message("m1")])
    with anyio.fail_after(5):
        assert await spool.lease("w", [A], now=START, max_messages=0) == []


async def test_a_message_whose_content_is_lost_is_held_and_stops_no_other(spool: SqliteSpool) -> None:
    await spool.accept([message("m1"), message("m2")])
    await run(spool, lambda db: db.connection.execute("DELETE FROM content WHERE message = 1"))  # a damaged page
    (leased,) = await spool.lease("w", [A], now=START, max_messages=1)
    assert leased.message.queue_id == "m2"
    lost = await spool.find("m1", with_body=False)
    assert lost is not None
    assert lost.recipients[0].state is State.HELD
    assert lost.recipients[0].reason == "its header and body are not in the queue file any more"
    with pytest.raises(ContentLost):
        await spool.find("m1")
    assert await spool.remove(["m1"], START, "seen") == 1
    assert [item.message.queue_id for item in await spool.listing()] == ["m2"]


async def test_an_ended_recipient_keeps_its_class_over_a_restart(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.accept([message("m1", recipient("a@x"), recipient("b@y", B))])
    await spool.record([record(await lease_one(spool), State.DELIVERED)])
    spool = await reopen(spool, tmp_path)
    assert [item.route_class for item in (await spool.listing())[0].recipients] == [A, B]
    await spool.close()


async def test_classes_that_nobody_has_are_forgotten_at_start(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.accept([message("m1")])
    await spool.advance(60, [A])
    await spool.remove(["m1"], START, "removed by root")
    spool = await reopen(spool, tmp_path)
    assert await run(spool, lambda db: list(db.classes.items())) == []
    await spool.close()


async def test_a_folder_that_cannot_be_used_is_a_spool_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="cannot use the spool"):
        await SqliteSpool.open(tmp_path / "file/spool")
    (tmp_path / "lock").mkdir()
    with pytest.raises(SpoolError, match="cannot use the spool"):
        await SqliteSpool.open(tmp_path)


async def test_broken_text_does_not_keep_an_outcome_from_being_stored(spool: SqliteSpool) -> None:
    await spool.accept([message("m1", received_from="b\udcffb"), message("m2")])
    leased = await lease_one(spool)
    status = Status(451, "", "caf\udce9")
    await spool.record([record(leased, State.DEFERRED, "caf\udce9", due=START, status=status)])
    await spool.hold(["m2"], "caf\udce9")
    first, second = await spool.listing()
    assert (first.recipients[0].reason, second.recipients[0].reason) == ("caf?", "caf?")


async def test_files_are_for_their_owner_alone_and_an_existing_folder_is_left_as_it_is(tmp_path: Path) -> None:
    def mode(path: Path) -> str:
        return oct(stat.S_IMODE(path.stat().st_mode))

    (tmp_path / "given").mkdir(mode=0o751)
    os.chmod(tmp_path / "given", 0o751)
    mask = os.umask(0)
    try:
        for name in ("made", "given"):
            spool = await SqliteSpool.open(tmp_path / name)
            await spool.accept([message("m1", body=BIG)])
            await spool.close()
    finally:
        os.umask(mask)
    made = tmp_path / "made"
    assert [mode(made), mode(tmp_path / "given")] == ["0o711", "0o751"]
    assert [mode(made / "queue.sqlite3"), mode(made / "lock")] == ["0o600", "0o600"]
    assert [mode(made / "bodies"), mode(made / "bodies/incoming"), mode(made / "bodies/m1")] == ["0o700"] * 2 + [
        "0o600"
    ]


async def test_a_second_daemon_is_kept_out(spool: SqliteSpool, tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="another masqmail uses this spool"):
        await SqliteSpool.open(tmp_path / "spool")
    await spool.accept([message("m1")])
    spool = await reopen(spool, tmp_path)
    await spool.close()


async def test_another_program_in_the_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    other = sqlite3.connect(tmp_path / "spool/queue.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(SpoolError, match="another program uses"):
        await SqliteSpool.open(tmp_path / "spool")
    other.close()


async def test_a_damaged_file_is_reported_and_left_alone(tmp_path: Path) -> None:
    spool = await SqliteSpool.open(tmp_path)
    await spool.close()
    damaged = b"no database" * 1000
    (tmp_path / "queue.sqlite3").write_bytes(damaged)
    with pytest.raises(SpoolBroken, match=r"is damaged .*Nothing was deleted.*\.recover"):
        await SqliteSpool.open(tmp_path)
    assert (tmp_path / "queue.sqlite3").read_bytes() == damaged
    (tmp_path / "queue.sqlite3").unlink()
    await (await SqliteSpool.open(tmp_path)).close()  # the lock was given back


@pytest.mark.parametrize("size", [100, 100_000, 300_000])
@pytest.mark.parametrize("left", [None, b""])
async def test_a_lost_queue_file_is_not_taken_for_an_empty_queue(
    tmp_path: Path, left: bytes | None, size: int
) -> None:
    """The bodies would be swept and overwritten, and what is only in the journal would go."""
    folder, copy = tmp_path / "spool", tmp_path / "copy"
    spool = await SqliteSpool.open(folder)
    await spool.accept([message("m1", body=b"x" * size)])
    shutil.copytree(folder, copy)  # as after a kill: with the journal
    await spool.close()
    whole = (copy / "queue.sqlite3").rename(tmp_path / "whole")
    if left is not None:
        (copy / "queue.sqlite3").write_bytes(left)
    with pytest.raises(SpoolBroken, match=r"queue.sqlite3 is missing or empty.*Nothing was changed"):
        await SqliteSpool.open(copy)
    whole.rename(copy / "queue.sqlite3")
    spool = await SqliteSpool.open(copy)
    found = await spool.find("m1")
    assert found is not None
    assert b"".join(found.message.body_chunks()) == b"x" * size
    await spool.close()


async def test_a_start_that_was_killed_at_once_is_no_lost_queue(tmp_path: Path) -> None:
    await (await SqliteSpool.open(tmp_path)).close()
    (tmp_path / "queue.sqlite3").write_bytes(b"")
    (tmp_path / "queue.sqlite3-wal").write_bytes(b"")
    (tmp_path / "bodies/incoming/1").write_bytes(b"never accepted")
    await (await SqliteSpool.open(tmp_path)).close()


async def test_damage_that_is_found_later_ends_the_spool(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.accept([message(f"m{n}", body=b"x" * 20_000) for n in range(20)])
    await spool.close()
    path = tmp_path / "spool/queue.sqlite3"
    data = bytearray(path.read_bytes())
    connection = sqlite3.connect(path)
    pages = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name IN ('content', 'recipient')").fetchall()
    connection.close()
    for (page,) in pages:
        data[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    spool = await SqliteSpool.open(tmp_path / "spool")
    with pytest.raises(SpoolBroken, match=r"is damaged .*Nothing was deleted.*\.recover"):
        await spool.find("m1")
    with pytest.raises(SpoolBroken):
        await spool.accept([message("new")])
    await spool.close()


async def test_a_database_of_somebody_else_is_not_written_to(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "queue.sqlite3") as other:
        other.execute("CREATE TABLE songs (title)")
    other.close()
    with pytest.raises(SpoolError, match="something else than a MasqMail queue"):
        await SqliteSpool.open(tmp_path)


async def test_the_file_of_a_newer_program_is_refused(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.close()
    connection = sqlite3.connect(tmp_path / "spool/queue.sqlite3", isolation_level=None)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SpoolError, match="use the newer MasqMail"):
        await SqliteSpool.open(tmp_path / "spool")


async def test_the_journal_mode_is_the_one_that_survives_a_power_failure(spool: SqliteSpool) -> None:
    def settings(db: Database) -> list[object]:
        names = ("journal_mode", "auto_vacuum", "locking_mode", "synchronous")
        return [db.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    await spool.accept([message("m1")])
    assert await run(spool, settings) == ["wal", 2, "exclusive", 2]
    await spool.lease("w", [A], now=START)
    assert (await run(spool, settings))[3] == 1  # a lost lease does no harm
    await spool.accept([message("m2")])
    assert (await run(spool, settings))[3] == 2


# schema and statements


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Callable[[], sqlite3.Connection]:
    """Makes empty databases in memory and closes them in the end."""

    def make() -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        request.addfinalizer(connection.close)
        return connection

    return make


def schema(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()


def test_a_fresh_schema_equals_one_upgraded_step_by_step(database: Callable[[], sqlite3.Connection]) -> None:
    changes = statements.schema_changes()
    fresh = database()
    migrate(fresh)
    upgraded = database()
    for number in range(1, len(changes) + 1):
        migrate(upgraded, changes[:number])
    assert schema(fresh) == schema(upgraded) != []
    assert fresh.execute("PRAGMA user_version").fetchone() == (len(changes),)


def test_an_upgrade_runs_only_what_is_new(database: Callable[[], sqlite3.Connection]) -> None:
    connection = database()
    migrate(connection, ["CREATE TABLE one (a)"])
    migrate(connection, ["CREATE TABLE one (a)", "ALTER TABLE one ADD b"])
    assert [row[1] for row in connection.execute("PRAGMA table_info(one)")] == ["a", "b"]


def test_a_failed_upgrade_leaves_the_file_as_it_was(database: Callable[[], sqlite3.Connection]) -> None:
    connection = database()
    migrate(connection, ["CREATE TABLE one (a)"])
    with pytest.raises(sqlite3.Error):
        migrate(connection, ["CREATE TABLE one (a)", "CREATE TABLE two (a); CREATE TABLE one (a)"])
    connection.rollback()
    assert [row[1] for row in schema(connection)] == ["one"]
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)


async def test_bodies_of_the_first_schema_are_found_after_the_upgrade(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "queue.sqlite3")
    migrate(connection, statements.schema_changes()[:1])
    connection.close()
    old = tmp_path / "bodies" / "00" / "1abcde00"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"kept")
    spool = await SqliteSpool.open(tmp_path)
    assert (tmp_path / "bodies" / "1abcde00").read_bytes() == b"kept"
    assert not old.parent.exists()
    await spool.close()


def test_schema_changes_are_numbered_without_gaps() -> None:
    folder = Path(statements.__file__).parent / "schema"
    numbers = sorted(int(path.name.split("_")[0]) for path in folder.iterdir())
    assert numbers == list(range(1, len(numbers) + 1))


STATEMENTS = [
    (topic, name, text)
    for topic in ("classes", "custody", "fetched", "history", "leases", "messages", "people", "start")
    for name, text in statements.load(topic).items()
]

#: These read a whole table, or all that is left of one: small tables, to mend a tally, or with a limit in key order.
SCANS = {
    "classes": {"get_classes"},
    "history": {"get_latest"},
    "leases": {"get_abandoned"},
    "people": {"get_oldest"},
    "start": {
        "get_tally",
        "has_message",
        "count_messages",
        "count_queued",
        "count_deferred",
        "count_held",
        "count_leased",
        "get_segments",
    },
}


@pytest.mark.parametrize(("topic", "name", "text"), STATEMENTS)
def test_a_statement_is_valid_and_does_not_grow_with_the_queue(
    topic: str, name: str, text: str, database: Callable[[], sqlite3.Connection]
) -> None:
    connection = database()
    migrate(connection)
    named = re.findall(r":(\w+)", text)
    parameters = dict.fromkeys(named, 1) if named else [1] * text.count("?")
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", parameters)]
    if name not in SCANS.get(topic, ()):
        assert not [step for step in plan if re.match(r"SCAN (?!CONSTANT|\(subquery|json_each)", step)], plan
        assert not [step for step in plan if "TEMP B-TREE" in step], plan


def test_every_statement_in_the_files_is_loaded() -> None:
    for path in (Path(statements.__file__).parent / "sql").iterdir():
        names = re.findall(r"^-- name: (\w+)$", path.read_text(), re.MULTILINE)
        assert list(statements.load(path.stem)) == names
        assert len(set(names)) == len(names) > 0
        assert path.stem in {topic for topic, _, _ in STATEMENTS}


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_steps_take_no_longer_in_a_long_queue(tmp_path: Path, clock: FakeClock) -> None:
    """Counts the instructions of SQLite's machine, so that the load of the host does not matter."""

    async def costs(length: int) -> dict[str, int]:
        spool = await SqliteSpool.open(tmp_path / str(length), now=clock.now)
        for start in range(0, length, 200):
            await spool.accept([queued(f"m{n}", n) for n in range(start, start + 200)])
        await spool.accept([message(f"own{n}", owner_uid=7) for n in range(2)])
        waiting = await spool.lease("w", [A], now=START, max_messages=length // 2, max_bytes=1 << 40)
        due = START + MINUTE
        await spool.record([record(item.recipients[0], State.DEFERRED, due=due) for item in waiting])
        clock.advance(MINUTE)
        far = due - 2 * MINUTE
        found = {}
        for name, verb in {
            "accept": lambda: spool.accept([queued("new", 0)]),
            "lease": lambda: spool.lease("w", [A], now=START, max_messages=10),
            "due": lambda: spool.lease("w", [A], now=due, max_messages=10),
            "woken": lambda: spool.lease("w", [A], now=far, woken_at=clock.now(), max_messages=10),
            "domain": lambda: spool.lease("w", [A], now=due, domain="d3.org", max_messages=10),
            "domains": lambda: spool.waiting_domains([A], now=far, limit=5),
            "next due": lambda: spool.next_due([A], after=START),
            "find": lambda: spool.find(f"m{length - 1}"),
            "first page": lambda: spool.listing(limit=20),
            "last page": lambda: spool.listing(after=f"m{length - 20}", limit=20),
            "page of an owner": lambda: spool.listing(limit=2, owner_uid=7),
            "show": lambda: spool.history(f"m{length - 1}"),
            "counts": lambda: spool.counts(),
            "hold": lambda: spool.hold([f"m{length - 2}"], "wait"),
            "stale": lambda: spool.stale("2", limit=20),
            "history": lambda: spool.history(limit=20),
        }.items():
            found[name] = await counted(spool, verb)
        await spool.close()
        return found

    short, long = await costs(400), await costs(20_000)
    assert {name: (short[name], long[name]) for name in short if long[name] > 1.5 * short[name] + 100} == {}


def queued(queue_id: str, number: int) -> NewMessage:
    return message(queue_id, recipient(f"ann@d{number % 10}.org"))


async def counted(spool: SqliteSpool, verb: Callable[[], Awaitable[object]]) -> int:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    await run(spool, lambda db: db.connection.set_progress_handler(count, 1))
    await verb()
    await run(spool, lambda db: db.connection.set_progress_handler(None, 0))
    return steps


# bodies


async def test_a_big_body_is_a_file_until_its_message_ends(spool: SqliteSpool, tmp_path: Path) -> None:
    body = spool.new_body()
    body.write(BIG)
    assert body_files(tmp_path) == ["incoming/1"]
    await spool.accept([message("m1", body=body), message("m2", body=b"small")])
    assert body_files(tmp_path) == ["m1"]
    await spool.record([record(await lease_one(spool), State.DELIVERED)])
    assert body_files(tmp_path) == []


async def test_a_removed_message_takes_its_body_along(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.accept([message("m1", body=BIG)])
    await spool.remove(["m1"], START, "removed by root")
    assert body_files(tmp_path) == []


async def test_a_body_that_is_discarded_leaves_nothing(spool: SqliteSpool, tmp_path: Path) -> None:
    body = spool.new_body()
    body.write(BIG)
    body.discard()
    body.discard()
    assert body_files(tmp_path) == []


async def test_discarding_after_accept_keeps_the_body(spool: SqliteSpool, tmp_path: Path) -> None:
    body = spool.new_body()
    body.write(BIG)
    accepted = spool.accept([message("m1", body=body)])
    body.discard()  # as a cancelled caller does, while the writer is at work
    await accepted
    assert body_files(tmp_path) == ["m1"]


async def test_a_refused_message_leaves_no_body_and_harms_no_other(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.accept([message("m1", body=BIG)])
    for name in ("m1", "../evil"):
        body = spool.new_body()
        body.write(BIG)
        with pytest.raises(SpoolError):
            await spool.accept([message("m2", body=b"y" * 200_000), message(name, body=body)])
    assert body_files(tmp_path) == ["m1"]
    assert (tmp_path / "spool/bodies/m1").read_bytes() == BIG
    assert [item.message.queue_id for item in await spool.listing()] == ["m1"]


async def test_bodies_that_come_together_share_the_sync_of_their_folder(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies, folders = [], []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (bodies.append(descriptor), real(descriptor)))
    monkeypatch.setattr(os, "fsync", folders.append)
    await asyncio.gather(*(spool.accept([message(f"m{n}", body=BIG)]) for n in range(9)))
    assert (len(bodies), len(folders)) == (9, 1)


async def test_a_message_that_ends_at_once_leaves_no_body(spool: SqliteSpool, tmp_path: Path) -> None:
    body = spool.new_body()
    body.write(BIG)
    await spool.accept([message("m1", recipient(state=State.FAILED), body=body)])
    assert body_files(tmp_path) == []


async def test_bodies_without_a_row_are_swept_after_a_crash(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.accept([message("m1", body=BIG), message("m2", body=b"small")])
    folder = tmp_path / "spool/bodies"
    for name in ("incoming/7", "xm1", "m2"):
        (folder / name).write_bytes(b"left over")
    spool = await reopen(spool, tmp_path)
    assert "incoming/7" not in body_files(tmp_path)
    await spool.tidy()
    assert body_files(tmp_path) == ["m1"]
    await spool.close()


async def test_a_body_stops_growing_when_the_disk_is_nearly_full(
    spool: SqliteSpool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert spool.has_room(0)
    body = spool.new_body()
    body.write(BIG)
    real = os.statvfs("/")
    full = os.statvfs_result([*real[:4], 100, *real[5:]])
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    assert spool.has_room(0)  # asked once a second
    clock.advance(MINUTE)
    assert not spool.has_room(0)
    with pytest.raises(SpoolFull):
        body.write(BIG)
    body.discard()
    with pytest.raises(SpoolFull):
        await spool.accept([message("m1")])
    monkeypatch.undo()
    assert spool.has_room(0)  # seen at once


# the writer


async def test_what_arrives_together_shares_a_commit(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = count_commits(monkeypatch)
    await asyncio.gather(*(spool.accept([message(f"m{n}")]) for n in range(50)))
    assert len(commits) == 1
    assert len(await spool.listing()) == 50


async def test_rows_of_a_group_are_written_many_at_a_time(spool: SqliteSpool) -> None:
    statements: list[str] = []
    await spool.accept([message("m")])  # its class is known from here on
    await run(spool, lambda db: db.connection.set_trace_callback(statements.append))
    await asyncio.gather(*(spool.accept([message(f"m{n}")]) for n in range(16)))
    await run(spool, lambda db: db.connection.set_trace_callback(None))
    inserts = [statement for statement in statements if statement.startswith("INSERT")]
    assert len(inserts) == 4  # message, content, recipient, history
    assert len(await spool.listing()) == 17


async def test_a_request_sees_what_was_asked_before_it(spool: SqliteSpool) -> None:
    accepted = [spool.accept([message(f"m{n}")]) for n in range(3)]
    held = spool.hold(["m1"], "wait")
    leased = spool.lease("w", [A], now=START)
    assert await held == 1
    assert [item.message.queue_id for item in await leased] == ["m0", "m2"]
    await asyncio.gather(*accepted)


def delivered(lease: Lease) -> Record:
    return record(lease.recipients[0], State.DELIVERED)


async def test_records_of_a_group_are_carried_out_together(spool: SqliteSpool) -> None:
    await spool.accept([message(f"m{n}") for n in range(9)])
    leases = await spool.lease("w", [A], now=START)
    ids = [item.recipients[0].id for item in leases]
    statements: list[str] = []
    await run(spool, lambda db: db.connection.set_trace_callback(statements.append))
    begun = [spool.begin([id]) for id in ids]
    await asyncio.gather(*begun, *(spool.record([delivered(item)]) for item in leases))
    await run(spool, lambda db: db.connection.set_trace_callback(None))
    assert len([text for text in statements if text.startswith(("UPDATE lease", "DELETE FROM message"))]) == 2
    assert await spool.listing() == []
    assert (await spool.counts()).messages == 0
    assert (await events(spool)).count("delivered") == 9


async def test_a_record_with_a_bad_report_fails_alone(spool: SqliteSpool) -> None:
    await spool.accept([message(name) for name in ("m1", "m2", "m3")])
    leases = await spool.lease("w", [A], now=START)
    await spool.accept([message("taken")])
    reports = [[message("r1")], [message("taken")], [message("r3")]]
    records = [spool.record([delivered(item)], report) for item, report in zip(leases, reports, strict=True)]
    results = await asyncio.gather(*records, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), SpoolError, type(None)]
    assert [item.message.queue_id for item in await spool.listing()] == ["m2", "taken", "r1", "r3"]
    assert (await events(spool)).count("delivered") == 2


async def test_of_two_records_for_a_recipient_the_first_counts(spool: SqliteSpool) -> None:
    await spool.accept([message("m1", recipient("a@x"), recipient("b@y"))])
    first, second = (await spool.lease("w", [A], now=START))[0].recipients
    await asyncio.gather(
        spool.record([record(first, State.DELIVERED), record(first, State.FAILED)]),
        spool.record([record(first, State.DEFERRED, due=START), record(second, State.DEFERRED, due=START)]),
    )
    (item,) = await spool.listing()
    assert [stored.state for stored in item.recipients] == [State.DELIVERED, State.DEFERRED]
    await run(spool, assert_tally_is_right)


async def test_a_bad_one_fails_alone(spool: SqliteSpool) -> None:
    names = ["m1", "m2", "m1", "m3"]
    held = spool.hold(["m3"], "before it is there")
    results = await asyncio.gather(*(spool.accept([message(name)]) for name in names), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), type(None), SpoolError, type(None)]
    assert await held == 0
    assert [item.message.queue_id for item in await spool.listing()] == ["m1", "m2", "m3"]
    counts = await spool.counts()
    assert (counts.messages, counts.recipients) == (3, 3)
    assert await events(spool) == ["received"] * 3


async def test_a_bug_in_a_request_does_not_end_the_spool(spool: SqliteSpool) -> None:
    with pytest.raises(AttributeError):
        await spool.accept([message("m1", recipients=[None])])
    await spool.accept([message("m1", recipient(route_class=B))])
    assert await spool.classes() == {B: 1}


async def test_a_cancelled_caller_changes_nothing_for_the_others(spool: SqliteSpool) -> None:
    first, second = spool.accept([message("m1")]), spool.accept([message("m2")])
    asyncio.ensure_future(first).cancel()
    await second
    assert len(await spool.listing()) == 2


async def test_a_closed_spool_answers_what_was_asked_before_and_refuses_the_rest(
    spool: SqliteSpool, tmp_path: Path
) -> None:
    accepted = spool.accept([message("m1")])
    closed = asyncio.ensure_future(spool.close())
    await asyncio.sleep(0)
    body = spool.new_body()
    body.write(BIG)
    with pytest.raises(SpoolError, match="closed"):
        await spool.accept([message("m2", body=body)])
    await accepted
    await closed
    assert body_files(tmp_path) == []


async def test_long_lists_let_others_through(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "PAGE", 2)
    await spool.accept([message(f"m{n}") for n in range(9)])
    listed = spool.listing()
    chosen = spool.select(Selection(sender="bob"))
    await spool.accept([message("late")])
    names = [item.message.queue_id for item in await listed]
    assert names[:9] == [f"m{n}" for n in range(9)]
    assert len(await chosen) >= 9


async def test_a_list_that_is_not_finished_when_the_spool_closes_is_refused(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "PAGE", 1)
    await spool.accept([message(f"m{n}") for n in range(50)])
    listed = asyncio.ensure_future(spool.listing())  # type: ignore[arg-type]
    await spool.close()
    with pytest.raises(SpoolError, match="closed"):
        await listed


async def test_trimming_gives_space_back(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.accept([message(f"m{n}", body=b"x" * 20_000) for n in range(100)])
    await spool.remove([f"m{n}" for n in range(100)], START, "removed by root")
    await spool.trim(START + MINUTE)
    spool = await reopen(spool, tmp_path)
    assert (tmp_path / "spool/queue.sqlite3").stat().st_size < 200_000
    assert await spool.history() == []
    await spool.close()


# a random walk: the memory twin is the oracle


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
async def test_both_spools_go_the_same_way(spool: SqliteSpool, clock: FakeClock, seed: int) -> None:
    walk = Walk(random.Random(seed), [spool, MemorySpool(now=clock.now)])
    for _ in range(150):
        await walk.step(clock)
        await walk.compare()
    await run(spool, assert_tally_is_right)


def assert_tally_is_right(db: Database) -> None:
    assert db.tally.is_right(tally.count(db.connection))
    assert db.tally.is_right(tally.stored(db.connection))


STEPS = (
    "accept",
    "accept",
    "accept and lease",
    "lease",
    "lease",
    "record",
    "record",
    "begin",
    "hold",
    "release",
    "retry",
    "remove",
    "later",
)


class Walk:
    """The same random steps on several spools. Recipients are named by message and position."""

    def __init__(self, rng: random.Random, spools: list[Spool]) -> None:
        self.rng = rng
        self.spools = spools
        self.number = 0
        self.leased: set[tuple[str, str]] = set()

    async def step(self, clock: FakeClock) -> None:
        rng, now = self.rng, clock.now()
        names = [f"m{rng.randint(1, self.number + 1)}" for _ in range(2)]
        chosen = rng.sample([A, B, C, LOCAL], 2)
        match rng.choice(STEPS):
            case "accept":
                new = self.new_message(chosen, now)
                await self.each(lambda spool: spool.accept([new]))
            case "accept and lease":
                new = self.new_message(chosen, now)
                await self.each(lambda spool: asyncio.gather(spool.accept([new]), spool.lease("w", chosen, now=now)))
            case "lease":
                woken_at = rng.choice([None, now])
                await self.each(lambda spool: spool.lease("w", chosen, now=now, woken_at=woken_at))
            case "record":
                await self.record(clock)
            case "begin":
                for spool in self.spools:
                    found = await standings(spool, State.LEASED)
                    await spool.begin([item.id for item in found.values()])
            case "hold":
                await self.each(lambda spool: spool.hold(names, "wait"))
            case "release":
                await self.each(lambda spool: spool.release(names))
            case "retry":
                await self.each(lambda spool: spool.retry(names))
            case "remove":
                await self.each(lambda spool: spool.remove(names[:1], now, "removed"))
            case "later":
                clock.advance(rng.randint(1, 9) * MINUTE)
                await self.each(lambda spool: spool.advance(60, chosen))
                await self.each(lambda spool: spool.clamp_due(now, 4 * MINUTE))
                if rng.random() < 0.2:
                    await self.each(lambda spool: spool.recover(now))

    def new_message(self, classes: Sequence[RouteClass], now: datetime) -> NewMessage:
        self.number += 1
        name, rng = f"m{self.number}", self.rng
        targets = [recipient(f"a@d{n}.org", rng.choice(classes)) for n in range(rng.randint(1, 3))]
        body = f"{name}\r\n".encode() * rng.choice([1, 1, 8_000, 16_000])
        return message(name, *targets, received_at=now, body=body)

    async def record(self, clock: FakeClock) -> None:
        choices = {}
        for spool in self.spools:
            records = []
            for name, item in (await standings(spool, State.LEASED)).items():
                if name not in choices:
                    state = self.rng.choice([State.DELIVERED, State.FAILED, State.DEFERRED, State.QUEUED])
                    choices[name] = (state, self.rng.choice([A, B, C]), clock.now() + self.rng.randint(0, 9) * MINUTE)
                state, route_class, due = choices[name]
                values = {"route_class": route_class, "due": due, "attempt": attempt(), "status": OK}
                records.append(record(item, state, f"it is {state.value}", **values))
            await spool.record(records)

    async def each(self, verb: Callable[[Spool], Awaitable[object]]) -> None:
        results = [plain(await verb(spool)) for spool in self.spools]
        assert all(result == results[0] for result in results), results

    async def compare(self) -> None:
        await self.each(lambda spool: spool.listing())
        await self.each(lambda spool: spool.history(limit=20))
        await self.each(lambda spool: spool.counts())
        await self.each(lambda spool: spool.classes())
        await self.each(lambda spool: spool.next_due([A, B], after=START))
        await self.each(lambda spool: spool.waiting_domains([A, C], now=START + 20 * MINUTE))
        await self.each(lambda spool: spool.stale("2"))


def plain(value: object) -> object:
    """A result without keys and IDs, which differ between spools."""
    match value:
        case list():
            return [plain(item) for item in value]
        case QueuedMessage() | Lease():
            return replace(value.message, key=0), [replace(item, id=0) for item in value.recipients]
        case _:
            return value


async def standings(spool: Spool, state: State) -> dict[tuple[str, str], StoredRecipient]:
    return {
        (item.message.queue_id, stored.target): stored
        for item in await spool.listing()
        for stored in item.recipients
        if stored.state is state
    }
