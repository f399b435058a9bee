"""The clock that runs only while it could have worked.

Lifetime and warnings count only time in which a recipient could have been sent: one of the routes of its class
had a link up and was not paused. No recipient is touched to keep that time; each class has a counter in the spool,
and this advances those that were usable since the last look.
"""

from collections.abc import Awaitable, Iterable

from masqmail.routing.route import RouteClass
from masqmail.spool.api import Spool
from masqmail.system.clock import Clock

#: Shorter stretches are added up before the spool hears of them, unless the usable classes change.
GRAIN_SECONDS = 1.0


class UsableClock:
    """Knows since when which classes have been usable, by the monotonic clock: a suspended host counts nothing."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock
        self._usable: frozenset[RouteClass] = frozenset()
        self._since = clock.monotonic()
        self._booking: Awaitable[None] | None = None  # that nobody has waited for

    def book(self) -> None:
        """Books the time until now, before mail comes in: it was not there, and is not to grow older by it."""
        now = self._clock.monotonic()
        elapsed = now - self._since
        if elapsed >= GRAIN_SECONDS:
            self._since = now
            if self._usable:
                self._booking = self._spool.advance(elapsed, self._usable)

    async def advance(self, usable: Iterable[RouteClass]) -> None:
        """Books the time since the last call to what was usable then; from now on `usable` are."""
        if self._booking is not None:
            booking, self._booking = self._booking, None
            await booking
        now = self._clock.monotonic()
        before, after = self._usable, frozenset(usable)
        elapsed = now - self._since
        if after == before and elapsed < GRAIN_SECONDS:
            return
        self._usable, self._since = after, now
        if before and elapsed > 0:
            await self._spool.advance(elapsed, before)
