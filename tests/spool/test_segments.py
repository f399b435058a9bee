"""Bodies of middling size: whole whatever happens, in places that are used again, and not before that is safe."""

import asyncio
import errno
import os
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.spool import segments
from masqmail.spool.api import ContentLost, Selection, SpoolBroken, SpoolError, SpoolFull
from masqmail.spool.database import Database
from masqmail.spool.segments import BLOCK_BYTES, FILE_NAME, SEGMENT_BYTES, Extent, Segments
from masqmail.spool.sqlite import SqliteSpool
from masqmail.spool.states import State
from masqmail.spool.writer import Effect
from spool.conformance import START, A, lease_one, message, record
from spool.test_sqlite import run

SIZE = 100_000


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[SqliteSpool]:
    spool = await SqliteSpool.open(tmp_path)
    yield spool
    await spool.close()


def body(name: str, size: int = SIZE) -> bytes:
    return (name.encode() * (size // len(name) + 1))[:size]


async def accept(spool: SqliteSpool, *names: str) -> None:
    await asyncio.gather(*(spool.accept([message(name, body=body(name))]) for name in names))


async def stored(spool: SqliteSpool, name: str) -> object:
    found = await spool.find(name)
    return found and found.message.body


def committed(store: Segments, *bodies: bytes) -> list[Extent]:
    """Where bodies are, after a transaction with them."""
    extents = [store.place(one) for one in bodies]
    store.write()
    store.note_commit(is_durable=True)
    return extents


# where they are


async def test_a_body_of_middling_size_is_neither_in_sqlite_nor_a_file_of_its_own(
    spool: SqliteSpool, tmp_path: Path
) -> None:
    await accept(spool, "m1")
    assert body("m1") in (tmp_path / FILE_NAME).read_bytes()
    assert b"m1" * 100 not in (tmp_path / "queue.sqlite3-wal").read_bytes()
    assert [path.name for path in (tmp_path / "bodies").iterdir()] == ["incoming"]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


async def test_it_is_there_after_a_restart_and_its_place_is_not_taken(spool: SqliteSpool, tmp_path: Path) -> None:
    await accept(spool, "m1", "m2")
    await spool.close()
    again = await SqliteSpool.open(tmp_path)
    await accept(again, "m3")
    assert [await stored(again, name) for name in ("m1", "m2", "m3")] == [body("m1"), body("m2"), body("m3")]
    await again.close()


async def test_a_small_queue_makes_no_file(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.accept([message("m1", body=b"small")])
    await spool.tidy()
    assert not (tmp_path / FILE_NAME).exists()


async def test_bodies_that_come_together_are_written_and_synced_at_once(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accept(spool, "m0")  # so that the file is there
    written, synced = [], []
    write, sync = os.pwrite, os.fdatasync
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: (written.append(len(data)), write(file, data, at))[1])
    monkeypatch.setattr(os, "fdatasync", lambda file: (synced.append(file), sync(file)))
    await spool.accept([message(f"m{n}", body=body(f"m{n}")) for n in range(1, 9)])
    assert written == [8 * 25 * BLOCK_BYTES]
    assert len(synced) == 1


@given(st.lists(st.integers(min_value=1, max_value=40), max_size=60), st.randoms(use_true_random=False))
def test_no_two_bodies_that_are_wanted_lie_in_the_same_place(sizes: list[int], rng: random.Random) -> None:
    store = Segments(Path("/nowhere"), [])
    there: set[Extent] = set()
    for blocks in sizes:
        extent = store.place(bytes(blocks * BLOCK_BYTES - 1))
        for other in there:
            assert extent.position + extent.whole_bytes <= other.position or (
                other.position + other.whole_bytes <= extent.position
            )
        assert extent.segment == (extent.position + extent.whole_bytes - 1) // SEGMENT_BYTES
        there.add(extent)
        for gone in [one for one in there if rng.random() < 0.3]:
            there.remove(gone)
            store.give_up(gone)
        store.note_commit(is_durable=rng.random() < 0.5)


async def test_a_body_is_whole_for_who_leases_it_in_the_transaction_that_accepts_it(
    spool: SqliteSpool, tmp_path: Path
) -> None:
    await accept(spool, "old1", "old2")
    await spool.remove(["old1", "old2"], START, "removed by root")
    await spool.close()
    again = await SqliteSpool.open(tmp_path)
    accepted = again.accept([message("m1", body=body("m1")), message("m2", body=body("m2"))])
    leases = await again.lease("w", [A], now=START)  # asked for in the same turn of the event loop
    assert [lease.message.body for lease in leases] == [body("m1"), body("m2")]
    await accepted
    assert await stored(again, "m1") == body("m1")
    await again.close()


# when a place is used again


def fill_segment(store: Segments) -> list[Extent]:
    return committed(store, *[bytes(SEGMENT_BYTES // 8)] * 8)


def test_a_segment_is_used_again_when_nothing_in_it_is_wanted(tmp_path: Path) -> None:
    store = Segments(tmp_path, [])
    first, second = fill_segment(store), fill_segment(store)
    for extent in (*first[1:], *second):
        store.give_up(extent)
    store.note_commit(is_durable=True)
    assert {extent.segment for extent in fill_segment(store)} == {1}
    assert {extent.segment for extent in fill_segment(store)} == {2}, "one of the first segment is still wanted"
    assert store.read(first[0]) == bytes(SEGMENT_BYTES // 8)
    store.close()


def test_no_place_is_used_again_before_its_giving_up_is_on_stable_storage(tmp_path: Path) -> None:
    """When the power fails the row comes back, and wants its body."""
    store = Segments(tmp_path, [])
    for extent in fill_segment(store):
        store.give_up(extent)
    store.note_commit(is_durable=False)
    store.place(b"x")
    store.write()
    store.note_commit(is_durable=False)
    assert store.place(bytes(SEGMENT_BYTES)).segment == 2
    store.note_commit(is_durable=True)
    assert store.place(bytes(SEGMENT_BYTES)).segment == 0
    store.close()


async def test_what_a_killed_process_gave_up_is_synced_before_its_places_are_free(
    spool: SqliteSpool, tmp_path: Path
) -> None:
    await accept(spool, "m1")
    left = shutil.copytree(tmp_path, tmp_path.with_name("left"))  # as a kill leaves it
    assert (left / "queue.sqlite3-wal").stat().st_size > 0
    again = await SqliteSpool.open(left)
    assert (left / "queue.sqlite3-wal").stat().st_size == 0
    assert await stored(again, "m1") == body("m1")
    await again.close()


def test_what_came_to_nothing_gives_its_place_back_and_keeps_what_it_gave_up(tmp_path: Path) -> None:
    store = Segments(tmp_path, [])
    (kept,) = committed(store, b"kept")
    for _ in range(3):
        assert store.place(bytes(SEGMENT_BYTES)).segment == 1
        store.give_up(kept)
        store.undo()
        store.place(b"x")  # begins the next segment, so that the one before is free
        store.undo()
    assert store.read(kept) == b"kept"
    store.close()


async def test_a_refused_message_takes_no_place_for_good(spool: SqliteSpool) -> None:
    await accept(spool, "m1")
    for _ in range(3):
        with pytest.raises(SpoolError):
            await accept(spool, "m1")  # that ID is taken
    assert await run(spool, lambda db: db.segments._wanted_bytes.total()) == 25 * BLOCK_BYTES
    assert await stored(spool, "m1") == body("m1")


# a file system that says no


async def test_a_file_system_without_direct_transfers_is_written_through_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse_direct(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse_direct)
    spool = await SqliteSpool.open(tmp_path)
    await accept(spool, "m1", "m2")
    assert await stored(spool, "m2") == body("m2")
    await spool.close()


@pytest.mark.parametrize("call", ["pwrite", "preadv"])
async def test_one_that_refuses_a_direct_transfer_gets_the_same_again(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real: Callable[..., int] = getattr(os, call)
    refused = []

    def refuse_once(file: int, data: object, at: int) -> int:
        if not refused:
            refused.append(at)
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(file, data, at)

    monkeypatch.setattr(os, call, refuse_once)
    await accept(spool, "m1", "m2")
    assert [await stored(spool, name) for name in ("m1", "m2")] == [body("m1"), body("m2")]
    assert refused


async def test_a_transfer_that_ends_early_is_carried_on(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: write(file, data[: 3 * BLOCK_BYTES], at))
    monkeypatch.setattr(os, "preadv", lambda file, data, at: read(file, [data[0][: 7 * BLOCK_BYTES]], at))
    await accept(spool, "m1", "m2", "m3")
    assert [await stored(spool, name) for name in ("m1", "m3")] == [body("m1"), body("m3")]


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
async def test_a_full_disk_refuses_the_message_and_takes_the_next(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    await accept(spool, "m1")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, no_room)
        with pytest.raises(SpoolFull):
            await accept(spool, "m2")
    await accept(spool, "m3")
    assert [item.message.queue_id for item in await spool.listing()] == ["m1", "m3"]
    assert [await stored(spool, name) for name in ("m1", "m3")] == [body("m1"), body("m3")]


async def test_a_broken_disk_ends_the_spool(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    await accept(spool, "m1")
    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(SpoolBroken, match="cannot store message bodies"):
        await accept(spool, "m2")
    with pytest.raises(SpoolBroken):
        await spool.find("m1")


async def test_a_message_in_a_bad_place_of_the_disk_is_held_and_stops_no_other(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_at_the_first(descriptor: int, buffers: list[memoryview], position: int) -> int:
        if position < SIZE:
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, buffers, position)

    real = os.preadv
    await accept(spool, "m1", "m2")
    monkeypatch.setattr(os, "preadv", fail_at_the_first)
    leased = await spool.lease("w", [A], max_messages=10, max_bytes=1 << 20, now=START)
    assert [lease.message.queue_id for lease in leased] == ["m2"]
    bad = await spool.find("m1", with_body=False)
    assert bad is not None
    assert bad.recipients[0].state is State.HELD
    assert "its body cannot be read from byte 0 of" in bad.recipients[0].reason
    with pytest.raises(ContentLost):
        await spool.find("m1")
    monkeypatch.undo()
    await spool.release(["m1"])
    assert [lease.message.queue_id for lease in await spool.lease("w", [A], now=START)] == ["m1"]


@pytest.mark.parametrize("left", [None, 50_000])
async def test_a_queue_whose_bodies_are_not_there_is_not_opened(
    spool: SqliteSpool, tmp_path: Path, left: int | None
) -> None:
    await accept(spool, "m1")
    await spool.close()
    whole = (tmp_path / FILE_NAME).rename(tmp_path / "whole")
    if left is not None:
        (tmp_path / FILE_NAME).write_bytes(whole.read_bytes()[:left])
    with pytest.raises(SpoolBroken, match=rf"segments is missing or cut off: it has {left or 0} bytes"):
        await SqliteSpool.open(tmp_path)
    whole.rename(tmp_path / FILE_NAME)
    again = await SqliteSpool.open(tmp_path)
    assert await stored(again, "m1") == body("m1")
    await again.close()


async def test_a_file_that_is_cut_off_while_we_run_breaks_no_body(spool: SqliteSpool, tmp_path: Path) -> None:
    await accept(spool, "m1")
    os.truncate(tmp_path / FILE_NAME, 0)
    with pytest.raises(SpoolBroken, match="segments ends before byte 100000"):
        await spool.find("m1")


async def test_who_needs_no_body_reads_none(spool: SqliteSpool, tmp_path: Path) -> None:
    await accept(spool, "m1")
    os.truncate(tmp_path / FILE_NAME, 0)
    found = await spool.find("m1", with_body=False)
    assert found is not None
    assert found.message.size_bytes > SIZE
    assert await spool.select(Selection(queue_ids=("m1", "m2"))) == ["m1"]
    assert [item.message.queue_id for item in await spool.listing()] == ["m1"]
    assert len(await spool.stale("next")) == 1


# space given back


async def test_the_file_is_cut_when_a_long_queue_was_sent(spool: SqliteSpool, tmp_path: Path) -> None:
    names = [f"m{n}" for n in range(300)]
    await accept(spool, *names)
    assert (tmp_path / FILE_NAME).stat().st_size > 30_000_000
    await spool.remove(names, START, "removed by root")
    await spool.tidy()
    assert (tmp_path / FILE_NAME).stat().st_size == segments.LEAST_SEGMENTS * SEGMENT_BYTES
    await accept(spool, "m0")
    assert await stored(spool, "m0") == body("m0")


async def test_what_is_left_at_the_end_is_moved_so_that_the_file_can_be_cut(
    spool: SqliteSpool, tmp_path: Path
) -> None:
    names = [f"m{n}" for n in range(300)]
    await accept(spool, *names)
    await spool.remove(names[1:-1], START, "removed by root")
    await spool.tidy()
    assert (tmp_path / FILE_NAME).stat().st_size == segments.LEAST_SEGMENTS * SEGMENT_BYTES
    assert await stored(spool, "m299") == body("m299")
    await spool.close()
    again = await SqliteSpool.open(tmp_path)
    assert [await stored(again, name) for name in ("m0", "m299")] == [body("m0"), body("m299")]
    await accept(again, *names[1:-1])
    assert await stored(again, "m299") == body("m299")
    await again.close()


async def test_one_message_in_each_segment_does_not_keep_the_whole_file(spool: SqliteSpool, tmp_path: Path) -> None:
    names = [f"m{n}" for n in range(300)]
    await accept(spool, *names)
    stuck = names[::10]
    await spool.remove([name for name in names if name not in stuck], START, "removed by root")
    for _ in range(3):
        await spool.tidy()
        await accept(spool, "next")  # the next transaction that is synced
        await spool.remove(["next"], START, "removed by root")
    assert (tmp_path / FILE_NAME).stat().st_size <= segments.LEAST_SEGMENTS * SEGMENT_BYTES
    assert [await stored(spool, name) for name in stuck] == [body(name) for name in stuck]


async def test_a_place_is_not_cut_off_while_a_power_failure_might_want_it_back(
    spool: SqliteSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"m{n}" for n in range(300)]
    await accept(spool, *names)
    await spool.remove(names[:-1], START, "removed by root")
    monkeypatch.setattr(Database, "empty_journal", lambda db: None)
    await spool.tidy()
    await spool.note([])  # of which SQLite writes and syncs nothing
    await spool.tidy()
    assert body("m299") in (tmp_path / FILE_NAME).read_bytes()[-SEGMENT_BYTES:]
    await accept(spool, "next")
    await spool.tidy()
    assert (tmp_path / FILE_NAME).stat().st_size == segments.LEAST_SEGMENTS * SEGMENT_BYTES


async def test_making_room_on_a_full_disk_frees_the_places_that_were_given_up(
    spool: SqliteSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"m{n}" for n in range(300)]
    await accept(spool, *names)
    await spool.remove(names[:-1], START, "removed by root")
    for is_room_made in (False, True):
        if is_room_made:
            assert await spool._writer.submit(Database.make_room, Effect.NOTHING)
        with monkeypatch.context() as patch:
            patch.setattr(Database, "empty_journal", lambda db: None)  # by which tidying would free them
            await spool.tidy()
        is_cut = (tmp_path / FILE_NAME).stat().st_size == segments.LEAST_SEGMENTS * SEGMENT_BYTES
        assert is_cut is is_room_made
    assert await stored(spool, "m299") == body("m299")


def test_full_segments_are_not_moved_to_and_fro(tmp_path: Path) -> None:
    store = Segments(tmp_path, [])
    size = SEGMENT_BYTES // 8
    stuck = []
    for _ in range(200):
        first, *others = fill_segment(store)
        stuck.append(first)
        for extent in others:
            store.give_up(extent)
    store.note_commit(is_durable=True)
    counts = []
    for _ in range(20):
        for number in store.choose_to_empty():
            for old in [extent for extent in stuck if extent.segment == number]:
                stuck.remove(old)
                stuck.append(store.place(store.read(old)))
                store.give_up(old)
            store.write()
            store.note_commit(is_durable=False)
        store.note_commit(is_durable=True)
        store.cut()
        counts.append(store._count)
    assert counts[-1] <= 2 * (200 * size // SEGMENT_BYTES) + segments.LEAST_SEGMENTS, counts
    assert store.choose_to_empty() == [], "it has come to rest"
    store.close()


async def test_others_are_served_between_the_segments_that_are_emptied(spool: SqliteSpool) -> None:
    names = [f"m{n}" for n in range(300)]
    await accept(spool, *names)
    await spool.remove([name for name in names if names.index(name) % 10], START, "removed by root")
    tidied = spool.tidy()
    await accept(spool, "new1")
    await accept(spool, "new2")
    assert not tidied.done()  # type: ignore[attr-defined]
    await tidied
    assert await stored(spool, "new2") == body("new2")


async def test_rows_with_bodies_of_this_size_stay_readable(spool: SqliteSpool, tmp_path: Path) -> None:
    """Until schema 4 bodies up to 128 KB were in rows."""
    await spool.accept([message("m1", body=b"small")])
    await spool.close()
    connection = sqlite3.connect(tmp_path / "queue.sqlite3")
    connection.execute("UPDATE content SET body = ?", (body("m1"),))
    connection.commit()
    connection.close()
    again = await SqliteSpool.open(tmp_path)
    assert await stored(again, "m1") == body("m1")
    await again.record([record(await lease_one(again), State.DELIVERED)])
    assert await again.listing() == []
    await again.close()
