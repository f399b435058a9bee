"""Stops lanes that a lost link has left hanging.

A connection over a link that goes down may be dead without a word, and the time-outs of SMTP are minutes
(RFC 5321 §4.5.3.2). A lane that still gets answers finishes what it has. One that gets none is stopped: soon after
a link is up again, so that new connections can be made, or when it was silent for a while. More patience has one
whose messages may have been taken already: to stop it may make duplicates (RFC 1047). What else there is to send
does not wait for it: it goes over a lane of its own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from masqmail.daemon.lane import Lane
from masqmail.system.clock import Clock

#: How long a lane without a link may be silent.
SILENCE_SECONDS = 10.0
SILENCE_IN_DOUBT_SECONDS = 60.0

#: How long after its link is up again. A link that was gone for a moment only may have harmed nothing.
SETTLE_SECONDS = 0.5


@dataclass(slots=True)
class _Watch:
    """A lane that lost its link: the answers it had then, and when it is stopped unless it gets another one.

    From `settled` on its link has been up again, and it has still not got any.
    """

    answers: int
    ends: float
    settled: float | None = None


class Stranded:
    """Knows the running lanes that lost their link; times are seconds of BOOTTIME."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watched: dict[Lane, _Watch] = {}

    def look(self, lanes: Iterable[Lane], has_link: Callable[[Lane], bool]) -> None:
        """To be called when a link has changed, and at `next_look`."""
        now = self._clock.boottime()
        before, self._watched = self._watched, {}
        for lane in lanes:
            watch = before.get(lane)
            if watch is not None and watch.answers != lane.answers:
                watch = None  # it is alive
            if has_link(lane):
                if watch is None:
                    continue
                if watch.settled is None:
                    watch.settled = now + SETTLE_SECONDS
                if not lane.is_in_doubt:
                    watch.ends = min(watch.ends, watch.settled)
            elif watch is not None:
                watch.settled = None
            if watch is None:
                patience = SILENCE_IN_DOUBT_SECONDS if lane.is_in_doubt else SILENCE_SECONDS
                watch = _Watch(lane.answers, now + patience)
            if watch.ends <= now:
                lane.stop()
            else:
                self._watched[lane] = watch

    def is_hanging(self, lane: Lane) -> bool:
        """Whether work must not wait for a lane: its link is up again, and nobody answers it."""
        watch = self._watched.get(lane)
        return watch is not None and watch.settled is not None and watch.settled <= self._clock.boottime()

    def next_look(self) -> float | None:
        """When something about one of them may have to be done."""
        now = self._clock.boottime()
        settled = (watch.settled for watch in self._watched.values() if watch.settled is not None)
        ends = (watch.ends for watch in self._watched.values())
        return min((time for time in (*settled, *ends) if time > now), default=None)
