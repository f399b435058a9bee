"""Where outcomes are settled: the next state of each recipient, its history, and the reports that follow.

All of it goes into the spool in one transaction. Nobody waits for it here: the spool commits many at once, and
`on_trouble` hears when a commit failed.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from logging import ERROR
from typing import Protocol

from masqmail.daemon.directory import Directory
from masqmail.daemon.fetch.reports import held_reason
from masqmail.daemon.forwarding import Forwarded, forwarded
from masqmail.daemon.reports import Reporter
from masqmail.daemon.subject import WITHOUT_BODY, Subject
from masqmail.frozen import frozen
from masqmail.mail.dsn import Action, ReportedRecipient
from masqmail.mail.envelope import Notify
from masqmail.mail.outcome import Deferred, Delivered, NotTried, Outcome
from masqmail.mail.status import LOCAL_ERROR, Status
from masqmail.mail.wording import Letter, Wording
from masqmail.routing.alias import Expansion
from masqmail.routing.route import LOCAL_ROUTE, Route, RouteClass
from masqmail.routing.settle import Next, Settlement, Standing, Terms, end_run, settle
from masqmail.spool.api import (
    Attempt,
    Kind,
    Lease,
    NewMessage,
    NewRecipient,
    QueuedMessage,
    Record,
    Spool,
    SpoolFull,
    StoredMessage,
    StoredRecipient,
)
from masqmail.spool.states import State
from masqmail.system.clock import Clock
from masqmail.system.events import (
    INTERNAL_ERROR,
    MESSAGE_HELD,
    RECIPIENT_DEFERRED,
    RECIPIENT_DELIVERED,
    RECIPIENT_FAILED,
    RECIPIENT_FORWARDED,
    RECIPIENT_IN_DOUBT,
    RECIPIENT_QUEUED,
    emit,
)

#: RFC 3463 §3.8 has X.7 for policy as well as for security; no detail says that it was a person.
GIVEN_BACK = Status(554, "5.7.0", "Given back by hand")

_EVENTS = {
    Next.DELIVERED: RECIPIENT_DELIVERED,
    Next.DEFERRED: RECIPIENT_DEFERRED,
    Next.FAILED: RECIPIENT_FAILED,
    Next.QUEUED: RECIPIENT_QUEUED,
}


class Ways(Protocol):
    """The part of the scheduler that is asked here."""

    def is_open(self, route: str, /) -> bool:
        """Whether a route could be used now: a link of it is up and it is not paused."""

    def note_classes(self, classes: set[RouteClass]) -> None: ...


@frozen
class _Settled:
    """What follows for one recipient, and the host whose answer that is; empty where nobody but us said so."""

    recipient: StoredRecipient
    settlement: Settlement
    answerer: str = ""


class Desk:
    """Settles leases. `ended` counts by route how attempts ended, for who wants to see progress."""

    def __init__(
        self,
        directory: Directory,
        reporter: Reporter,
        spool: Spool,
        clock: Clock,
        on_trouble: Callable[[BaseException], None],
    ) -> None:
        self.directory = directory
        self.ways: Ways | None = None
        self.ended: Counter[tuple[str, Next]] = Counter()
        self._reporter = reporter
        self._spool = spool
        self._clock = clock
        self._on_trouble = on_trouble
        self._writing: set[asyncio.Future[None]] = set()

    def settle(
        self, lease: Lease, route: Route | None, outcomes: Sequence[Outcome], *, hop_given_up: bool = False
    ) -> None:
        """Books one outcome per recipient of a lease; `hop_given_up` as in `routing.settle`."""
        assert self.ways is not None
        now, terms = self._clock.now(), self._terms()
        route_name = route.name if route else LOCAL_ROUTE
        records, reported = [], []
        for recipient, outcome in zip(lease.recipients, outcomes, strict=True):
            settlement = settle(
                outcome,
                standing_of(recipient),
                route,
                terms,
                now,
                is_open=self.ways.is_open,
                hop_given_up=hop_given_up,
            )
            attempt = Attempt(now, route_name, outcome.remote_host, settlement.spent)
            record = self._record(lease.message, recipient, settlement, attempt)
            records.append(record)
            reported.append(_Settled(recipient, settlement, _answerer(outcome, settlement)))
            self.ended[route_name, settlement.next] += 1
            event = RECIPIENT_IN_DOUBT if _is_in_doubt(outcome) else _EVENTS[settlement.next]
            emit(
                MESSAGE_HELD if record.state is State.HELD else event,
                queue_id=lease.message.queue_id,
                recipient=recipient.target,
                route=route_name,
                remote_host=outcome.remote_host or None,
                reason=record.reason,
            )
        self._write(lease.message, records, reported)

    def forwarded(self, message: StoredMessage, recipient: StoredRecipient, expansion: Expansion) -> Forwarded:
        """What takes the place of a user whose .forward was expanded so."""
        return forwarded(message, recipient, expansion, self.directory, self._reporter)

    def forward(self, lease: Lease, instead: Forwarded) -> None:
        """Ends the lease of a recipient in whose stead others get the message."""
        (recipient,) = lease.recipients
        emit(RECIPIENT_FORWARDED, queue_id=lease.message.queue_id, recipient=recipient.target, reason=instead.text)
        self._keep(self._spool.forward(recipient.id, instead.children, instead.reports, instead.text))
        self._tell_classes([], instead.reports, instead.children)

    def end_runs(self, leases: Sequence[Lease]) -> None:
        """Ends the run of recipients for which none of the routes left can be used: their wait begins."""
        now, terms = self._clock.now(), self._terms()
        for lease in leases:
            settled = [_Settled(item, end_run(standing_of(item), terms, now)) for item in lease.recipients]
            records = [self._record(lease.message, one.recipient, one.settlement, None) for one in settled]
            self._write(lease.message, records, settled)

    def give_back(self, leases: Sequence[Lease], reason: str = "") -> None:
        """Ends leases of recipients to which nothing happened; they keep their reason unless there is a new one."""
        records = [
            Record(item.id, State.QUEUED, reason or item.reason, item.route_class)
            for lease in leases
            for item in lease.recipients
        ]
        if records:
            self._store(records, [])

    async def bounce(self, queued: QueuedMessage, who: str) -> None:
        """Gives the held recipients of a message back to its sender."""
        status = GIVEN_BACK.with_text(f"Given back by hand, by {who}")
        held = [recipient for recipient in queued.recipients if recipient.state is State.HELD]
        records = [Record(item.id, State.FAILED, status.text, item.route_class, status) for item in held]
        about = [
            ReportedRecipient(
                self._reporter.address_of(item),
                status,
                status.text,
                asked_for=item.original,
                orcpt=item.orcpt,
                given_back=True,
            )
            for item in held
            if standing_of(item).wants(Notify.FAILURE)
        ]
        report = self._reporter.make(Subject.of_stored(queued.message, Action.FAILED), Action.FAILED, about)
        reports = [report] if report else []
        await self._spool.record(records, reports)
        self._tell_classes(records, reports)

    @property
    def words(self) -> Wording:
        """What we say, in today's language."""
        return self._reporter.texts.words

    async def tell_of_held_reports(self) -> None:
        """Writes to the postmaster when there were too many reports, now and then one letter about all of them."""
        held = self._reporter.cap.news()
        if held and await self.post_notice(self._reporter.about_held(held)):
            self._reporter.cap.told(held)

    async def post_notice(self, letter: Letter) -> bool:
        """Writes to the postmaster about the system itself; False when there is no room for it now."""
        return await self.post(self._reporter.notice(letter))

    async def post(self, message: NewMessage) -> bool:
        """Stores a notice that was made; False when there is no room for it now."""
        try:
            await self._spool.accept([message])
        except SpoolFull:
            return False
        self._tell_classes([], [message])
        return True

    async def finish(self) -> None:
        """Returns when all that was settled is on stable storage."""
        while self._writing:
            await asyncio.gather(*self._writing, return_exceptions=True)

    def _terms(self) -> Terms:
        return Terms(self.directory.rules.schedule, self.directory.rules.lifetime)

    def _record(
        self, message: StoredMessage, recipient: StoredRecipient, settlement: Settlement, attempt: Attempt | None
    ) -> Record:
        route_class = settlement.route_class
        state, reason = State(settlement.next.value), settlement.reason
        if state is State.FAILED and message.kind is Kind.FETCHED and recipient.reported:
            state, reason = State.HELD, held_reason(reason)
        if settlement.next is Next.DEFERRED and not route_class.is_local:
            route_class = route_class.marked(self.directory.rules.mark)
        return Record(
            recipient_id=recipient.id,
            state=state,
            reason=reason,
            route_class=route_class,
            status=settlement.status,
            due=settlement.due,
            attempt=attempt,
            warned=settlement.warned,
        )

    def _write(self, message: StoredMessage, records: Sequence[Record], settled: Sequence[_Settled]) -> None:
        """Stores what follows for the recipients of a message, with its reports."""
        try:
            reports = self._reports(message, settled)
        except Exception as error:  # nobody's mail may fail without a report because of our bug
            emit(INTERNAL_ERROR, level=ERROR, exception=error, queue_id=message.queue_id)
            records, reports = [self._put_off(record, error) for record in records], []
        self._store(records, reports)

    def _put_off(self, record: Record, error: Exception) -> Record:
        """Instead of a failure that we could not report."""
        if record.state is not State.FAILED:
            return record
        reason = f"{record.reason}; the report to its sender could not be made: {error!r}"
        due = self._clock.now() + self.directory.rules.schedule.longest
        return replace(record, state=State.DEFERRED, reason=reason, due=due)

    def _reports(self, message: StoredMessage, settled: Sequence[_Settled]) -> list[NewMessage]:
        """One report per kind, however many recipients it is about."""
        made = []
        for kind in dict.fromkeys(one.settlement.report for one in settled if one.settlement.report):
            action = Action[kind.name]
            about = [self._reported(one, action) for one in settled if one.settlement.report is kind]
            if message.kind is Kind.FETCHED:
                report = self._about_fetched(message, action, about)
            else:
                report = self._reporter.make(Subject.of_stored(message, action), action, about)
            if report is not None:
                made.append(report)
        return made

    def _about_fetched(
        self, message: StoredMessage, action: Action, about: Sequence[ReportedRecipient]
    ) -> NewMessage | None:
        """What the postmaster is told of fetched mail that is held now, or still tried."""
        letters = {Action.FAILED: self.words.fetched_held, Action.DELAYED: self.words.fetched_delayed}
        if action not in letters:
            return None
        subject = Subject.of_stored(message, WITHOUT_BODY)
        return self._reporter.about_fetched(letters[action], subject, about)

    def _reported(self, one: _Settled, action: Action) -> ReportedRecipient:
        recipient, settlement, now = one.recipient, one.settlement, self._clock.now()
        time_left = self.directory.rules.lifetime.give_up_after - recipient.age
        return ReportedRecipient(
            address=self._reporter.address_of(recipient),
            status=settlement.status or LOCAL_ERROR,
            reason=settlement.reason,
            remote_host=one.answerer,
            asked_for=recipient.original,
            orcpt=recipient.orcpt,
            last_attempt_at=now.astimezone(),
            will_retry_until=(now + time_left).astimezone() if action is Action.DELAYED else None,
        )

    def _store(self, records: Sequence[Record], reports: Sequence[NewMessage]) -> None:
        self._keep(self._spool.record(records, reports))
        self._tell_classes(records, reports)

    def _keep(self, writing: Awaitable[None]) -> None:
        """Hears how a change of the spool ends."""
        future = asyncio.ensure_future(writing)
        self._writing.add(future)
        future.add_done_callback(self._written)

    def _tell_classes(
        self, records: Sequence[Record], reports: Sequence[NewMessage], children: Sequence[NewRecipient] = ()
    ) -> None:
        assert self.ways is not None
        waiting = {record.route_class for record in records if not record.state.is_ended}
        waiting |= {child.route_class for child in children if not child.state.is_ended}
        waiting |= {recipient.route_class for report in reports for recipient in report.recipients}
        if waiting:
            self.ways.note_classes(waiting)

    def _written(self, future: asyncio.Future[None]) -> None:
        self._writing.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None:
            self._on_trouble(error)


def _is_in_doubt(outcome: Outcome) -> bool:
    """Whether the recipient may get the message twice, RFC 1047."""
    return isinstance(outcome, Deferred) and outcome.in_doubt


def standing_of(recipient: StoredRecipient) -> Standing:
    """A recipient as `routing.settle` sees it."""
    return Standing(
        route_class=recipient.route_class,
        attempts=recipient.attempts,
        age=recipient.age,
        warned=recipient.warned,
        notify=recipient.notify,
        reported=recipient.reported,
        status=recipient.last_status,
        reason=recipient.reason,
    )


def _answerer(outcome: Outcome, settlement: Settlement) -> str:
    """The host whose answer the settlement passes on; empty where we came to it ourselves."""
    match outcome:
        case NotTried():
            return ""
        case Delivered():
            is_answer = True
        case _:
            is_answer = outcome.said_by_peer
    return outcome.remote_host if is_answer and outcome.status is settlement.status else ""
