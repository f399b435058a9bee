"""Accounts that are not configured any more."""

from datetime import timedelta

import pytest

from masqmail.daemon.fetch import standing, uids
from masqmail.daemon.fetch.gone import GONE_AFTER, SLICE, GoneAccounts
from masqmail.spool.api import FetchFate, FetchMark, Uid
from masqmail.spool.memory import MemorySpool
from masqmail.system.clock import FakeClock

pytestmark = pytest.mark.anyio

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class House:
    """A spool with marks, and who looks after it; `start` is a new start of the daemon."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.spool = MemorySpool(self.clock.now)
        self.start()

    def start(self) -> None:
        self.gone = GoneAccounts(self.spool, self.clock)

    async def mark(self, account: str, count: int = 1) -> None:
        marks = [FetchMark(account, Uid("", f"m{n}"), FetchFate.TAKEN, self.clock.now()) for n in range(count)]
        await self.spool.mark_fetched(marks)

    async def marks(self, account: str) -> int:
        return len(await self.spool.fetch_marks(account))

    async def live(self, time: timedelta, *accounts: str) -> None:
        """Time passes with these accounts."""
        await self.gone.look(accounts)
        while time > timedelta(0):
            self.clock.advance(HOUR)
            await self.gone.look(accounts)
            time -= HOUR


async def test_an_account_that_is_gone_for_long_is_forgotten_and_no_other() -> None:
    house = House()
    for name in ("isp", "other"):
        await house.mark(name, SLICE + 1)
    await house.live(DAY, "isp", "other")
    await house.spool.remember(uids.MEMORY + "isp", "[1, 2]")
    await house.spool.remember(standing.MEMORY + "isp", "{}")
    await house.live(GONE_AFTER - HOUR, "other")
    assert await house.marks("isp") == SLICE + 1
    await house.live(HOUR, "other")
    assert (await house.marks("isp"), await house.marks("other")) == (0, SLICE + 1)
    assert not await house.spool.recall(uids.MEMORY + "isp"), "a list of old UIDs counts again"
    assert await standing.recall(house.spool, "isp", 0.0) == standing.Standing()


async def test_an_account_that_comes_back_in_time_goes_on_as_before() -> None:
    house = House()
    await house.mark("isp")
    await house.live(DAY, "isp")
    for _ in range(3):
        await house.live(GONE_AFTER - DAY)
        await house.live(DAY, "isp")
    assert await house.marks("isp") == 1


async def test_the_time_goes_on_while_the_daemon_does_not_run() -> None:
    house = House()
    await house.mark("isp")
    await house.live(DAY, "isp")
    house.start()
    await house.live(HOUR)
    house.clock.advance(GONE_AFTER)
    house.start()
    await house.live(timedelta(0))
    assert await house.marks("isp") == 0


async def test_an_account_that_nobody_noticed_is_left_alone() -> None:
    house = House()
    await house.mark("isp")
    await house.live(GONE_AFTER * 2)
    assert await house.marks("isp") == 1
