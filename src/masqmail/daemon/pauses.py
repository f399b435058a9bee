"""Next hops that are left alone for a while, each with the reason and the time it ends.

A failure of the connection, TLS or the login pauses the next hop it happened at, never a message. The waits
grow with each failure in a row and are forgotten at the first success, when a link of the route comes up, or when
somebody flushes.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

from masqmail.frozen import frozen
from masqmail.mail.outcome import Culprit
from masqmail.routing.schedule import RetrySchedule
from masqmail.system.clock import Clock


@frozen
class Pause:
    """One next hop of one route that is left alone until `ends` (seconds of BOOTTIME).

    `began` (seconds of MONOTONIC) and `began_at` are of the first failure in a row.
    """

    route: str
    next_hop: str
    culprit: Culprit
    reason: str
    failures: int
    began: float
    began_at: datetime
    ends: float


class Pauses:
    """The pauses of all routes. An expired pause stays known until a success, so that back-off goes on growing."""

    def __init__(self, clock: Clock, schedule: RetrySchedule) -> None:
        self._clock = clock
        self.schedule = schedule
        self._pauses: dict[tuple[str, str], Pause] = {}

    def pause(self, route: str, next_hop: str, culprit: Culprit, reason: str) -> Pause:
        """Leaves a next hop alone after a failure, longer each time in a row."""
        before = self._pauses.get((route, next_hop))
        if before is not None and before.ends > self._clock.boottime():
            return before  # another connection has just found out the same
        failures = before.failures + 1 if before else 1
        wait = self.schedule.wait_after(failures)
        pause = Pause(
            route=route,
            next_hop=next_hop,
            culprit=culprit,
            reason=reason,
            failures=failures,
            began=before.began if before else self._clock.monotonic(),
            began_at=before.began_at if before else self._clock.now(),
            ends=self._clock.boottime() + wait.total_seconds(),
        )
        self._pauses[route, next_hop] = pause
        return pause

    def succeeded(self, route: str, next_hop: str) -> bool:
        """The next hop works: whatever was held against it is forgotten. Returns whether something was."""
        return self._pauses.pop((route, next_hop), None) is not None

    def forget(self, routes: Collection[str] | None = None) -> None:
        """Forgets all that is held against the next hops of these routes, or of all."""
        self._pauses = {
            key: pause for key, pause in self._pauses.items() if routes is not None and key[0] not in routes
        }

    def end(self, routes: Collection[str]) -> None:
        """Ends the running pauses of these routes; since when a next hop has not worked stays known."""
        now = self._clock.boottime()
        for key, pause in self._pauses.items():
            if key[0] in routes:
                self._pauses[key] = replace(pause, ends=min(pause.ends, now), failures=0)

    def of(self, route: str, next_hop: str) -> Pause | None:
        """The pause of a next hop if it is running now."""
        pause = self._pauses.get((route, next_hop))
        return pause if pause and pause.ends > self._clock.boottime() else None

    def of_route(self, route: str, next_hops: Collection[str]) -> Pause | None:
        """The pause that ends first when *every* next hop of a smarthost route is paused, else None."""
        running = [self.of(route, next_hop) for next_hop in next_hops]
        if not running or None in running:
            return None
        return min((pause for pause in running if pause), key=lambda pause: pause.ends)

    def ends_at(self, pause: Pause) -> datetime:
        """When a pause ends, by the wall clock as it is now: somebody may have set that since the pause began."""
        return self._clock.now() + timedelta(seconds=pause.ends - self._clock.boottime())

    def next_end(self) -> float | None:
        """When the next running pause ends, in seconds of BOOTTIME."""
        now = self._clock.boottime()
        return min((pause.ends for pause in self._pauses.values() if pause.ends > now), default=None)

    def trouble_of(self, route: str, next_hops: Collection[str], age: timedelta) -> Pause | None:
        """The last failure when *no* next hop of a route has worked for that long, else None.

        Only time in which this machine ran counts. A link of the route that comes up begins it anew.
        """
        known = [self._pauses.get((route, next_hop)) for next_hop in next_hops]
        failed = [pause for pause in known if pause is not None]
        began_before = self._clock.monotonic() - age.total_seconds()
        if not failed or len(failed) < len(known) or max(pause.began for pause in failed) > began_before:
            return None
        return max(failed, key=lambda pause: pause.ends)
