"""The work of a lane of a pipe route: one run of its program for each recipient, rewritten as the route says.

Programs may take minutes. So many run at a time as the route has `max_connections`, and no more than `PLACES` of all
routes; a link that goes down stops none of them, for whether that matters only the program knows, and it has a
time-out. They run where the programs of aliases do, and as the same account.
"""

from logging import ERROR

import anyio

from masqmail.daemon.desk import Desk
from masqmail.daemon.feed import our_fault, prepare
from masqmail.daemon.lane import Lane
from masqmail.daemon.locallane import INTERRUPTED, only_outcome
from masqmail.delivery.job import LocalAgent, LocalJob, Transaction
from masqmail.delivery.variables import Variables, variables_of
from masqmail.mail.outcome import Outcome
from masqmail.mail.trace import read_client
from masqmail.routing.route import Route
from masqmail.spool.api import Lease, Spool, StoredMessage, TargetKind
from masqmail.system.events import INTERNAL_ERROR, emit

WINDOW_BYTES = 8 << 20

#: Programs of routes at the same time; more wait, so that mailboxes never do.
PLACES = 8


class PipeLane:
    """Runs the programs of pipe routes."""

    def __init__(self, spool: Spool, desk: Desk, agent: LocalAgent) -> None:
        self._spool = spool
        self._desk = desk
        self._agent = agent
        self._places = anyio.Semaphore(PLACES)

    async def run(self, lane: Lane, route: Route) -> None:
        """Works until nothing is left. Nothing stays leased, also when it is cancelled."""
        await _Shift(self._spool, self._desk, self._agent, self._places, lane, route).run()


class _Shift:
    """One run of the lane."""

    def __init__(
        self, spool: Spool, desk: Desk, agent: LocalAgent, places: anyio.Semaphore, lane: Lane, route: Route
    ) -> None:
        self._spool = spool
        self._desk = desk
        self._agent = agent
        self._all_places = places
        self._lane = lane
        self._route = route
        self._open = 0  # recipients that were leased and have no outcome
        self._ended = anyio.Event()
        self._most = desk.directory.rules.max_connections(route.name)
        self._places = anyio.CapacityLimiter(self._most)

    async def run(self) -> None:
        async with anyio.create_task_group() as runs:
            while True:
                self._ended = anyio.Event()
                if self._open < self._most:
                    for lease in await self._lane.lease(max_messages=self._most - self._open, max_bytes=WINDOW_BYTES):
                        for recipient in lease.recipients:
                            self._open += 1
                            runs.start_soon(self._work, Lease(lease.message, (recipient,)))
                if not self._open:
                    return
                await self._ended.wait()

    async def _work(self, lease: Lease) -> None:
        """One recipient. A cancelled one goes back into the queue, or one whose turn comes when nothing may begin."""
        is_begun = False
        outcome: Outcome | None = None
        try:
            async with self._places, self._all_places:
                await self._spool.begin([lease.recipients[0].id])
                if self._lane.is_closed:
                    return
                is_begun = True
                self._lane.note_begun()
                outcome = await self._deliver_safely(lease)
        finally:
            if outcome is not None:
                self._desk.settle(lease, self._route, [outcome])
            else:
                self._desk.give_back([lease], INTERRUPTED if is_begun else "")
            if is_begun:
                self._lane.note_ended()
            self._open -= 1
            self._ended.set()

    async def _deliver_safely(self, lease: Lease) -> Outcome:
        try:
            return await self._deliver(lease.message, prepare(lease, self._route, self._desk))
        except Exception as error:  # our bug must not stop the others, nor bounce this one
            emit(INTERNAL_ERROR, level=ERROR, exception=error, queue_id=lease.message.queue_id)
            return our_fault(error)

    async def _deliver(self, message: StoredMessage, transaction: Transaction) -> Outcome:
        job = LocalJob(TargetKind.REMOTE, self._route.name, message.queue_id, _variables(message, transaction))
        return only_outcome(await self._agent.deliver(job, transaction.content))


def _variables(message: StoredMessage, transaction: Transaction) -> Variables:
    """The recipient, and the sender as the route shows it."""
    received_host, ident = read_client(message.protocol, message.received_from)
    return variables_of(
        user="",
        recipient=transaction.envelope.recipients[0].mailbox,
        sender=transaction.envelope.reverse_path,
        received_host=received_host,
        ident=ident,
        queue_id=message.queue_id,
    )
