"""One sleep for many turns: whoever is woken by many things need not make a timer for each wait."""

import math
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from masqmail.system.clock import Clock


class Alarm:
    """Calls `ring` at the latest when its time has come, by BOOTTIME.

    It is set anew only for an earlier time: then a sleep is made, which costs a timer of the kernel. For a later
    one it stays, and rings too early, once. `ring` must not mind that.
    """

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._at = math.inf
        self._scope: anyio.CancelScope | None = None

    def set(self, tasks: TaskGroup, at: float) -> None:
        """Rings at that `boottime`, or before, as long as `tasks` run."""
        if at >= self._at:
            return
        if self._scope:
            self._scope.cancel()
        self._at, self._scope = at, anyio.CancelScope()
        tasks.start_soon(self._sleep, self._scope, at)

    async def _sleep(self, scope: anyio.CancelScope, at: float) -> None:
        with scope:
            try:
                await self._clock.sleep(at - self._clock.boottime())
            finally:
                if self._scope is scope:
                    self._at = math.inf
            self._ring()
