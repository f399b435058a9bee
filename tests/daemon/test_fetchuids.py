"""The lists of what another program has fetched."""

import os
from pathlib import Path

import pytest

from masqmail.daemon.fetchuids import SLICE, ImportedUids
from masqmail.spool.api import FetchFate, FetchMark, Uid
from masqmail.spool.memory import MemorySpool
from masqmail.system.clock import FakeClock

pytestmark = pytest.mark.anyio


class House:
    """A configuration with lists beside it, and a spool."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.spool = MemorySpool(self.clock.now)
        self.list = folder / "uids" / "isp"
        self.list.parent.mkdir()
        self.uids = ImportedUids(folder / "masqmail.toml", self.spool, self.clock)

    async def read(self) -> dict[str, FetchFate]:
        await self.uids.read("isp")
        return {uid.uid: mark.fate for uid, mark in (await self.spool.fetch_marks("isp")).items()}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_what_is_listed_counts_as_taken(house: House) -> None:
    house.list.write_bytes(b"a1\nb2\r\n\nno uid\n\xff\nb2\nc3")
    assert await house.read() == dict.fromkeys(("a1", "b2", "c3"), FetchFate.TAKEN)


async def test_a_list_is_read_once(house: House) -> None:
    house.list.write_bytes(b"a1\n")
    await house.read()
    await house.spool.forget_fetched("isp", [Uid("", "a1")])
    assert await house.read() == {}
    house.list.write_bytes(b"a1\nb2\n")
    assert list(await house.read()) == ["a1", "b2"]


async def test_what_is_known_already_is_not_changed(house: House) -> None:
    mark = FetchMark("isp", Uid("", "a1"), FetchFate.LEFT, house.clock.now(), 5)
    await house.spool.mark_fetched([mark])
    house.list.write_bytes(b"a1\n")
    assert await house.read() == {"a1": FetchFate.LEFT}


async def test_a_long_list_is_read_to_its_end(house: House) -> None:
    house.list.write_text("".join(f"{number}\n" for number in range(2 * SLICE + 1)))
    assert len(await house.read()) == 2 * SLICE + 1


async def test_without_a_list_nothing_is_marked(house: House) -> None:
    assert await house.read() == {}
    await ImportedUids(None, house.spool, house.clock).read("isp")
    assert await house.read() == {}


async def test_a_list_that_cannot_be_read_stops_nothing(house: House) -> None:
    house.list.mkdir()
    assert await house.read() == {}
    house.list.rmdir()
    os.mkfifo(house.list)
    assert await house.read() == {}
