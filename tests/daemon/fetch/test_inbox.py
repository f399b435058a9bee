"""The program's side of one fetch."""

from datetime import timedelta

import pytest

from masqmail.daemon.fetch.inbox import FetchInbox
from masqmail.mail.status import STORAGE_FULL, Status
from masqmail.retrieval.account import Found, Parcel
from masqmail.spool.api import FetchFate, FetchMark, SpoolFull, Uid
from masqmail.spool.intake import Refused
from masqmail.spool.memory import MemorySpool
from masqmail.system.clock import FakeClock

pytestmark = pytest.mark.anyio

ONE, TWO = Found(Uid("", "1"), 100), Found(Uid("", "2"), 200)
LOOP = Status(554, "5.4.6", "Too many hops")


class Told:
    """Keeps what people are told, and stores the marks as a notice would."""

    def __init__(self, spool: MemorySpool) -> None:
        self.spool = spool
        self.left: list[tuple[FetchMark, bytes]] = []
        self.refused: list[tuple[FetchMark, str]] = []

    async def tell_of_left(self, mark: FetchMark, header: bytes) -> None:
        self.left.append((mark, header))
        await self.spool.mark_fetched([mark])

    async def tell_of_refused(self, mark: FetchMark, reason: str) -> None:
        self.refused.append((mark, reason))
        await self.spool.mark_fetched([mark])


class FakeParcel:
    """Fails at its end when it is told to."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.content = b""
        self.is_discarded = False

    def write(self, data: bytes) -> None:
        self.content += data

    async def finish(self) -> str:
        if self.failure:
            raise self.failure
        return "id"

    def discard(self) -> None:
        self.is_discarded = True


class Desk:
    """An inbox with all it works on; each `inbox` is another fetch."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.spool = MemorySpool(self.clock.now)
        self.told = Told(self.spool)
        self.parcels: list[FakeParcel] = []
        self.failure: Exception | None = None

    def inbox(self) -> FetchInbox:
        return FetchInbox("isp", self.spool, self.clock, self.told, self._open)

    def _open(self, found: Found) -> Parcel:
        self.parcels.append(FakeParcel(self.failure))
        return self.parcels[-1]

    async def fates(self) -> dict[str, FetchFate]:
        return {uid.uid: mark.fate for uid, mark in (await self.spool.fetch_marks("isp")).items()}


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_whatever_comes_is_a_sign_of_life_and_counted(desk: Desk) -> None:
    inbox = desk.inbox()
    parcel = inbox.open(ONE)
    for piece in (b"abc", b"de"):
        parcel.write(piece)
    assert (inbox.received_bytes, inbox.signs) == (5, 2)
    assert await parcel.finish() == "id"
    inbox.progress()
    assert inbox.signs == 4
    assert desk.parcels[0].content == b"abcde"


async def test_people_are_told_once_also_in_later_fetches(desk: Desk) -> None:
    for _ in range(2):
        inbox = desk.inbox()
        await inbox.marks()
        for _ in range(2):
            await inbox.leave(ONE, b"Subject: x\r\n")
            await inbox.refuse(TWO, "it loops")
        desk.clock.advance(timedelta(hours=1))
    start = FakeClock().now()
    assert desk.told.left == [(FetchMark("isp", ONE.uid, FetchFate.LEFT, start, 100), b"Subject: x\r\n")]
    assert desk.told.refused == [(FetchMark("isp", TWO.uid, FetchFate.REFUSED, start, 200), "it loops")]
    assert await desk.fates() == {"1": FetchFate.LEFT, "2": FetchFate.REFUSED}


async def test_another_fate_is_news(desk: Desk) -> None:
    inbox = desk.inbox()
    await inbox.leave(ONE, b"")
    await inbox.refuse(ONE, "it loops")
    assert len(desk.told.refused) == 1


async def test_what_the_server_has_no_more_is_forgotten(desk: Desk) -> None:
    inbox = desk.inbox()
    await inbox.leave(ONE, b"")
    await inbox.leave(TWO, b"")
    await inbox.forget([ONE.uid])
    await inbox.forget([])
    assert list(await desk.fates()) == ["2"]


async def test_a_refusal_for_good_is_the_retrievers_business(desk: Desk) -> None:
    desk.failure = Refused(LOOP)
    with pytest.raises(Refused):
        await desk.inbox().open(ONE).finish()


async def test_a_refusal_for_now_ends_the_fetch(desk: Desk) -> None:
    desk.failure = Refused(STORAGE_FULL)
    with pytest.raises(SpoolFull, match=STORAGE_FULL.text):
        await desk.inbox().open(ONE).finish()


async def test_what_is_still_on_its_way_in_the_end_is_given_up(desk: Desk) -> None:
    inbox = desk.inbox()
    done, discarded, _ = (inbox.open(ONE) for _ in range(3))
    await done.finish()
    discarded.discard()
    desk.parcels[1].is_discarded = False
    inbox.close()
    assert [parcel.is_discarded for parcel in desk.parcels] == [False, False, True]


def test_time_is_that_of_the_program(desk: Desk) -> None:
    assert desk.inbox().now() == desk.clock.now()
