import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from masqmail.routing.route import RouteClass
from masqmail.spool import bodies, space
from masqmail.spool.database import Database
from masqmail.spool.sqlite import SqliteSpool
from masqmail.spool.tally import stored
from spool.conformance import START, message, recipient
from spool.test_sqlite import run

FILE, JOURNAL = "queue.sqlite3", "queue.sqlite3-wal"


async def drained(folder: Path, messages: int) -> SqliteSpool:
    """A queue that was longer by so many messages of 15 KB."""
    spool = await SqliteSpool.open(folder)
    ids = [f"m{n}" for n in range(messages)]
    await spool.accept([message(queue_id, body=b"x" * 15_000) for queue_id in ids])
    await spool.remove(ids, START, "removed by root")
    return spool


async def test_a_file_that_is_mostly_free_shrinks_with_its_journal(tmp_path: Path) -> None:
    spool = await drained(tmp_path, 400)
    assert (tmp_path / JOURNAL).stat().st_size > 4_000_000
    await spool.tidy()
    assert (tmp_path / FILE).stat().st_size < 300_000
    assert (tmp_path / JOURNAL).stat().st_size == 0
    assert len(await spool.history(limit=1000)) == 800
    await spool.close()


async def test_a_little_free_space_is_kept_for_the_next_message(tmp_path: Path) -> None:
    spool = await drained(tmp_path, 40)
    await spool.tidy()
    assert (tmp_path / JOURNAL).stat().st_size > 0
    await spool.close()
    assert (tmp_path / FILE).stat().st_size > 500_000


async def test_classes_of_older_configurations_go_when_the_queue_is_empty(tmp_path: Path) -> None:
    spool = await SqliteSpool.open(tmp_path)
    classes = [RouteClass(("isp",), generation=f"g{number}") for number in range(4)]
    for route_class in classes[:3]:
        await spool.accept([message(route_class.generation, recipient(route_class=route_class))])
    await spool.remove(["g0", "g1"], START, "removed by root")
    await spool.tidy()
    assert await kept(spool) == {*classes[:3]}, "to look who has which would mean to read the queue"
    await spool.remove(["g2"], START, "removed by root")
    await spool.tidy()
    assert await kept(spool) == set()
    assert await run(spool, lambda db: (dict(db.tally._counts), stored(db.connection))) == ({}, {})
    for number in (1, 2):
        await spool.accept([message(f"m{number}", recipient(route_class=classes[3]))])
        await spool.tidy()
        assert await spool.classes() == {classes[3]: number}
    await spool.close()
    spool = await SqliteSpool.open(tmp_path)
    assert await spool.classes() == {classes[3]: 2}
    await spool.close()


async def kept(spool: SqliteSpool) -> set[RouteClass]:
    """The classes that the spool keeps in memory."""
    return await run(spool, lambda db: {route_class for _, route_class in db.classes.items()})


async def test_the_file_shrinks_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    are_served, shrink = threading.Event(), space.shrink

    def shrink_beside_others(db: Database) -> Iterator[None]:
        """Is not over before they had their turn."""
        for _ in shrink(db):
            yield
            while not are_served.is_set():
                yield

    monkeypatch.setattr(space, "_VACUUMED_PAGES", 10)
    monkeypatch.setattr(space, "shrink", shrink_beside_others)
    spool = await drained(tmp_path, 400)
    tidied = spool.tidy()
    await spool.accept([message("m")])
    await spool.accept([message("n")])  # the second one is answered when others had their turn
    assert not tidied.done()  # type: ignore[attr-defined]
    are_served.set()
    await tidied
    assert [item.message.queue_id for item in await spool.listing()] == ["m", "n"]
    await spool.close()


async def test_a_slice_gives_back_many_pages(tmp_path: Path) -> None:
    """Python's sqlite3 leaves `incremental_vacuum(N)` after the first page."""
    spool = await drained(tmp_path, 400)
    free = await run(spool, lambda db: db.connection.execute("PRAGMA freelist_count").fetchone()[0])
    slices = await run(spool, lambda db: sum(1 for _ in space.shrink(db)))
    assert free > 1000
    assert slices == -(-free // space._VACUUMED_PAGES)
    await spool.close()


async def test_bodies_are_swept_once_and_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_SWEPT_NAMES", 2)
    spool = await SqliteSpool.open(tmp_path)
    await spool.accept([message(f"m{n}", body=b"x" * 200_000) for n in range(3)])
    folder = tmp_path / "bodies"
    for n in range(3):
        (folder / f"left-m{n}").touch()
    await spool.tidy()
    assert sorted(path.name for path in folder.iterdir()) == ["incoming", "m0", "m1", "m2"]
    (folder / "later-m0").touch()
    await spool.tidy()
    assert (folder / "later-m0").exists()
    await spool.close()
