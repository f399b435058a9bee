"""Waiting for whatever comes first."""

from collections.abc import Awaitable, Callable

import anyio

from masqmail.system.clock import Clock

#: Something to wait for.
Wait = Callable[[], Awaitable[object]]


async def first_of(*waits: Wait) -> None:
    """Returns when one of them does, and gives up the others. Raises what one of them raises, in a group."""
    async with anyio.create_task_group() as group:

        async def end_with(wait: Wait) -> None:
            await wait()
            group.cancel_scope.cancel()

        for wait in waits:
            group.start_soon(end_with, wait)


async def within(clock: Clock, seconds: float, wait: Wait) -> None:
    """Returns when it does, or after so many seconds of BOOTTIME."""
    await first_of(wait, lambda: clock.sleep(seconds))
