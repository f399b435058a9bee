"""The lists of what another program has fetched."""

import errno
import os
from pathlib import Path

import pytest

from masqmail.daemon.fetch.uids import MAX_LIST_BYTES, SLICE, ImportedUids
from masqmail.mail.outcome import Culprit
from masqmail.retrieval.account import FetchFailure
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


async def failure(house: House) -> str:
    with pytest.raises(FetchFailure) as caught:
        await house.read()
    assert caught.value.culprit is Culprit.LOCAL
    return str(caught.value)


async def test_a_list_that_cannot_be_read_is_a_failure_since_all_would_come_again(house: House) -> None:
    house.list.mkdir()
    here = f"the list of what was fetched before, {house.list}, cannot be read"
    assert await failure(house) == f"{here}: Is a directory"
    house.list.rmdir()
    with house.list.open("wb") as file:
        file.truncate(MAX_LIST_BYTES + 1)
    assert await failure(house) == f"{here}: File too large"
    house.list.write_bytes(b"a1\n")
    assert await house.read() == {"a1": FetchFate.TAKEN}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
async def test_a_list_of_which_nobody_knows_whether_it_is_there_is_a_failure(
    house: House, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refuse)
        assert (await failure(house)).endswith(os.strerror(number))


async def test_a_pipe_in_place_of_a_list_stops_nothing(house: House) -> None:
    os.mkfifo(house.list)
    assert await house.read() == {}
