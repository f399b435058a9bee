"""One running worker's view of what it may work on; asked anew at each lease."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from masqmail.delivery.parallel import Speed
from masqmail.spool.api import Lease


@dataclass(frozen=True, slots=True, order=True)
class LaneKey:
    """A next hop: a route, and the domain where it delivers directly. `number` tells several lanes to it apart."""

    route: str
    domain: str = ""
    number: int = 0

    def __str__(self) -> str:
        return "/".join([self.route, *filter(None, [self.domain]), *([str(self.number)] if self.number else [])])


GiveLeases = Callable[["Lane", int, int], Awaitable[list[Lease]]]
HearSpeed = Callable[["Lane", Speed], None]


class Lane:
    """What the scheduler gives to whoever does the work of one next hop."""

    def __init__(
        self,
        key: LaneKey,
        give_leases: GiveLeases,
        *,
        is_shared: bool = False,
        known_speed: Speed | None = None,
        hear_speed: HearSpeed | None = None,
    ) -> None:
        self.key = key
        self.known_speed = known_speed
        self.is_shared = is_shared  # whether other lanes may work for the same next hop
        self.did_something = False
        self.in_hand = 0  # messages that it has leased and not settled
        self.answers = 0  # messages that were answered
        self.is_in_doubt = False  # whether the other side may have taken a message that has no answer yet
        self.scope = anyio.CancelScope()  # around its work
        self._give_leases = give_leases
        self._hear_speed = hear_speed
        self._more = anyio.Event()
        self._watcher: Callable[[], None] | None = None

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
        with anyio.CancelScope(shield=True):
            leases = await self._give_leases(self, max_messages, max_bytes)
        self.did_something |= bool(leases)
        return leases

    def note_speed(self, speed: Speed) -> None:
        """What its connection has measured."""
        if self._hear_speed is not None:
            self._hear_speed(self, speed)

    def note_answer(self) -> None:
        """The other side is alive."""
        self.answers += 1

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
