"""How many lanes a route gets, at work and in reserve, by what is known of it."""

from collections.abc import Sequence

import anyio
import pytest

from masqmail.daemon import lane as lane_module
from masqmail.daemon.company import ONE, Company, Wanted
from masqmail.daemon.lane import Lane, LaneKey
from masqmail.delivery.parallel import Speed
from masqmail.spool.api import Lease

pytestmark = pytest.mark.anyio

SLOW = Speed(setup_seconds=4.2, message_seconds=0.3)


async def no_leases(lane: Lane, max_messages: int, max_bytes: int) -> list[Lease]:
    return []


def lanes(*reserve: bool) -> Sequence[Lane]:
    return [Lane(LaneKey("isp", number=number), no_leases, is_reserve=item) for number, item in enumerate(reserve)]


def wanted(company: Company, *reserve: bool, waiting: int = 50) -> Wanted:
    return company.wanted("isp", waiting, 4, lanes(*reserve))


async def test_while_nothing_is_known_there_is_one() -> None:
    assert wanted(Company(), False) == ONE


async def test_over_a_long_line_others_are_made_in_reserve_once() -> None:
    company = Company()
    assert company.hear_round_trip("isp", 0.6)
    assert wanted(company, False) == Wanted(1, 4)
    assert wanted(company, False, True, True, True) == ONE


async def test_none_are_made_in_reserve_for_a_few_messages_nor_on_a_short_line() -> None:
    company = Company()
    company.hear_round_trip("isp", 0.6)
    assert wanted(company, False, waiting=4) == Wanted(1, 1)
    company.hear_round_trip("isp", 0.0005)
    assert wanted(company, False) == Wanted(1, 1)


async def test_none_are_made_in_reserve_for_a_route_whose_speed_is_known() -> None:
    company = Company()
    company.hear_speed("isp", SLOW, lanes(False))
    assert not company.hear_round_trip("isp", 0.6)
    company.forget()
    assert company.hear_round_trip("isp", 0.6)


async def test_those_in_reserve_wait_until_the_speed_is_proven() -> None:
    company = Company()
    assert company.hear_speed("isp", Speed(4.2, 0.0), lanes(False))
    assert wanted(company, False, True).may_wait
    assert company.hear_speed("isp", Speed(4.2, 0.0, 0.1, messages=3), lanes(False, True))
    assert wanted(company, False, True) == Wanted(1, 1, may_wait=False)


async def test_those_in_reserve_have_cost_half_of_their_set_up_already() -> None:
    company = Company()
    company.hear_speed("isp", Speed(4.2, 0.1), lanes(False))
    assert wanted(company, False).working == 1
    assert wanted(company, False, True).working > 1


async def test_a_lane_at_work_had_a_share_of_the_line_and_one_in_reserve_none() -> None:
    company = Company()
    company.hear_speed("isp", Speed(1, 0.5, 0.4, messages=9), lanes(False, False, True, True))
    assert company.known_speed("isp") == Speed(1, 0.5, 0.2, messages=9)


async def test_a_limit_holds_until_the_first_lane_starts_anew() -> None:
    company = Company()
    company.hear_speed("isp", SLOW, lanes(False))
    company.limit("isp", 2)
    assert wanted(company, False, False).working == 2
    assert wanted(company).working == 4


async def test_a_lane_in_reserve_goes_when_nobody_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "RESERVE_SECONDS", 0.0)
    (lane,) = lanes(True)
    assert not await lane.wait_for_call()
    assert lane.is_dismissed


async def test_a_lane_in_reserve_goes_on_when_it_is_called_and_stays() -> None:
    (lane,) = lanes(True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lane.wait_for_call)
        await anyio.lowlevel.checkpoint()
        lane.call(SLOW)
    lane.dismiss()
    assert lane.is_working
    assert await lane.wait_for_call()
    assert lane.known_speed == SLOW
