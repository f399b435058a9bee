import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import pytest

from masqmail.links.board import QUICK_CHANGES, LinkBoard
from masqmail.links.detector import Observation, down, unknown, up
from masqmail.routing.link import LinkState, Source, Verdict
from masqmail.system.clock import FakeClock

pytestmark = pytest.mark.anyio
UP, DOWN, UNKNOWN = LinkState.UP, LinkState.DOWN, LinkState.UNKNOWN


class Scripted:
    """A detector that finds what a test puts in, and raises what is an exception."""

    def __init__(self) -> None:
        self.found: asyncio.Queue[Observation | Exception] = asyncio.Queue()
        self.answer: Observation | Exception = down("asked")
        self.watched = 0

    async def watch(self) -> AsyncGenerator[Observation, None]:
        self.watched += 1
        while True:
            found = await self.found.get()
            if isinstance(found, StopAsyncIteration):
                return
            if isinstance(found, Exception):
                raise found
            yield found

    async def ask(self) -> Observation:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Office:
    """A board with one link, "office", and what a test needs to know of it."""

    def __init__(self, board: LinkBoard, clock: FakeClock, changes: list[Verdict]) -> None:
        self.board, self.clock, self.changes = board, clock, changes
        self.detector = Scripted()

    @property
    def verdict(self) -> Verdict:
        return self.board.verdicts()["office"]

    async def find(self, *found: Observation | Exception) -> LinkState:
        """Lets the detector find these, one after the other, and returns the state of the link then."""
        for one in found:
            self.detector.found.put_nowait(one)
            await settle()
        return self.verdict.state

    async def wait(self, seconds: float) -> LinkState:
        self.clock.advance(timedelta(seconds=seconds))
        await settle()
        return self.verdict.state

    @property
    def states(self) -> list[LinkState]:
        return [change.state for change in self.changes]


async def settle() -> None:
    for _ in range(10):
        await anyio.sleep(0)


@asynccontextmanager
async def office_board() -> AsyncIterator[Office]:
    clock, changes = FakeClock(), list[Verdict]()
    async with anyio.create_task_group() as group:
        office = Office(LinkBoard(group, clock, changes.append), clock, changes)
        office.board.watch({"office": office.detector})
        await settle()
        yield office
        group.cancel_scope.cancel()


async def test_a_link_is_unknown_until_its_detector_answers() -> None:
    async with office_board() as office:
        assert office.verdict == Verdict(
            "office", UNKNOWN, "its detector has not answered yet", office.clock.now(), Source.DETECTOR
        )
        assert office.changes == []


async def test_a_change_counts_at_once_and_is_told_once() -> None:
    async with office_board() as office:
        await office.find(up("it is there"))
        assert office.changes == [office.verdict]
        assert office.verdict.reason == "it is there"
        await office.find(down("it went"))
        assert office.states == [UP, DOWN]


async def test_another_reason_changes_the_words_and_not_the_time() -> None:
    async with office_board() as office:
        await office.find(down("no carrier"))
        since = office.verdict.since
        office.clock.advance(timedelta(seconds=60))
        await office.find(down("no address"))
        assert (office.verdict.reason, office.verdict.since) == ("no address", since)
        assert office.states == [DOWN]


async def flap(office: Office) -> None:
    """Makes as many changes as still count at once (the first answer is none); the last one is down."""
    for number in range(QUICK_CHANGES + 1):
        await office.find(up("") if number % 2 else down(""))
    assert office.states == [DOWN, UP, DOWN, UP, DOWN]


async def test_a_flapping_link_has_to_last_before_it_counts() -> None:
    async with office_board() as office:
        await flap(office)
        assert await office.find(up("again")) is DOWN
        assert await office.wait(0.9) is DOWN
        assert await office.wait(0.1) is UP


async def test_a_flapping_link_that_does_not_last_does_not_count() -> None:
    async with office_board() as office:
        await flap(office)
        assert await office.find(up("again")) is DOWN
        assert await office.wait(0.9) is DOWN
        assert await office.find(down("gone")) is DOWN
        assert await office.wait(0.5) is DOWN
        assert await office.find(up("again")) is DOWN
        assert await office.wait(0.9) is DOWN
        assert await office.wait(0.1) is UP


