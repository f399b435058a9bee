"""What time it is, in the three ways we need, and a sleep; real and for tests.

The wall clock (REALTIME) is for people and messages and may be set at any moment. MONOTONIC measures how long
something took while the machine ran: usable time, time-outs. BOOTTIME also counts suspended time: a retry in
an hour is due after an hour, also when the lid was closed.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

from masqmail.system import timer

#: A wall clock that moves less than this against BOOTTIME is being kept right, not set anew.
JUMP_TOLERANCE = timedelta(seconds=5)


class Clock(Protocol):
    """The time, and waiting for it."""

    def now(self) -> datetime:
        """The wall clock, aware and in UTC."""

    def monotonic(self) -> float:
        """Seconds that stand still while the machine is suspended."""

    def boottime(self) -> float:
        """Seconds that go on while the machine is suspended."""

    async def sleep(self, seconds: float) -> None:
        """Sleeps for that many seconds of `boottime`."""


class SystemClock:
    """The clocks of this machine."""

    # asked several times for each message: without a call of ours around that of the library
    now = staticmethod(partial(datetime.now, UTC))
    monotonic = staticmethod(partial(time.clock_gettime, time.CLOCK_MONOTONIC))
    boottime = staticmethod(partial(time.clock_gettime, time.CLOCK_BOOTTIME))

    async def sleep(self, seconds: float) -> None:
        await timer.sleep(seconds)


class FakeClock:
    """A clock that moves only when it is told to, for tests and for daemons under test.

    Sleepers whose time has come wake when the event loop next runs.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 1000.0
        self._boottime = 1000.0
        self._sleepers: dict[asyncio.Future[None], float] = {}

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def boottime(self) -> float:
        return self._boottime

    @property
    def sleepers(self) -> int:
        """How many tasks sleep now: lets a test wait until everybody does."""
        return len(self._sleepers)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        self._sleepers[woken] = self._boottime + seconds
        try:
            await woken
        finally:
            self._sleepers.pop(woken, None)

    def advance(self, step: timedelta) -> None:
        """Lets time pass while the machine runs."""
        self._monotonic += step.total_seconds()
        self.suspend(step)

    def suspend(self, step: timedelta) -> None:
        """Lets time pass while the machine is suspended: MONOTONIC stands still."""
        self._now += step
        self._boottime += step.total_seconds()
        for woken, due in list(self._sleepers.items()):
            if due <= self._boottime and not woken.done():
                woken.set_result(None)

    def set_now(self, now: datetime) -> None:
        """Sets the wall clock, as a person or NTP does; no time passes."""
        self._now = now


def epoch(clock: Clock) -> float:
    """Where the wall clock stands against BOOTTIME, in seconds: the same until somebody sets the clock."""
    return clock.now().timestamp() - clock.boottime()


class JumpDetector:
    """Notices when the wall clock was set."""

    def __init__(self, clock: Clock, tolerance: timedelta = JUMP_TOLERANCE) -> None:
        self._clock = clock
        self._tolerance = tolerance
        self._epoch = epoch(clock)

    def check(self) -> timedelta:
        """How far the wall clock was moved since the last check that said so; zero within the tolerance."""
        jump = timedelta(seconds=epoch(self._clock) - self._epoch)
        if abs(jump) < self._tolerance:
            return timedelta(0)
        self._epoch += jump.total_seconds()
        return jump
