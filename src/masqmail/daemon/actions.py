"""What a person does to messages in the queue: hold, release, retry, remove, bounce."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from masqmail.daemon.desk import Desk
from masqmail.daemon.scheduler import Scheduler
from masqmail.routing.route import QUEUE_ONLY
from masqmail.spool.api import Spool
from masqmail.spool.states import State
from masqmail.system.clock import Clock
from masqmail.system.events import MESSAGE_HELD, MESSAGE_RELEASED, MESSAGE_REMOVED, RECIPIENT_FAILED, emit

#: Messages changed at the same time: they share one sync of the disk.
WINDOW = 200

#: Changes one message, for somebody; gives how much of it changed.
Change = Callable[[str, str], Awaitable[int]]


class Actions:
    """The verbs, by name."""

    def __init__(self, scheduler: Scheduler, spool: Spool, desk: Desk, clock: Clock) -> None:
        self._scheduler = scheduler
        self._spool = spool
        self._desk = desk
        self._clock = clock
        self._changes: dict[str, Change] = {
            "hold": self._hold,
            "release": self._release,
            "retry": self._retry,
            "remove": self._remove,
            "bounce": self._bounce,
        }

    async def act(self, action: str, queue_ids: Sequence[str], who: str) -> int:
        """Does one thing to these messages and returns for how many of them it changed something."""
        change, done = self._changes[action], 0
        for start in range(0, len(queue_ids), WINDOW):
            window = queue_ids[start : start + WINDOW]
            changed = await asyncio.gather(*(change(queue_id, who) for queue_id in window))
            done += sum(map(bool, changed))
        self._scheduler.note_classes(await self._spool.classes())
        return done

    async def _hold(self, queue_id: str, who: str) -> int:
        """Keeps what waits; what is being sent now is kept if it comes back."""
        count = await self._spool.hold([queue_id], f"held by {who}")
        if count:
            emit(MESSAGE_HELD, queue_id=queue_id, by=who)
        return count

    async def _release(self, queue_id: str, who: str) -> int:
        count = await self._spool.release([queue_id])
        if count:
            emit(MESSAGE_RELEASED, queue_id=queue_id, by=who)
        return count

    async def _retry(self, queue_id: str, who: str) -> int:
        """Makes it due now, also what waited for somebody to flush."""
        found = await self._spool.find(queue_id, with_body=False)
        recipients = found.recipients if found else ()
        moves = [
            (recipient.id, recipient.route_class.unmarked())
            for recipient in recipients
            if recipient.state.is_waiting and recipient.route_class.mark == QUEUE_ONLY
        ]
        if moves:
            await self._spool.reclass(moves)
        return await self._spool.retry([queue_id])

    async def _remove(self, queue_id: str, who: str) -> int:
        count = await self._spool.remove([queue_id], self._clock.now(), f"removed by {who}")
        if count:
            emit(MESSAGE_REMOVED, queue_id=queue_id, by=who)
        return count

    async def _bounce(self, queue_id: str, who: str) -> int:
        """Gives back what waits or is held. What is being sent now goes on: nobody can say yet how that ends."""
        await self._spool.hold([queue_id], f"to be given back, says {who}", leased=False)
        found = await self._spool.find(queue_id)
        if found is None:
            return 0
        held = [recipient for recipient in found.recipients if recipient.state is State.HELD]
        if held:
            await self._desk.bounce(found, who)
        for recipient in held:
            emit(RECIPIENT_FAILED, queue_id=queue_id, recipient=recipient.target, reason=f"given back by {who}")
        return len(held)
