"""The work of the local lane: mailboxes, files and programs of this host, many at a time.

Each recipient is a job of its own, so that a slow one delays no other. Programs may take minutes; they get a share
of the places alone, and the rest is for mailboxes.
"""

from dataclasses import replace
from logging import ERROR
from math import inf

import anyio

from masqmail.daemon.desk import Desk
from masqmail.daemon.feed import our_fault
from masqmail.daemon.forwarding import Forwarded
from masqmail.daemon.lane import Lane
from masqmail.delivery.forward import Forward, trouble_in
from masqmail.delivery.job import Content, LocalAgent, LocalJob, LocalMethod, Mailstore
from masqmail.delivery.variables import variables_of
from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.mail.envelope import Body
from masqmail.mail.header import split_fields
from masqmail.mail.outcome import Culprit, Delivered, Failed, Outcome
from masqmail.mail.status import MAIL_LOOP
from masqmail.mail.trace import for_mailbox, read_client, was_delivered_to
from masqmail.routing.alias import expand_forward, forward_owners
from masqmail.spool.api import Kind, Lease, Spool, StoredMessage, StoredRecipient, TargetKind
from masqmail.system.events import INTERNAL_ERROR, emit

#: Deliveries at the same time, to mailboxes and files, to programs, and to LMTP servers.
MAILBOX_PLACES = 4
PIPE_PLACES = 4
LMTP_PLACES = 8

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
    """One run of the lane."""

    def __init__(self, spool: Spool, desk: Desk, agent: LocalAgent, lane: Lane) -> None:
        self._spool = spool
        self._desk = desk
        self._agent = agent
        self._lane = lane
        self._open = 0  # jobs that were leased and have no outcome
        self._ended = anyio.Event()
        self._mailbox_places = anyio.Semaphore(MAILBOX_PLACES)
        self._pipe_places = anyio.Semaphore(PIPE_PLACES)
        self._lmtp_places = anyio.Semaphore(LMTP_PLACES)

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
        """One job. A cancelled one goes back into the queue, and one whose turn comes when nothing more may begin."""
        recipient = lease.recipients[0]
        is_begun = False
        outcome: Outcome | Forwarded | None = None
        try:
            async with self._places_for(recipient):
                await self._spool.begin([recipient.id])
                if self._lane.is_closed:
                    return
                is_begun = True
                self._lane.note_begun()
                outcome = await self._deliver_safely(lease.message, recipient)
        finally:
            if isinstance(outcome, Forwarded):
                self._desk.forward(lease, outcome)
            elif outcome is not None:
                self._desk.settle(lease, None, [outcome])
            else:
                self._desk.give_back([lease], INTERRUPTED if is_begun else "")
            if is_begun:
                self._lane.note_ended()
            self._open -= 1
            self._ended.set()
            self._lane.nudge()

    def _mailstore(self, recipient: StoredRecipient) -> Mailstore | None:
        """How the recipient gets mail, if it is a user."""
        return self._desk.directory.rules.mailbox_of(recipient.target) if is_user(recipient) else None

    def _places_for(self, recipient: StoredRecipient) -> anyio.Semaphore:
        store = self._mailstore(recipient)
        if recipient.kind is TargetKind.PIPE or (store and store.method is LocalMethod.MDA):
            return self._pipe_places
        return self._lmtp_places if store and store.method is LocalMethod.LMTP else self._mailbox_places

    async def _deliver_safely(self, message: StoredMessage, recipient: StoredRecipient) -> Outcome | Forwarded:
        try:
            return await self._deliver(message, recipient)
        except Exception as error:
            emit(INTERNAL_ERROR, level=ERROR, exception=error, queue_id=message.queue_id)
            return our_fault(error)

    async def _deliver(self, message: StoredMessage, recipient: StoredRecipient) -> Outcome | Forwarded:
        rules = self._desk.directory.rules
        asked_for = parse_mailbox(recipient.original)
        mailbox = Mailbox(recipient.target, rules.host_name) if is_user(recipient) else asked_for
        is_fetched = message.kind is Kind.FETCHED  # then its server may have written our address there
        if not is_fetched and was_delivered_to(split_fields(message.header), mailbox):
            reason = f"the message was delivered to {mailbox} before: it is in a loop"
            return Failed(MAIL_LOOP.with_text(reason), Culprit.RECIPIENT, reason)
        header = for_mailbox(
            message.header,
            reverse_path=message.reverse_path,
            mailbox=mailbox,
            envelope_to=recipient.original,
            save_envelope_to=rules.saves_envelope_to,
        )
        size_bytes = message.size_bytes - len(message.header) + len(header)
        job, content = _job(message, recipient, asked_for, size_bytes), Content(header, message.body)
        if recipient.kind is not TargetKind.USER or not rules.forwards:
            return only_outcome(await self._agent.deliver(job, content))
        found = await self._agent.deliver(replace(job, asks_forward=True), content)
        if isinstance(found, Forward):
            self._desk.directory.note_forward(job.target, found.trouble)
            return self._expand(message, recipient, found)
        if isinstance(found, Delivered):
            self._desk.directory.note_forward(job.target, trouble_in(found.reason))
        return found

    def _expand(self, message: StoredMessage, recipient: StoredRecipient, found: Forward) -> Forwarded:
        """Who gets the message in the stead of a user with a .forward."""
        came_by = forward_owners(recipient.source)
        expansion = expand_forward(recipient.target, came_by, dict(found.texts), self._desk.directory.book())
        return self._desk.forwarded(message, recipient, expansion)


def only_outcome(result: Outcome | Forward) -> Outcome:
    """What came of a job for which no .forward was to be asked."""
    if isinstance(result, Forward):
        raise TypeError("a .forward was asked though nobody wanted it")
    return result


def is_user(recipient: StoredRecipient) -> bool:
    """Whether the target is the name of a local user."""
    return recipient.kind in (TargetKind.MAILBOX, TargetKind.USER)


def _job(message: StoredMessage, recipient: StoredRecipient, asked_for: Mailbox, size_bytes: int) -> LocalJob:
    owners = [recipient.target] if is_user(recipient) else forward_owners(recipient.source)[-1:]
    received_host, ident = read_client(message.protocol, message.received_from)
    return LocalJob(
        kind=TargetKind.MAILBOX if is_user(recipient) else recipient.kind,
        target=recipient.target,
        identity=f"{message.queue_id}.R{recipient.id}",
        variables=variables_of(
            user="".join(owners),
            recipient=asked_for,
            sender=message.reverse_path,
            received_host=received_host,
            ident=ident,
            queue_id=message.queue_id,
        ),
        source=recipient.source,
        is_first=not recipient.attempts and not recipient.reason,
        size_bytes=size_bytes,
        is_8bit=message.declared_body is Body.EIGHT_BIT,
    )
