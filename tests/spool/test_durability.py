"""What is left after a kill, a full disk, a failed sync: everything that was acknowledged."""

import asyncio
import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from masqmail.spool import database, room, tally
from masqmail.spool.api import SpoolBroken, SpoolFull
from masqmail.spool.changes import IN_DOUBT
from masqmail.spool.database import Database
from masqmail.spool.room import BALLAST_NAME, Room
from masqmail.spool.sqlite import SqliteSpool
from masqmail.spool.states import MOVES, State
from masqmail.spool.writer import Effect
from masqmail.system.clock import FakeClock
from spool.conformance import START, lease_one, message, record
from spool.worker import ACCOUNT, content

KILLS = 100
WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[SqliteSpool]:
    spool = await SqliteSpool.open(tmp_path / "spool")
    yield spool
    await spool.close()


async def names(spool: SqliteSpool) -> list[str]:
    return [item.message.queue_id for item in await spool.listing()]


# kills


@dataclass
class Ledger:
    """What may be in the spool: for each recipient the states it can be in, by what the worker said."""

    states: dict[tuple[str, str], set[State]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    recipients: dict[str, int] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    begun: set[tuple[str, str]] = field(default_factory=set)  # without a record that was tried

    def read(self, lines: list[str]) -> None:
        for line in lines:
            match line.split():
                case ["accept", queue_id, recipients, size]:
                    self.recipients[queue_id], self.sizes[queue_id] = int(recipients), int(size)
                case ["accepted", queue_id]:
                    self.accepted.add(queue_id)
                    for n in range(self.recipients[queue_id]):
                        self.states.setdefault((queue_id, str(n)), {State.QUEUED})
                case ["begun", queue_id, target]:
                    self.begun.add((queue_id, target))
                case ["record", queue_id, target, state]:
                    self.begun.discard((queue_id, target))
                    self.states.setdefault((queue_id, target), {State.QUEUED}).update({State.QUEUED, State(state)})
                case ["recorded", queue_id, target, state]:
                    self.states[queue_id, target] = {State(state)}

    def may_be(self, queue_id: str, target: str) -> set[State]:
        """A deferred recipient may have been leased, and given back, without our having been told."""
        states = self.states.get((queue_id, target), {State.QUEUED})
        return states | {State.QUEUED} if State.DEFERRED in states else states

    def may_be_gone(self, queue_id: str) -> bool:
        targets = [str(n) for n in range(self.recipients[queue_id])]
        return all(any(state.is_ended for state in self.may_be(queue_id, target)) for target in targets)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_nothing_acknowledged_is_lost_by_kills_at_any_moment(tmp_path: Path) -> None:
    rng = random.Random(1047)
    ledger = Ledger()
    doubts = 0
    for number in range(KILLS):
        ledger.read(run_and_kill(tmp_path, number, rng.uniform(0.0, 0.08)))
        check_rows(tmp_path / "spool")
        spool = await SqliteSpool.open(tmp_path / "spool")
        check_bodies(tmp_path / "spool")
        doubts += await spool.recover(datetime.now(UTC))
        await check_messages(spool, ledger)
        await spool.close()
    assert len(ledger.accepted) > KILLS
    assert doubts > KILLS // 10  # the kills did hit the middle of something


def run_and_kill(tmp_path: Path, seed: int, seconds: float) -> list[str]:
    """Lets a worker work for a while after its start and kills it; returns what it said in whole lines."""
    said = tmp_path / f"said-{seed}"
    with said.open("wb") as output:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        worker = subprocess.Popen(
            [sys.executable, WORKER, tmp_path / "spool", str(seed)], stdout=output, env=environment
        )
    while b"ready" not in said.read_bytes():
        assert worker.poll() is None
        time.sleep(0.005)
    time.sleep(seconds)
    assert worker.poll() is None
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    *lines, _ = said.read_text().split("\n")
    return lines


def check_rows(folder: Path) -> None:
    """No row stands without those it belongs to."""
    connection = sqlite3.connect(folder / "queue.sqlite3")
    for orphans in (
        "SELECT key FROM message LEFT JOIN content ON message = key WHERE message IS NULL",
        "SELECT message FROM content LEFT JOIN message ON key = message WHERE key IS NULL",
        "SELECT id FROM recipient LEFT JOIN message ON key = id >> 20 WHERE key IS NULL",
        "SELECT key FROM message WHERE NOT EXISTS (SELECT 1 FROM recipient WHERE id >> 20 = key)",
        "SELECT recipient FROM lease LEFT JOIN recipient ON id = recipient WHERE state IS NOT 'leased'",
        "SELECT id FROM recipient LEFT JOIN lease ON recipient = id WHERE state = 'leased' AND worker IS NULL",
        "SELECT message FROM extent LEFT JOIN content USING (message) WHERE header IS NULL OR body IS NOT NULL",
        "SELECT class FROM recipient WHERE class NOT IN (SELECT id FROM class)",
    ):
        assert connection.execute(orphans).fetchall() == [], orphans
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert +tally.stored(connection) == +tally.count(connection)
    wanted = {
        row[0]
        for row in connection.execute(
            "SELECT queue_id FROM message JOIN content ON content.message = key"
            " LEFT JOIN extent ON extent.message = key WHERE body IS NULL AND position IS NULL"
        )
    }
    extents = connection.execute("SELECT position, position + size_bytes FROM extent ORDER BY position").fetchall()
    connection.close()
    assert wanted <= {path.name for path in (folder / "bodies").iterdir()}
    assert all(end <= start for (_, end), (start, _) in pairwise(extents)), "no two bodies in the same place"


def check_bodies(folder: Path) -> None:
    """After the start no body file is left that nobody wants."""
    assert list((folder / "bodies/incoming").iterdir()) == []


async def check_messages(spool: SqliteSpool, ledger: Ledger) -> None:
    """Everything acknowledged is there, in a state it may be in; then the ledger knows for sure."""
    there = {item.message.queue_id: item for item in await spool.listing()}
    for queue_id in ledger.accepted - there.keys():
        assert ledger.may_be_gone(queue_id), queue_id
    for queue_id, item in there.items():
        if queue_id.startswith("r-"):
            continue
        assert len(item.recipients) == ledger.recipients[queue_id]
        whole = await spool.find(queue_id)
        assert whole is not None
        assert b"".join(whole.message.body_chunks()) == content(queue_id, ledger.sizes[queue_id])
        for stored in item.recipients:
            assert stored.state in ledger.may_be(queue_id, stored.target), (queue_id, stored)
            ledger.states[queue_id, stored.target] = {stored.state}
    for queue_id, target in ledger.begun:
        (stored,) = [stored for stored in there[queue_id].recipients if stored.target == target]
        assert (stored.state, stored.reason) == (State.QUEUED, IN_DOUBT)
        entries = await spool.history(queue_id)
        assert ("in doubt", target) in [(entry.event, entry.recipient) for entry in entries]
    ledger.begun.clear()
    ledger.accepted = set(there) - {name for name in there if name.startswith("r-")}
    await check_reports(spool)
    await check_marks(spool)


async def check_marks(spool: SqliteSpool) -> None:
    """A message that was fetched and its mark are in one transaction: there are both or none."""
    entries = await spool.history(limit=1_000_000)
    received = {entry.queue_id for entry in entries if entry.event == "received"}
    marks = {uid.uid for uid in await spool.fetch_marks(ACCOUNT)}
    assert marks == {queue_id for queue_id in received if not queue_id.startswith("r-")}


async def check_reports(spool: SqliteSpool) -> None:
    """A failure and its report are in one transaction: there are both or none."""
    entries = await spool.history(limit=1_000_000)
    failed = {f"r-{entry.queue_id}-{entry.recipient}" for entry in entries if entry.event == "failed"}
    reports = {entry.queue_id for entry in entries if entry.event == "received" and entry.queue_id.startswith("r-")}
    assert failed == reports


# a full disk


async def limit_pages(spool: SqliteSpool, more: int) -> None:
    def limit(db: Database) -> None:
        (pages,) = db.connection.execute("PRAGMA page_count").fetchone()
        db.connection.execute(f"PRAGMA max_page_count = {pages + more}").fetchone()

    await spool._writer.submit(limit, Effect.NOTHING)


async def test_a_full_queue_file_refuses_and_keeps_what_it_has(spool: SqliteSpool) -> None:
    await spool.accept([message("m1"), message("m2")])
    leased = await lease_one(spool)
    await limit_pages(spool, 20)
    recorded = spool.record([record(leased, State.DELIVERED)])
    big = [spool.accept([message(f"b{n}", body=b"x" * 16_000)]) for n in range(9)]
    small = spool.accept([message("m3")])
    results = await asyncio.gather(*big, return_exceptions=True)
    assert SpoolFull in [type(result) for result in results]
    await recorded
    await small
    kept = [f"b{n}" for n, result in enumerate(results) if result is None]
    assert await names(spool) == ["m2", *kept, "m3"]
    await limit_pages(spool, 10_000)
    await spool.accept([message("m4", body=b"x" * 16_000)])
    assert (await spool.counts()).messages == len(kept) + 3


async def test_a_disk_without_room_for_a_big_body_refuses_it(
    spool: SqliteSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    body = spool.new_body()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", no_room)
        with pytest.raises(SpoolFull):
            body.write(b"x" * 200_000)
    body.discard()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda descriptor: no_room(descriptor, b""))
        with pytest.raises(SpoolFull):
            await spool.accept([message("m1", body=b"x" * 200_000)])
    assert list(tmp_path.glob("spool/bodies/*")) == [tmp_path / "spool/bodies/incoming"]
    await spool.accept([message("m1", body=b"x" * 200_000)])


async def test_a_body_whose_sync_failed_is_not_taken_for_synced_at_the_second_try(
    spool: SqliteSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written is forgotten by some kernels: the next sync has nothing to complain about."""
    real, failures = os.fdatasync, [OSError(errno.ENOSPC, "No space left on device")]

    def fail_once(descriptor: int) -> None:
        if failures:
            raise failures.pop()
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", fail_once)
    names = ["m1", "m2"]
    accepted = [spool.accept([message(name, body=b"x" * 200_000)]) for name in names]
    results = await asyncio.gather(*accepted, return_exceptions=True)
    assert [type(result) for result in results] == [SpoolFull, type(None)]
    assert sorted(path.name for path in tmp_path.glob("spool/bodies/*")) == ["incoming", "m2"]


async def test_what_is_owed_gets_the_room_of_the_ballast(
    spool: SqliteSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await spool.accept([message("m1"), message("m2")])
    leased = await lease_one(spool)
    ballast = tmp_path / "spool" / BALLAST_NAME
    assert ballast.stat().st_size > 1_000_000
    await spool._writer.submit(_refuse_writes, Effect.NOTHING)
    with pytest.raises(SpoolFull):
        await spool.accept([message("m3")])
    assert ballast.exists()
    with monkeypatch.context() as patch:
        patch.setattr(room, "free_bytes", lambda directory: 0.0)
        await spool.record([record(leased, State.DELIVERED)])
        assert not ballast.exists()
    assert await names(spool) == ["m2"]
    await spool.accept([message("m4")])
    assert ballast.exists()


@pytest.mark.parametrize(("code", "is_final"), [(sqlite3.SQLITE_IOERR_FSYNC, True), (sqlite3.SQLITE_FULL, False)])
async def test_a_journal_that_cannot_be_synced_ends_the_spool_and_one_without_room_waits(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch, code: int, is_final: bool
) -> None:
    """The next sync might succeed and say nothing of what was dropped."""

    def fail(db: Database) -> bool:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(Database, "_checkpoint", fail)
    emptied = spool._writer.submit(Database.empty_journal, Effect.NOTHING)
    if is_final:
        with pytest.raises(SpoolBroken):
            await emptied
        with pytest.raises(SpoolBroken):
            await spool.accept([message("m1")])
    else:
        await emptied
        await spool.accept([message("m1")])


def _refuse_writes(db: Database) -> None:
    """Makes the disk full until the ballast is given up."""
    begin, make_room = db.begin, db.make_room

    def refuse(*, durable: bool) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    def give_in() -> bool:
        db.begin = begin  # type: ignore[method-assign]
        return make_room()

    db.begin = refuse  # type: ignore[method-assign]
    db.make_room = give_in  # type: ignore[method-assign]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "masqmail-test", folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.slow
async def test_a_really_full_disk_loses_nothing(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Room, "has", lambda room, size_bytes: True)
    (small_disk / "somebody else's").write_bytes(b"x" * 1_000_000)
    spool = await SqliteSpool.open(small_disk)
    accepted = await fill(spool)
    assert len(accepted) > 10
    assert await names(spool) == accepted
    await spool.close()
    spool = await SqliteSpool.open(small_disk)
    assert await names(spool) == accepted
    (small_disk / "somebody else's").unlink()
    await spool.remove(accepted[:20], START, "to make room")
    await spool.accept([message("again", body=b"x" * 5_000)])
    assert await names(spool) == [*accepted[20:], "again"]
    await spool.close()


@pytest.mark.slow
async def test_a_small_disk_takes_mail_again_and_again(small_disk: Path) -> None:
    """It has a reserve, a journal and a ballast of its size."""
    clock = FakeClock(START)
    spool = await SqliteSpool.open(small_disk, monotonic=clock.monotonic)
    for number in range(1000):
        await spool.accept([message(f"m{number}", body=b"x" * 5_000)])
        await spool.record([record(await lease_one(spool), State.DELIVERED)])
        clock.advance(timedelta(seconds=2))
    assert await names(spool) == []
    await spool.close()


@pytest.mark.slow
async def test_a_disk_that_others_filled_still_lets_mail_leave(small_disk: Path) -> None:
    spool = await SqliteSpool.open(small_disk)
    for number in range(50):
        await spool.accept([message(f"m{number}", body=b"x" * 5_000)])
    with (small_disk / "somebody else's").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    for number in range(50, 0, -1):
        await spool.record([record(await lease_one(spool), State.DELIVERED)])
        assert len(await names(spool)) == number - 1
    await spool.close()


@pytest.mark.slow
async def test_a_full_disk_can_be_started_on(small_disk: Path) -> None:
    spool = await SqliteSpool.open(small_disk)
    await spool.accept([message("m1"), message("m2")])
    await spool.close()
    with (small_disk / "somebody else's").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    spool = await SqliteSpool.open(small_disk)
    await spool.recover(START)
    await spool.record([record(await lease_one(spool), State.DELIVERED)])
    assert await names(spool) == ["m2"]
    await spool.close()


async def fill(spool: SqliteSpool) -> list[str]:
    """Accepts messages until there is no room; returns those that were acknowledged."""
    rng = random.Random(1)
    accepted: list[str] = []
    while True:
        queue_id = f"m{len(accepted)}"
        try:
            await spool.accept([message(queue_id, body=b"x" * rng.choice([5_000, 150_000]))])
        except SpoolFull:
            return accepted
        accepted.append(queue_id)


# a broken disk


class Disk(sqlite3.Connection):
    """A connection whose commits can be made to fail like a sync that fails."""

    is_broken = False

    def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:  # type: ignore[override]
        if Disk.is_broken and sql == "COMMIT":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return super().execute(sql, *parameters)


async def test_a_failed_sync_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect
    monkeypatch.setattr(database.sqlite3, "connect", lambda *args, **more: real(*args, **more, factory=Disk))
    monkeypatch.setattr(Disk, "is_broken", False)
    spool = await SqliteSpool.open(tmp_path)
    await spool.accept([message("m1")])
    monkeypatch.setattr(Disk, "is_broken", True)
    together = [spool.accept([message("m2")]), spool.hold(["m1"], "wait")]
    assert [type(result) for result in await asyncio.gather(*together, return_exceptions=True)] == [SpoolBroken] * 2
    monkeypatch.setattr(Disk, "is_broken", False)
    for late in (spool.accept([message("m3")]), spool.find("m1"), spool.listing()):
        with pytest.raises(SpoolBroken):
            await late
    await spool.close()
    spool = await SqliteSpool.open(tmp_path)
    assert "m1" in await names(spool)
    await spool.close()


async def test_a_body_that_cannot_be_synced_is_final(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(SpoolBroken):
        await spool.accept([message("m1", body=b"x" * 200_000)])
    with pytest.raises(SpoolBroken):
        await spool.accept([message("m2")])


@pytest.mark.slow
async def test_a_journal_that_cannot_be_written_is_final(tmp_path: Path) -> None:
    script = """
import asyncio, resource, sys
from pathlib import Path
from masqmail.spool.api import SpoolBroken
from masqmail.spool.sqlite import SqliteSpool
from spool.conformance import message

async def main():
    spool = await SqliteSpool.open(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    for number in range(100):
        try:
            await spool.accept([message(f"m{number}", body=b"x" * 20_000)])
        except SpoolBroken:
            break
        print(f"m{number}", flush=True)
    await spool.close()

asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, tmp_path / "spool"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert 3 < len(said) < 100
    spool = await SqliteSpool.open(tmp_path / "spool")
    assert (await names(spool))[: len(said)] == said
    await spool.close()


# the document


def test_the_state_diagram_in_the_documentation_is_the_table() -> None:
    page = Path(__file__).parents[2].joinpath("docs/explanation/durability.md").read_text()
    lines = [f"    {old.value} --> {new.value}" for old in State for new in State if new in MOVES[old]]
    assert "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> queued", *lines]) in page
    for state in State:
        assert f"| `{state.value}` |" in page