async def test_more_words_do_not_prolong_the_wait() -> None:
    async with office_board() as office:
        await flap(office)
        await office.find(up("first"))
        await office.wait(0.9)
        await office.find(up("second"))
        assert await office.wait(0.1) is UP
        assert office.verdict.reason == "second"


async def test_after_a_quiet_time_a_change_counts_at_once_again() -> None:
    async with office_board() as office:
        await flap(office)
        await office.wait(10)
        assert await office.find(up("")) is UP


async def test_what_was_declared_by_hand_wins_until_it_is_given_back() -> None:
    async with office_board() as office:
        office.board.set_manual("office", UP)
        assert (office.verdict.state, office.verdict.source) == (UP, Source.MANUAL)
        assert "declared up by hand" in office.verdict.reason
        assert await office.find(down("no carrier")) is UP
        assert office.board.manual_overrides() == {"office": UP}
        office.board.set_manual("office", DOWN)
        assert await office.find(up("carrier")) is DOWN
        office.board.clear_manual("office")
        assert (office.verdict.state, office.verdict.reason) == (UP, "carrier")
        assert office.verdict.source is Source.DETECTOR
        assert office.states == [UP, DOWN, UP]
        assert office.board.manual_overrides() == {}


async def test_a_declaration_of_what_is_so_anyway_still_is_a_change() -> None:
    async with office_board() as office:
        await office.find(up("carrier"))
        office.board.set_manual("office", UP)
        assert [change.source for change in office.changes] == [Source.DETECTOR, Source.MANUAL]
        office.board.set_manual("office", UP)
        assert len(office.changes) == 2


async def test_nobody_can_declare_a_link_that_does_not_exist() -> None:
    async with office_board() as office:
        with pytest.raises(KeyError):
            office.board.set_manual("home", UP)
        with pytest.raises(KeyError):
            office.board.clear_manual("home")


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (ValueError("oh"), "its detector failed: oh"),
        (OSError("no netlink"), "its detector failed: no netlink"),
        (StopAsyncIteration(), "its detector has stopped"),
    ],
)
async def test_a_detector_that_fails_makes_its_link_unknown_and_is_started_again(
    trouble: Exception, reason: str
) -> None:
    async with office_board() as office:
        await office.find(up("carrier"), trouble)
        assert (office.verdict.state, office.verdict.reason) == (UNKNOWN, reason)
        assert office.detector.watched == 1
        await office.wait(2)
        assert office.detector.watched == 2
        assert await office.find(up("carrier")) is UP


async def test_a_detector_that_goes_on_failing_is_left_alone_for_longer() -> None:
    async with office_board() as office:
        starts = []
        await office.find(ValueError("1"))
        for number in range(2, 9):
            waited = 0
            while office.detector.watched < number:
                waited += 1
                await office.wait(1)
            starts.append(waited)
            await office.find(ValueError(str(number)))
        assert starts == [2, 4, 8, 16, 32, 60, 60]


async def test_refresh_asks_anew_and_the_answer_counts_at_once() -> None:
    async with office_board() as office:
        await flap(office)
        office.detector.answer = up("fresh")
        await office.board.refresh()
        assert office.verdict.reason == "fresh"
        office.detector.answer = ValueError("oh")
        await office.board.refresh()
        assert office.verdict.reason == "its detector failed: oh"


async def test_other_detectors_take_over_and_the_verdict_stays_meanwhile() -> None:
    async with office_board() as office:
        await office.find(up("carrier"))
        before, second = office.verdict, Scripted()
        office.board.watch({"home": Scripted(), "office": second})
        await settle()
        assert list(office.board.verdicts()) == ["home", "office"]
        assert office.verdict == before
        office.detector.found.put_nowait(down("from the old detector"))
        await settle()
        assert office.verdict == before
        second.found.put_nowait(down("from the new detector"))
        await settle()
        assert office.verdict.reason == "from the new detector"


async def test_a_link_that_left_the_configuration_leaves_the_board() -> None:
    async with office_board() as office:
        await office.find(up("carrier"))
        office.board.watch({})
        await settle()
        assert office.board.verdicts() == {}


def test_observations_have_short_names() -> None:
    assert [up("a").state, down("b").state, unknown("c").state] == [UP, DOWN, UNKNOWN]
