"""Where outcomes are settled: the next state of each recipient, its history, and the reports that follow.

All of it goes into the spool in one transaction. Nobody waits for it here: the spool commits many at once, and
`on_trouble` hears when a commit failed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from masqmail.daemon.directory import Directory
from masqmail.daemon.reports import Reporter, Subject
from masqmail.mail.dsn import Action, ReportedRecipient
from masqmail.mail.outcome import Outcome
from masqmail.mail.status import LOCAL_ERROR, Status
from masqmail.routing.route import LOCAL_ROUTE, QUEUE_ONLY, Route, RouteClass
from masqmail.routing.settle import Next, Settlement, Standing, Terms, end_run, settle
from masqmail.spool.api import Attempt, Lease, NewMessage, QueuedMessage, Record, Spool, StoredRecipient
from masqmail.spool.states import State
from masqmail.system.clock import Clock
from masqmail.system.events import (
    RECIPIENT_DEFERRED,
    RECIPIENT_DELIVERED,
    RECIPIENT_FAILED,
    RECIPIENT_QUEUED,
    emit,
)

GIVEN_BACK = Status(554, "5.7.0", "Given back by hand")

_EVENTS = {
    Next.DELIVERED: RECIPIENT_DELIVERED,
    Next.DEFERRED: RECIPIENT_DEFERRED,
    Next.FAILED: RECIPIENT_FAILED,
    Next.QUEUED: RECIPIENT_QUEUED,
}


class Ways(Protocol):
    """The part of the scheduler that is asked here."""

    def is_open(self, route: str) -> bool:
        """Whether a route could be used now: a link of it is up and it is not paused."""

    def note_classes(self, classes: set[RouteClass]) -> None: ...


class Desk:
    """Settles leases. `delivered` counts the recipients that were, for who wants to see progress."""

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
        self.delivered = 0
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
        now, rules = self._clock.now(), self.directory.rules
        terms = Terms(rules.schedule, rules.lifetime)
        records, reported = [], list[tuple[StoredRecipient, Settlement, str]]()
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
            route_name = route.name if route else LOCAL_ROUTE
            attempt = Attempt(now, route_name, outcome.remote_host, settlement.spent)
            records.append(self._record(recipient, settlement, attempt))
            if settlement.report:
                reported.append((recipient, settlement, outcome.remote_host))
            self.delivered += settlement.next is Next.DELIVERED
            emit(
                _EVENTS[settlement.next],
                queue_id=lease.message.queue_id,
                recipient=recipient.target,
                route=route_name,
                remote_host=outcome.remote_host,
                reason=settlement.reason,
            )
        self._write(records, self._reports(lease, reported))

    def end_runs(self, leases: Sequence[Lease]) -> None:
        """Ends the run of recipients for which none of the routes left can be used: their wait begins."""
        now, rules = self._clock.now(), self.directory.rules
        terms = Terms(rules.schedule, rules.lifetime)
        for lease in leases:
            records, reported = [], list[tuple[StoredRecipient, Settlement, str]]()
            for recipient in lease.recipients:
                settlement = end_run(standing_of(recipient), terms, now)
                records.append(self._record(recipient, settlement, None))
                if settlement.report:
                    reported.append((recipient, settlement, ""))
            self._write(records, self._reports(lease, reported))

    async def bounce(self, queued: QueuedMessage, who: str) -> None:
        """Gives the held recipients of a message back to its sender."""
        status = GIVEN_BACK.with_text(f"Given back by hand, by {who}")
        settlement_reason = status.text
        held = [recipient for recipient in queued.recipients if recipient.state is State.HELD]
        records = [
            Record(recipient.id, State.FAILED, settlement_reason, recipient.route_class, status) for recipient in held
        ]
        about = [_reported(recipient, status, settlement_reason, "", self._clock) for recipient in held]
        subject = Subject.of_stored(queued.message, Action.FAILED)
        report = self._reporter.make(subject, Action.FAILED, [item for item in about if item])
        await self._spool.record(records, [report] if report else [])
        self._tell_classes(records, [report] if report else [])

    def post_notice(self, subject: str, text: str) -> None:
        """Writes to the postmaster about the system itself."""
        message = self._reporter.notice(subject, text)
        self._watch(self._spool.accept([message]))
        self._tell_classes([], [message])

    async def finish(self) -> None:
        """Returns when all that was settled is on stable storage."""
        while self._writing:
            await asyncio.gather(*self._writing, return_exceptions=True)

    def _record(self, recipient: StoredRecipient, settlement: Settlement, attempt: Attempt | None) -> Record:
        route_class = settlement.route_class
        if settlement.next is Next.DEFERRED and not self.directory.rules.sends_at_once and not route_class.is_local:
            route_class = route_class.marked(QUEUE_ONLY)
        return Record(
            recipient_id=recipient.id,
            state=State(settlement.next.value),
            reason=settlement.reason,
            route_class=route_class,
            status=settlement.status,
            due=settlement.due,
            attempt=attempt,
            warned=settlement.warned,
        )

    def _reports(self, lease: Lease, reported: Sequence[tuple[StoredRecipient, Settlement, str]]) -> list[NewMessage]:
        """One report per kind, however many recipients it is about."""
        made = []
        actions = dict.fromkeys(settlement.report for _, settlement, _ in reported)
        for kind in actions:
            assert kind is not None
            action = Action[kind.name]
            about = [
                _reported(recipient, settlement.status or LOCAL_ERROR, settlement.reason, host, self._clock)
                for recipient, settlement, host in reported
                if settlement.report is kind
            ]
            report = self._reporter.make(Subject.of_stored(lease.message, action), action, about)
            if report is not None:
                made.append(report)
        return made

    def _write(self, records: Sequence[Record], reports: Sequence[NewMessage]) -> None:
        self._watch(self._spool.record(records, reports))
        self._tell_classes(records, reports)

    def _tell_classes(self, records: Sequence[Record], reports: Sequence[NewMessage]) -> None:
        assert self.ways is not None
        waiting = {record.route_class for record in records if not record.state.is_ended}
        waiting |= {recipient.route_class for report in reports for recipient in report.recipients}
        if waiting:
            self.ways.note_classes(waiting)

    def _watch(self, done: Awaitable[None]) -> None:
        future = asyncio.ensure_future(done)
        self._writing.add(future)
        future.add_done_callback(self._written)

    def _written(self, future: asyncio.Future[None]) -> None:
        self._writing.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None:
            self._on_trouble(error)


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


def _reported(
    recipient: StoredRecipient, status: Status, reason: str, remote_host: str, clock: Clock
) -> ReportedRecipient:
    return ReportedRecipient(
        address=recipient.target,
        status=status,
        reason=reason,
        remote_host=remote_host,
        asked_for=recipient.original,
        orcpt=recipient.orcpt,
        last_attempt_at=clock.now().astimezone(),
    )
