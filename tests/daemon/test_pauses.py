"""Next hops that are left alone for a while."""

from datetime import timedelta

from masqmail.daemon.pauses import Pauses
from masqmail.mail.outcome import Culprit
from masqmail.routing.schedule import RetrySchedule
from masqmail.system.clock import FakeClock
from support.assembly import HOUR, MINUTE, RETRY

HOPS = ("one:587", "two:587")


def pauses() -> tuple[Pauses, FakeClock]:
    clock = FakeClock()
    return Pauses(clock, RetrySchedule(RETRY)), clock


def fail(found: Pauses, hop: str = HOPS[0], route: str = "isp") -> None:
    found.pause(route, hop, Culprit.CONNECTION, "connection refused")


def test_waits_grow_with_each_failure_in_a_row_and_begin_anew_after_a_success() -> None:
    found, clock = pauses()
    waits = []
    for failure in range(7):
        if failure == 6:
            assert found.succeeded("isp", HOPS[0])
        pause = found.pause("isp", HOPS[0], Culprit.CONNECTION, "connection refused")
        waits.append(found.ends_at(pause) - clock.now())
        clock.advance(waits[-1])
        assert found.of("isp", HOPS[0]) is None
    assert waits == [*RETRY, RETRY[-1], RETRY[0]]
    assert not found.succeeded("isp", HOPS[1])


def test_a_pause_ends_by_the_clock_that_goes_on_while_the_machine_sleeps() -> None:
    found, clock = pauses()
    fail(found)
    clock.set_now(clock.now() - HOUR)
    pause = found.of("isp", HOPS[0])
    assert pause is not None and found.ends_at(pause) == clock.now() + RETRY[0]  # not an hour more
    clock.suspend(MINUTE)
    assert found.of("isp", HOPS[0]) is None


def test_a_route_is_paused_when_every_next_hop_is_until_the_first_of_them_ends() -> None:
    found, clock = pauses()
    fail(found)
    assert found.of_route("isp", HOPS) is None
    clock.advance(timedelta(seconds=10))
    fail(found, HOPS[1])
    pause = found.of_route("isp", HOPS)
    assert pause is not None and pause.next_hop == HOPS[0]
    assert found.next_end() == pause.ends
    clock.advance(timedelta(seconds=50))
    assert found.of_route("isp", HOPS) is None
    assert found.of_route("isp", ()) is None


def test_pauses_are_forgotten_by_route() -> None:
    found, _ = pauses()
    fail(found)
    fail(found, route="other")
    found.forget(["isp"])
    assert found.of("isp", HOPS[0]) is None
    assert found.of("other", HOPS[0])
    found.forget()
    assert found.next_end() is None


def test_a_route_is_in_trouble_when_no_next_hop_has_worked_for_long() -> None:
    found, clock = pauses()
    fail(found)
    clock.advance(2 * HOUR)
    fail(found, HOPS[1])
    clock.advance(2 * HOUR)
    assert found.trouble_of("isp", HOPS, 3 * HOUR) is None
    assert found.trouble_of("isp", HOPS[:1], 3 * HOUR)
    clock.advance(HOUR)
    assert found.trouble_of("isp", HOPS, 3 * HOUR)
    found.succeeded("isp", HOPS[1])
    assert found.trouble_of("isp", HOPS, 3 * HOUR) is None
    assert found.trouble_of("isp", (), 3 * HOUR) is None


def test_a_flush_ends_a_pause_but_not_the_memory_of_how_long_it_has_not_worked() -> None:
    found, clock = pauses()
    fail(found)
    clock.advance(timedelta(seconds=10))
    found.end(["isp"])
    assert found.of("isp", HOPS[0]) is None
    clock.advance(HOUR)
    fail(found)
    assert found.trouble_of("isp", HOPS[:1], HOUR) is not None
    pause = found.of("isp", HOPS[0])
    assert pause is not None and found.ends_at(pause) - clock.now() == RETRY[0]


def test_a_flush_of_other_routes_ends_no_pause() -> None:
    found, _ = pauses()
    fail(found)
    found.end(["other"])
    assert found.of("isp", HOPS[0]) is not None
