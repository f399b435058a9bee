"""The work of one remote lane: leases in, rewritten transactions out, outcomes to the desk."""

import math
from collections.abc import Callable, Sequence
from logging import ERROR

import anyio

from masqmail.daemon.desk import Desk
from masqmail.daemon.lane import Lane
from masqmail.delivery.job import Content, Transaction
from masqmail.delivery.parallel import Speed
from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.mail.envelope import Body, Envelope, Recipient
from masqmail.mail.outcome import Culprit, Deferred, NotTried, Outcome
from masqmail.mail.status import LOCAL_ERROR
from masqmail.routing.rewrite import rewrite_header, rewrite_path
from masqmail.routing.route import Route
from masqmail.spool.api import Lease, Spool, StoredRecipient
from masqmail.system.events import INTERNAL_ERROR, emit

#: The first window is leased before anybody connects, so that nobody connects for nothing.
FIRST_WINDOW_MESSAGES = 64
FIRST_WINDOW_BYTES = 1 << 20

#: Where other lanes may help, nothing is kept from them before it can be sent.
FIRST_SHARED_WINDOW = 2

#: When what was leased was all asked for within this time, more is leased the next time, up to a first window. So a
#: quick line waits for few leases, and on a slow one what waits stays free to be held or to go another way.
QUICK_SECONDS = 0.5


class LaneFeed:
    """A `delivery.job.Feed` for one lane, over as many connections as that takes.

    Whoever made it must end with `give_back`: nothing stays leased.
    """

    def __init__(self, lane: Lane, route: Route, spool: Spool, desk: Desk) -> None:
        self._lane = lane
        self._route = route
        self._spool = spool
        self._desk = desk
        self._ready: list[Lease] = []  # leased, not yet asked for
        # With the connection, by the identity of the transaction: two may be parts of one message.
        self._out: dict[int, tuple[Transaction, Lease]] = {}
        self._begun: set[int] = set()
        self.was_asked = False
        self._has_served = False
        self._leased_at = -math.inf
        self._ahead = 1  # so many times what is asked for
        lane.hold(self._share)

    def _share(self) -> None:
        """Gives back what waits for a connection that is not set up yet."""
        if self._ready and not self.was_asked:
            ready, self._ready = self._ready, []
            self._lane.in_hand -= len(ready)
            self._desk.give_back(ready)

    async def prime(self) -> bool:
        """Leases a first window for a new connection unless there is one; False when there is nothing to do.

        A connection in reserve has to be called first.
        """
        self.was_asked = self._has_served = False
        if self._lane.is_closed:
            return False
        if self._lane.is_waiting or self._lane.is_dismissed:
            return self._lane.is_waiting
        if not self._ready:
            await self._lease(
                FIRST_SHARED_WINDOW if self._lane.is_shared else FIRST_WINDOW_MESSAGES, FIRST_WINDOW_BYTES
            )
        return bool(self._ready)

    async def _lease(self, max_messages: int, max_bytes: int) -> None:
        self._leased_at = anyio.current_time()
        leases = await self._lane.lease(max_messages=max_messages, max_bytes=max_bytes)
        self._lane.in_hand += len(leases)
        self._ready += leases

    async def _lease_ahead(self, max_messages: int, max_bytes: int) -> None:
        """Leases what is asked for, and more where the line is quick."""
        is_quick = anyio.current_time() - self._leased_at < QUICK_SECONDS
        self._ahead = min(2 * self._ahead, FIRST_WINDOW_MESSAGES) if is_quick else 1
        await self._lease(
            max(max_messages, min(self._ahead * max_messages, FIRST_WINDOW_MESSAGES)),
            max(max_bytes, min(self._ahead * max_bytes, FIRST_WINDOW_BYTES)),
        )

    @property
    def is_unserved(self) -> bool:
        """Whether work is left although no outcome came since `prime`: the connection was of no use."""
        return bool(self._ready) and not self._has_served and not self._lane.is_closed

    async def take(self, *, max_transactions: int, max_bytes: int) -> Sequence[Transaction]:
        """The next transactions for this connection. A message that cannot be prepared is deferred here."""
        self.was_asked = True
        missing = max_transactions - len(self._ready)
        if self._lane.is_shared:
            if missing > 0:
                await self._lease(missing, max_bytes)
        elif not self._ready:
            await self._lease_ahead(missing, max_bytes)
        if self._lane.is_closed:  # meanwhile
            return ()
        leases, self._ready = self._ready[:max_transactions], self._ready[max_transactions:]
        transactions = []
        for lease in leases:
            try:
                transaction = prepare(lease, self._route, self._desk)
            except Exception as error:  # our bug must not stop the others, nor bounce this one
                emit(INTERNAL_ERROR, level=ERROR, exception=error, queue_id=lease.message.queue_id)
                self._settle(lease, [our_fault(error)] * len(lease.recipients))
            else:
                self._out[id(transaction)] = (transaction, lease)
                transactions.append(transaction)
        return transactions

    async def wait(self, timeout_seconds: float) -> bool:
        return not self._lane.is_closed and (bool(self._ready) or await self._lane.wait_for_work(timeout_seconds))

    def watch(self, hear: Callable[[], None] | None) -> None:
        self._lane.watch(hear)

    async def begin(self, transactions: Sequence[Transaction]) -> None:
        numbers = [id(transaction) for transaction in transactions]
        leases = [self._out[number][1] for number in numbers]
        self._lane.note_begun(len(numbers))
        self._begun.update(numbers)
        await self._spool.begin([recipient.id for lease in leases for recipient in lease.recipients])

    def settle(self, transaction: Transaction, outcomes: Sequence[Outcome]) -> None:
        _, lease = self._out.pop(id(transaction))
        if id(transaction) in self._begun:
            self._begun.remove(id(transaction))
            self._lane.note_ended()
        self._settle(lease, outcomes)

    @property
    def known_speed(self) -> Speed | None:
        return self._lane.known_speed

    def note_speed(self, speed: Speed) -> None:
        self._lane.note_speed(speed)

    def note_round_trip(self, seconds: float) -> None:
        self._lane.note_round_trip(seconds)

    async def is_wanted(self) -> bool:
        return await self._lane.wait_for_call()

    def defer_out(self, error: Exception) -> None:
        """An error of ours broke the connection: what it had may have been the reason, and is put off."""
        for lease in self._end_out():
            self._settle(lease, [our_fault(error)] * len(lease.recipients))

    def _end_out(self) -> list[Lease]:
        """The leases of the transactions that are out, begun or not. They are out no longer."""
        leases = [lease for _, lease in self._out.values()]
        self._lane.note_ended(len(self._begun))
        self._out.clear()
        self._begun.clear()
        return leases

    def settle_ready(self, outcome: Outcome, *, hop_given_up: bool = False) -> None:
        """The same outcome for every recipient that is leased and was not asked for."""
        ready, self._ready = self._ready, []
        for lease in ready:
            self._settle(lease, [outcome] * len(lease.recipients), hop_given_up=hop_given_up)

    def give_back(self) -> None:
        """Ends every lease that has no outcome; nothing happened to its recipients."""
        leases = [*self._end_out(), *self._ready]
        self._ready = []
        self._lane.in_hand -= len(leases)
        self._desk.give_back(leases)

    def _settle(self, lease: Lease, outcomes: Sequence[Outcome], *, hop_given_up: bool = False) -> None:
        if any(not isinstance(outcome, NotTried) for outcome in outcomes):
            self._has_served = True
            self._lane.note_answer()
        self._lane.in_hand -= 1
        self._desk.settle(lease, self._route, outcomes, hop_given_up=hop_given_up)


