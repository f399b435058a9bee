import errno
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from masqmail.system.clock import Clock, FakeClock, JumpDetector, SystemClock, epoch

HOUR = timedelta(hours=1)


def test_the_wall_clock_is_aware_and_in_utc() -> None:
    for clock in (SystemClock(), FakeClock()):
        assert clock.now().tzinfo is UTC


def test_no_clock_goes_backwards() -> None:
    clock = SystemClock()
    assert clock.monotonic() <= clock.monotonic()
    assert clock.boottime() <= clock.boottime()
    assert clock.monotonic() <= clock.boottime()


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [-1, 0, 1e-9, 0.001])
@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()])
async def test_a_sleep_ends(clock: Clock, seconds: float) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(clock.sleep, seconds)
        await anyio.wait_all_tasks_blocked()
        if isinstance(clock, FakeClock):
            clock.advance(timedelta(seconds=1))


@pytest.mark.anyio
async def test_a_real_sleep_is_as_long_as_it_should_be() -> None:
    clock = SystemClock()
    start = clock.boottime()
    await clock.sleep(0.01)
    assert clock.boottime() - start >= 0.01


@pytest.mark.anyio
@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()])
async def test_a_sleep_can_be_cancelled(clock: Clock) -> None:
    with anyio.move_on_after(0.001) as scope:
        await clock.sleep(1e12)
    assert scope.cancelled_caught


@pytest.mark.anyio
async def test_sleepers_wake_when_their_time_has_come_and_not_before() -> None:
    clock = FakeClock()
    woken: list[str] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(sleep, "late", 60)
        group.start_soon(sleep, "early", 10)
        await anyio.wait_all_tasks_blocked()
        assert clock.sleepers == 2
        clock.advance(timedelta(seconds=10))
        await anyio.wait_all_tasks_blocked()
        assert (woken, clock.sleepers) == (["early"], 1)
        clock.suspend(timedelta(seconds=50))  # also while the lid is closed
    assert woken == ["early", "late"]


def test_advancing_moves_all_three_clocks() -> None:
    clock = FakeClock(datetime(2026, 5, 1, tzinfo=UTC))
    monotonic, boottime = clock.monotonic(), clock.boottime()
    clock.advance(HOUR)
    assert clock.now() == datetime(2026, 5, 1, 1, tzinfo=UTC)
    assert (clock.monotonic(), clock.boottime()) == (monotonic + 3600, boottime + 3600)


def test_monotonic_stands_still_while_suspended() -> None:
    clock = FakeClock()
    monotonic, boottime = clock.monotonic(), clock.boottime()
    clock.suspend(HOUR)
    assert (clock.monotonic(), clock.boottime()) == (monotonic, boottime + 3600)


def test_a_clock_that_was_set_is_noticed_once() -> None:
    clock = FakeClock()
    detector = JumpDetector(clock)
    clock.advance(HOUR)
    clock.suspend(HOUR)
    assert detector.check() == timedelta(0)
    clock.set_now(clock.now() - 24 * HOUR)
    assert detector.check() == -24 * HOUR
    assert detector.check() == timedelta(0)


def test_small_corrections_add_up_to_a_jump() -> None:
    clock = FakeClock()
    detector = JumpDetector(clock)
    jumps = []
    for _ in range(3):
        clock.set_now(clock.now() + timedelta(seconds=2))
        jumps.append(detector.check().total_seconds())
    assert jumps == [0, 0, pytest.approx(6)]


def test_the_epoch_of_a_real_clock_stands_still() -> None:
    clock = SystemClock()
    assert epoch(clock) == pytest.approx(epoch(clock), abs=1)


@pytest.mark.anyio
async def test_a_sleep_without_a_file_for_its_timer_takes_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_file(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("masqmail.system.libc.call", no_file)
    clock = SystemClock()
    before = clock.boottime()
    await clock.sleep(0.05)
    assert 0.05 <= clock.boottime() - before < 5
