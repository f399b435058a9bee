"""Notices that the connection of a fetch is probably dead, long before a time-out would.

A connection does not survive a suspend of more than a moment, nor most changes of a link, and nobody tells: the other
side has forgotten it, or the router between has. So after one of these it must show a sign of life, or is given up.
"""

from masqmail.system.clock import Clock

#: How long a connection may be silent when its link is down, and when the machine has woken or the link is up again.
SILENCE_SECONDS = 10.0
SETTLE_SECONDS = 3.0

#: A suspend that is shorter does no harm.
SHORT_SUSPEND_SECONDS = 5.0

#: How often to look for a suspend. The timer goes on while the machine sleeps, so a longer one is seen at once.
PULSE_SECONDS = 60.0


class Vigil:
    """Watches one connection. `signs` count whatever it did; times are seconds of BOOTTIME."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asleep = self._time_asleep()
        self._signs = 0
        self._has_link = True
        self._ends: float | None = None

    def look(self, signs: int, *, has_link: bool) -> bool:
        """True when the connection is to be given up. To be called when a link changed, and after `next_look`."""
        now = self._clock.boottime()
        if signs != self._signs:
            self._signs, self._ends = signs, None  # it is alive
        if (asleep := self._time_asleep()) - self._asleep > SHORT_SUSPEND_SECONDS:
            self._asleep = asleep
            self._ends = now + SETTLE_SECONDS
        if not has_link and self._ends is None:
            self._ends = now + SILENCE_SECONDS
        elif has_link and not self._has_link:
            self._ends = min(now + SETTLE_SECONDS, self._ends or now + SETTLE_SECONDS)
        self._has_link = has_link
        return self._ends is not None and self._ends <= now

    def next_look(self) -> float:
        """In how many seconds to look again."""
        if self._ends is None:
            return PULSE_SECONDS
        return max(0.0, min(PULSE_SECONDS, self._ends - self._clock.boottime()))

    def _time_asleep(self) -> float:
        """How long this machine was suspended since it started."""
        return self._clock.boottime() - self._clock.monotonic()
