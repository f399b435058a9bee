"""How many lanes each smarthost route gets, as its connections measure and tell. See docs/decisions/0006."""

from collections.abc import Collection
from dataclasses import replace

from masqmail.daemon.lane import Lane
from masqmail.delivery.gauge import SETUP_TRIPS
from masqmail.delivery.parallel import PROVEN_MESSAGES, Speed, connections_that_pay
from masqmail.frozen import frozen

#: What is left of the set-up of a connection that was made in reserve.
RESERVE_PART = 0.5


@frozen
class Wanted:
    """So many lanes at work, and so many with those in reserve. Unless more may wait, the others go."""

    working: int = 1
    in_all: int = 1
    may_wait: bool = True


ONE = Wanted()


class Company:
    """What is known of the speed of each route that may have more than one lane.

    Over a long line others connect in reserve as soon as the first lane has, because a few round trips later it may
    turn out that they are wanted.
    """

    def __init__(self) -> None:
        self._speeds: dict[str, Speed] = {}  # as last measured
        self._round_trips: dict[str, float] = {}  # of routes that have just been connected to for the first time
        self._limits: dict[str, int] = {}

    def forget(self) -> None:
        """Other rules are in force."""
        self._speeds.clear()
        self._round_trips.clear()
        self._limits.clear()

    def known_speed(self, route: str) -> Speed | None:
        return self._speeds.get(route)

    def hear_speed(self, route: str, speed: Speed, lanes: Collection[Lane]) -> bool:
        """A lane has measured; True when that is news. Each of the lanes at work had a share of the line."""
        if not speed.is_news(self._speeds.get(route)):
            return False
        working = sum(lane.is_working for lane in lanes)
        self._speeds[route] = replace(speed, line_seconds=speed.line_seconds / max(1, working))
        return True

    def hear_round_trip(self, route: str, seconds: float) -> bool:
        """A lane has connected; True when that is news."""
        if route in self._speeds:
            return False
        self._round_trips[route] = seconds
        return True

    def limit(self, route: str, most: int) -> None:
        """The other side seems to want no more lanes than that; it is asked again the next time."""
        self._limits[route] = most

    def wanted(self, route: str, waiting: int, most: int, lanes: Collection[Lane]) -> Wanted:
        """How many lanes pay for what waits and is in nobody's hand; `lanes` are those that there are."""
        if not lanes:
            self._limits.pop(route, None)
        most, speed = min(most, self._limits.get(route, most)), self._speeds.get(route)
        round_trip = self._round_trips.pop(route, None)
        if speed is None:
            if round_trip is None:
                return ONE
            guess = Speed(SETUP_TRIPS * round_trip, round_trip)  # as it would be without CHUNKING
            return Wanted(1, connections_that_pay(waiting, guess, most))
        if any(lane.is_waiting for lane in lanes):
            speed = replace(speed, setup_seconds=RESERVE_PART * speed.setup_seconds)
        working = connections_that_pay(waiting, speed, most)
        return Wanted(working, working, may_wait=speed.messages < PROVEN_MESSAGES)
