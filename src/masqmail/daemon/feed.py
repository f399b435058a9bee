"""The work of one remote lane: leases in, rewritten transactions out, outcomes to the desk."""

from collections.abc import Sequence

from masqmail.daemon.desk import Desk
from masqmail.daemon.scheduler import Lane
from masqmail.delivery.job import Content, Transaction
from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.mail.envelope import Body, Envelope, Recipient
from masqmail.mail.outcome import Culprit, Deferred, Outcome
from masqmail.mail.status import LOCAL_ERROR
from masqmail.routing.rewrite import rewrite_header, rewrite_path
from masqmail.routing.route import Route
from masqmail.spool.api import Lease, Spool, StoredMessage, StoredRecipient
from masqmail.system.events import INTERNAL_ERROR, emit

#: The first window is leased before anybody connects, so that nobody connects for nothing.
FIRST_WINDOW_MESSAGES = 64
FIRST_WINDOW_BYTES = 1 << 20


class LaneFeed:
    """A `delivery.job.Feed` for one lane. What it has leased and nobody settled is given back at the end."""

    def __init__(self, lane: Lane, route: Route, spool: Spool, desk: Desk) -> None:
        self._lane = lane
        self._route = route
        self._spool = spool
        self._desk = desk
        self._ready: list[Lease] = []  # leased, not yet asked for
        self._out: dict[str, Lease] = {}  # by queue ID: with the connection

    async def prime(self) -> bool:
        """Leases a first window unless there is one; False when there is nothing to do."""
        if not self._ready:
            self._ready = await self._lane.lease(max_messages=FIRST_WINDOW_MESSAGES, max_bytes=FIRST_WINDOW_BYTES)
        return bool(self._ready)

    async def take(self, *, max_transactions: int, max_bytes: int) -> Sequence[Transaction]:
        """The next transactions for this connection. A message that cannot be prepared is deferred here."""
        if not self._ready:
            self._ready = await self._lane.lease(max_messages=max_transactions, max_bytes=max_bytes)
        leases, self._ready = self._ready[:max_transactions], self._ready[max_transactions:]
        transactions = []
        for lease in leases:
            self._out[lease.message.queue_id] = lease
            try:
                transactions.append(prepare(lease, self._route, self._desk))
            except Exception as error:  # our bug must not stop the others, nor bounce this one
                emit(INTERNAL_ERROR, queue_id=lease.message.queue_id, error=repr(error))
                self._settle(lease, [our_fault(error)] * len(lease.recipients))
        return transactions

    async def wait(self, timeout_seconds: float) -> bool:
        return bool(self._ready) or await self._lane.wait_for_work(timeout_seconds)

    async def begin(self, transactions: Sequence[Transaction]) -> None:
        leases = [self._out[transaction.queue_id] for transaction in transactions]
        await self._spool.begin([recipient.id for lease in leases for recipient in lease.recipients])

    def settle(self, transaction: Transaction, outcomes: Sequence[Outcome]) -> None:
        self._settle(self._out[transaction.queue_id], outcomes)

    def settle_rest(self, outcome: Outcome, *, hop_given_up: bool = False) -> None:
        """The same outcome for every recipient that is leased and has none yet."""
        for lease in [*self._out.values(), *self._ready]:
            self._settle(lease, [outcome] * len(lease.recipients), hop_given_up=hop_given_up)
        self._ready = []

    def _settle(self, lease: Lease, outcomes: Sequence[Outcome], *, hop_given_up: bool = False) -> None:
        self._out.pop(lease.message.queue_id, None)
        self._desk.settle(lease, self._route, outcomes, hop_given_up=hop_given_up)


def prepare(lease: Lease, route: Route, desk: Desk) -> Transaction:
    """One message as this route sends it: return path and header rewritten, every other byte as it came."""
    message, local = lease.message, desk.directory.rules.local
    header = rewrite_header(message.header, route.rewriting, local)
    reverse_path = rewrite_path(message.reverse_path, route.rewriting, local)
    recipients = tuple(_forward_path(recipient) for recipient in lease.recipients)
    return Transaction(
        queue_id=message.queue_id,
        envelope=Envelope(
            reverse_path, recipients, message.ret, message.envid, message.declared_body, message.smtputf8
        ),
        content=Content(header, message.body),
        size_bytes=message.size_bytes - len(message.header) + len(header),
        needs_8bit=message.declared_body is Body.EIGHT_BIT,
        needs_smtputf8=_needs_smtputf8(message, header, reverse_path, recipients),
    )


def _forward_path(recipient: StoredRecipient) -> Recipient:
    return Recipient(parse_mailbox(recipient.target), recipient.notify, recipient.orcpt)


def _needs_smtputf8(
    message: StoredMessage, header: bytes, reverse_path: Mailbox | None, recipients: Sequence[Recipient]
) -> bool:
    """An address or a header declared as UTF-8 needs it, RFC 6531 §3.4; undeclared 8-bit headers go as they are."""
    mailboxes = [recipient.mailbox for recipient in recipients] + ([reverse_path] if reverse_path else [])
    return any(mailbox.needs_smtputf8 for mailbox in mailboxes) or (message.smtputf8 and not header.isascii())


def our_fault(error: Exception) -> Deferred:
    """What an exception that should not have been means: it defers, and never fails a message."""
    return Deferred(LOCAL_ERROR, Culprit.US, f"an error of ours kept it from being sent: {error!r}")
