"""The alarm that wakes the scheduler."""

from datetime import timedelta

import anyio
from anyio.lowlevel import checkpoint

from masqmail.daemon.alarm import Alarm
from masqmail.system.clock import FakeClock


class Bell:
    """An alarm, and when it rang, in seconds since the start."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.start = self.clock.boottime()
        self.rang: list[float] = []
        self.alarm = Alarm(self.clock, lambda: self.rang.append(self.clock.boottime() - self.start))

    async def pass_seconds(self, number: int) -> None:
        for _ in range(number):
            await settle()
            self.clock.advance(timedelta(seconds=1))
        await settle()


async def settle() -> None:
    for _ in range(5):
        await checkpoint()


async def test_it_rings_once_when_its_time_has_come() -> None:
    bell = Bell()
    async with anyio.create_task_group() as tasks:
        bell.alarm.set(tasks, bell.start + 3)
        await bell.pass_seconds(10)
    assert bell.rang == [3]


async def test_an_earlier_time_replaces_a_later_one_and_a_later_one_does_not() -> None:
    bell = Bell()
    async with anyio.create_task_group() as tasks:
        for at in (8, 3, 5):
            bell.alarm.set(tasks, bell.start + at)
            await settle()
            assert bell.clock.sleepers == 1
        await bell.pass_seconds(10)
    assert bell.rang == [3]


async def test_a_time_that_is_over_rings_at_once() -> None:
    bell = Bell()
    async with anyio.create_task_group() as tasks:
        bell.alarm.set(tasks, bell.start - 5)
        await settle()
        bell.alarm.set(tasks, bell.start + 2)
        await bell.pass_seconds(3)
    assert bell.rang == [0, 2]


async def test_it_can_be_set_again_when_what_it_ran_in_is_over() -> None:
    bell = Bell()
    async with anyio.create_task_group() as tasks:
        bell.alarm.set(tasks, bell.start + 3)
        await settle()
        tasks.cancel_scope.cancel()
    assert bell.clock.sleepers == 0
    async with anyio.create_task_group() as tasks:
        bell.alarm.set(tasks, bell.start + 4)
        await bell.pass_seconds(5)
    assert bell.rang == [4]