def prepare(lease: Lease, route: Route, desk: Desk) -> Transaction:
    """One message as this route sends it: return path and header rewritten, every other byte as it came."""
    message, local = lease.message, desk.directory.rules.local
    header = rewrite_header(message.header, route.rewriting, local)
    reverse_path = rewrite_path(message.reverse_path, route.rewriting, local)
    recipients = tuple(_forward_path(recipient) for recipient in lease.recipients)
    has_new_utf8 = header is not message.header and message.header.isascii() and not header.isascii()
    smtputf8 = message.smtputf8 or has_new_utf8
    return Transaction(
        queue_id=message.queue_id,
        envelope=Envelope(reverse_path, recipients, message.ret, message.envid, message.declared_body, smtputf8),
        content=Content(header, message.body),
        size_bytes=message.size_bytes - len(message.header) + len(header),
        needs_8bit=has_new_utf8 or message.declared_body is Body.EIGHT_BIT,
        needs_smtputf8=_needs_smtputf8(header, reverse_path, recipients, smtputf8=smtputf8),
    )


def _forward_path(recipient: StoredRecipient) -> Recipient:
    return Recipient(parse_mailbox(recipient.target), recipient.notify, recipient.orcpt)


def _needs_smtputf8(
    header: bytes, reverse_path: Mailbox | None, recipients: Sequence[Recipient], *, smtputf8: bool
) -> bool:
    """An address or a header declared as UTF-8 needs it, RFC 6531 §3.4; undeclared 8-bit headers go as they are."""
    mailboxes = [recipient.mailbox for recipient in recipients] + ([reverse_path] if reverse_path else [])
    return any(mailbox.needs_smtputf8 for mailbox in mailboxes) or (smtputf8 and not header.isascii())


def our_fault(error: Exception) -> Deferred:
    """What an exception that should not have been means: it defers, and never fails a message."""
    return Deferred(LOCAL_ERROR, Culprit.US, f"an error of ours kept it from being sent: {error!r}")
