"""The work of the local lane: mailboxes, files and programs of this host, many at a time.

Each recipient is a job of its own, so that a slow one delays no other. Programs may take minutes; they get a share
of the places alone, and the rest is for mailboxes.
"""

from logging import ERROR
from math import inf

import anyio

from masqmail.daemon.desk import Desk
from masqmail.daemon.feed import our_fault
from masqmail.daemon.lane import Lane
from masqmail.delivery.job import Content, LocalAgent, LocalJob
from masqmail.delivery.variables import variables_of
from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.mail.header import split_fields
from masqmail.mail.outcome import Culprit, Failed, Outcome
from masqmail.mail.status import MAIL_LOOP
from masqmail.mail.trace import for_mailbox, was_delivered_to
from masqmail.spool.api import Lease, Spool, StoredMessage, StoredRecipient, TargetKind
from masqmail.system.events import INTERNAL_ERROR, emit

#: Deliveries at the same time, to mailboxes and files, and to programs.
MAILBOX_PLACES = 4
PIPE_PLACES = 4

#: More is leased when fewer jobs than this are open.
ENOUGH_JOBS = 64
WINDOW = 32
WINDOW_BYTES = 8 << 20

#: The reason kept with a recipient whose delivery we had begun: it is no first attempt any more.
INTERRUPTED = "its delivery was interrupted when MasqMail stopped"


class LocalLane:
    """Delivers on this host."""

    def __init__(self, spool: Spool, desk: Desk, agent: LocalAgent) -> None:
        self._spool = spool
        self._desk = desk
        self._agent = agent

    async def run(self, lane: Lane) -> None:
        """Works until nothing is left. Nothing stays leased, also when it is cancelled."""
        await _Shift(self._spool, self._desk, self._agent, lane).run()


class _Shift:
    """One run of the lane. `_open` counts the jobs that were leased and have no outcome."""

    def __init__(self, spool: Spool, desk: Desk, agent: LocalAgent, lane: Lane) -> None:
        self._spool = spool
        self._desk = desk
        self._agent = agent
        self._lane = lane
        self._open = 0
        self._ended = anyio.Event()
        self._mailbox_places = anyio.Semaphore(MAILBOX_PLACES)
        self._pipe_places = anyio.Semaphore(PIPE_PLACES)

    async def run(self) -> None:
        async with anyio.create_task_group() as jobs:
            while True:
                leases = await self._lane.lease(max_messages=WINDOW, max_bytes=WINDOW_BYTES)
                for lease in leases:
                    for recipient in lease.recipients:
                        self._open += 1
                        jobs.start_soon(self._work, Lease(lease.message, (recipient,)))
                if not self._open:
                    return
                if not leases:
                    await self._lane.wait_for_work(inf)
                while self._open >= ENOUGH_JOBS:
                    await self._job_ended()

    async def _job_ended(self) -> None:
        self._ended = anyio.Event()
        await self._ended.wait()

    async def _work(self, lease: Lease) -> None:
        """One job. A cancelled one goes back into the queue."""
        recipient = lease.recipients[0]
        is_begun = False
        outcome: Outcome | None = None
        try:
            async with self._pipe_places if recipient.kind is TargetKind.PIPE else self._mailbox_places:
                await self._spool.begin([recipient.id])
                is_begun = True
                outcome = await self._deliver_safely(lease.message, recipient)
        finally:
            if outcome is not None:
                self._desk.settle(lease, None, [outcome])
            else:
                self._desk.give_back([lease], INTERRUPTED if is_begun else "")
            self._open -= 1
            self._ended.set()
            self._lane.nudge()

    async def _deliver_safely(self, message: StoredMessage, recipient: StoredRecipient) -> Outcome:
        try:
            return await self._deliver(message, recipient)
        except Exception as error:
            emit(INTERNAL_ERROR, level=ERROR, exception=error, queue_id=message.queue_id)
            return our_fault(error)

    async def _deliver(self, message: StoredMessage, recipient: StoredRecipient) -> Outcome:
        rules = self._desk.directory.rules
        asked_for = parse_mailbox(recipient.original)
        is_mailbox = recipient.kind is TargetKind.MAILBOX
        mailbox = Mailbox(recipient.target, rules.host_name) if is_mailbox else asked_for
        if was_delivered_to(split_fields(message.header), mailbox):
            reason = f"the message was delivered to {mailbox} before: it is in a loop"
            return Failed(MAIL_LOOP.with_text(reason), Culprit.RECIPIENT, reason)
        header = for_mailbox(
            message.header,
            reverse_path=message.reverse_path,
            mailbox=mailbox,
            envelope_to=recipient.original,
            save_envelope_to=rules.saves_envelope_to,
        )
        return await self._agent.deliver(_job(message, recipient, asked_for), Content(header, message.body))


def _job(message: StoredMessage, recipient: StoredRecipient, asked_for: Mailbox) -> LocalJob:
    return LocalJob(
        kind=recipient.kind,
        target=recipient.target,
        identity=f"{message.queue_id}.R{recipient.id}",
        variables=variables_of(
            user=recipient.target if recipient.kind is TargetKind.MAILBOX else "",
            recipient=asked_for,
            sender=message.reverse_path,
            received_host="" if message.protocol == "local" else message.received_from.partition(" ")[0],
            queue_id=message.queue_id,
        ),
        source=recipient.source,
        is_first=not recipient.attempts and not recipient.reason,
    )
