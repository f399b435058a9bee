"""One running worker's view of what it may work on; asked anew at each lease."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio

from masqmail.delivery.parallel import Speed
from masqmail.frozen import frozen
from masqmail.spool.api import Lease

#: How long a connection in reserve waits for its call; less than any server waits for us.
RESERVE_SECONDS = 30.0


@frozen(order=True)
class LaneKey:
    """A next hop: a route, and the domain where it delivers directly. `number` tells several lanes to it apart."""

    route: str
    domain: str = ""
    number: int = 0

    def __str__(self) -> str:
        return "/".join([self.route, *filter(None, [self.domain]), *([str(self.number)] if self.number else [])])


GiveLeases = Callable[["Lane", int, int], Awaitable[list[Lease]]]


class LaneEar(Protocol):
    """Who hears what a lane has found out about its next hop."""

    def hear_speed(self, lane: "Lane", speed: Speed) -> None: ...

    def hear_round_trip(self, lane: "Lane", seconds: float) -> None: ...

    def hear_failure(self, lane: "Lane", *, may_go_on: bool) -> bool: ...


class Lane:
    """What the scheduler gives to whoever does the work of one next hop.

    One in reserve connects and then waits to be called or dismissed. It leases nothing before.
    """

    def __init__(
        self,
        key: LaneKey,
        give_leases: GiveLeases,
        *,
        is_shared: bool = False,
        known_speed: Speed | None = None,
        is_reserve: bool = False,
        ear: LaneEar | None = None,
    ) -> None:
        self.key = key
        self.known_speed = known_speed
        self.is_shared = is_shared  # whether other lanes may work for the same next hop
        self.is_reserve = is_reserve  # or was
        self.is_waiting = is_reserve  # neither called nor dismissed
        self.is_dismissed = False
        self.did_something = False
        self.in_hand = 0  # messages that it has leased and not settled
        self.answers = 0  # messages that were answered
        self.next_hop = ""  # of several, the one it is at
        self.is_connected = False  # to that
        self._begun = 0  # what the other side may have taken, and has not answered for
        self.is_closed = False  # nothing more may be begun
        self.scope = anyio.CancelScope()  # around its work
        self._give_leases = give_leases
        self._ear = ear
        self._decided = anyio.Event()
        self._certain = anyio.Event()
        self._more = anyio.Event()
        self._watcher: Callable[[], None] | None = None
        self._give_up: Callable[[], None] | None = None

    @property
    def route_name(self) -> str:
        return self.key.route

    @property
    def domain(self) -> str | None:
        return self.key.domain or None

    async def lease(self, *, max_messages: int, max_bytes: int) -> list[Lease]:
        """The next of this lane's work, oldest first.

        Not to be cancelled half-way: a lease that the spool gave and nobody received would never end.
        """
        self._more = anyio.Event()
        if self.is_closed:
            return []
        with anyio.CancelScope(shield=True):
            leases = await self._give_leases(self, max_messages, max_bytes)
        self.did_something |= bool(leases)
        return leases

    def note_speed(self, speed: Speed) -> None:
        """What its connection has measured."""
        if self._ear is not None:
            self._ear.hear_speed(self, speed)

    def note_round_trip(self, seconds: float) -> None:
        """It has connected to its next hop."""
        if self._ear is not None and not self.is_reserve:
            self._ear.hear_round_trip(self, seconds)

    def note_failure(self, *, may_go_on: bool = False) -> bool:
        """It achieved nothing; whether others are at work for the same next hop, so that it is not to blame.

        With `may_go_on` it could not even connect, and there is another next hop: then only those count who could.
        """
        return self._ear is not None and self._ear.hear_failure(self, may_go_on=may_go_on)

    @property
    def is_working(self) -> bool:
        """Whether it sends, or will as soon as it can."""
        return not self.is_waiting and not self.is_dismissed

    def call(self, known_speed: Speed | None) -> None:
        """It is wanted: it goes on."""
        self.is_waiting, self.known_speed = False, known_speed
        self._decided.set()

    def dismiss(self) -> None:
        """It is not wanted: it ends."""
        if self.is_waiting:
            self.is_waiting, self.is_dismissed = False, True
            self._decided.set()

    async def wait_for_call(self) -> bool:
        """Whether it is wanted, now that it is connected; waits until that is decided, but not for ever."""
        self.is_connected = True
        if self.is_waiting:
            with anyio.move_on_after(RESERVE_SECONDS):
                await self._decided.wait()
            self.dismiss()
        return not self.is_dismissed

    def note_answer(self) -> None:
        """The other side is alive."""
        self.answers += 1

    @property
    def is_in_doubt(self) -> bool:
        """Whether the other side may have taken something that it has not answered for."""
        return self._begun > 0

    def note_begun(self, count: int = 1) -> None:
        """From now on the other side may have taken so many more."""
        self._begun += count

    def note_ended(self, count: int = 1) -> None:
        """So many that were begun have their outcome, or will never have one."""
        self._begun -= count
        if not self.is_in_doubt:
            self._certain.set()

    def close(self) -> None:
        """Has it begin nothing more. What it holds and has not begun it gives back."""
        self.is_closed = True
        self.nudge()

    async def finish(self) -> None:
        """Closes it; returns when the other side has answered for all that it may have taken."""
        self.close()
        while self.is_in_doubt:
            self._certain = anyio.Event()
            await self._certain.wait()

    def stop(self) -> None:
        """Breaks off its work; what it had is given back, or in doubt where nobody can know."""
        self.scope.cancel()

    def nudge(self) -> None:
        """There may be more work."""
        self._more.set()
        if self._watcher is not None:
            self._watcher()

    def watch(self, watcher: Callable[[], None] | None) -> None:
        """Has a function called at every nudge."""
        self._watcher = watcher

    def hold(self, give_up: Callable[[], None]) -> None:
        """Has a function called when another lane could do what this one has not begun."""
        self._give_up = give_up

    def share(self) -> None:
        """Another lane to the same next hop has nothing to do."""
        if self._give_up is not None:
            self._give_up()

    @property
    def was_nudged(self) -> bool:
        """Whether more work may have come since the last lease."""
        return self._more.is_set()

    async def wait_for_work(self, timeout_seconds: float) -> bool:
        """Waits until there may be more work; False when none came in time."""
        with anyio.move_on_after(timeout_seconds):
            await self._more.wait()
            return True
        return False
