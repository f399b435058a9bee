"""What follows from the outcome of an attempt: the next state of a recipient, and who is told.

| outcome                                   | a later route may be used now | none may                              |
|-------------------------------------------|-------------------------------|---------------------------------------|
| delivered                                 | delivered                     | delivered                             |
| failed by the recipient or message        | failed                        | failed                                |
| failed by the sender, or unfit            | queued for it                 | failed                                |
| failed by anything else                   | queued for it                 | deferred: a bug never fails a message |
| deferred                                  | queued for it                 | deferred, or failed when too old      |
| not tried, directly to a hopeless domain  | queued for it                 | deferred, or failed when too old      |
| not tried, else                           | queued, nothing spent         | queued, nothing spent                 |

Unfit is a message for a next hop that announces no SMTPUTF8 (5.6.7), or a SIZE below the message's: another may take
it. A route with `last` has no later one. Queued means due as soon as a route of the class can be used; the wait of
the retry schedule begins when none of this run is left (`end_run`).
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from typing import assert_never

from masqmail.frozen import frozen
from masqmail.mail.envelope import DEFAULT_NOTIFY, Notify
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, NotTried, Outcome
from masqmail.mail.status import LIFETIME_EXPIRED, LOCAL_ERROR, Status
from masqmail.routing.route import Route, RouteClass, Way
from masqmail.routing.schedule import Lifetime, RetrySchedule


class Next(Enum):
    """The recipient's next state, by its name in `spool.states.State`."""

    QUEUED = "queued"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    FAILED = "failed"


class Report(Enum):
    """What the originator is told, by its name in RFC 3464 §2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"


@frozen
class Standing:
    """How a recipient stood when the attempt began.

    `attempts`, `status` and `reason` are of the attempts before it; `age` counts usable time; `warned` counts the
    warnings sent. `reported` is False where nobody is told anything: the null reverse-path, archive copies.
    """

    route_class: RouteClass
    attempts: int = 0
    age: timedelta = timedelta(0)
    warned: int = 0
    notify: Notify | None = None
    reported: bool = True
    status: Status | None = None
    reason: str = ""

    def wants(self, flag: Notify) -> bool:
        """Whether the originator asked for this kind of report, RFC 3461 §4.1."""
        return self.reported and flag in (DEFAULT_NOTIFY if self.notify is None else self.notify)


@frozen
class Terms:
    """How long we wait and how long we go on."""

    retry: RetrySchedule
    lifetime: Lifetime


@frozen
class Settlement:
    """What to record. `due` is for DEFERRED; `spent`: the attempt counts; `warned` of None changes nothing."""

    next: Next
    reason: str
    route_class: RouteClass
    spent: bool
    status: Status | None = None
    due: datetime | None = None
    report: Report | None = None
    warned: int | None = None


#: What a next hop that cannot be used means for the recipients of its domain, RFC 3463 §3.5 and §3.8.
_HOP_CODES = {
    Culprit.NAME: "4.4.3",
    Culprit.CONNECTION: "4.4.1",
    Culprit.TLS: "4.7.5",
    Culprit.LOGIN: "4.7.0",
    Culprit.SESSION: "4.4.2",
}
_SUCCESS_REPORTS = {Handover.MAILBOX: Report.DELIVERED, Handover.RELAYED: Report.RELAYED}
_NO_CONNECTION = frozenset({Culprit.NAME, Culprit.CONNECTION})
_REFUSERS = frozenset({Culprit.SENDER, Culprit.RECIPIENT, Culprit.MESSAGE})
_NEEDS_SMTPUTF8 = "5.6.7"  # RFC 6531 §3.5
_TOO_BIG = "5.3.4"  # RFC 1870 §6.1


def settle(
    outcome: Outcome,
    standing: Standing,
    route: Route | None,
    terms: Terms,
    now: datetime,
    *,
    is_open: Callable[[str], bool] = lambda name: False,
    hop_given_up: bool = False,
) -> Settlement:
    """What follows from the outcome of one attempt over `route` (None for local delivery).

    `is_open` says whether a route could be used now: its link is up and it is not paused. `hop_given_up` says
    that a `NotTried` is about a next hop that achieved nothing and is left alone for a while, rather than about
    a transaction that was not reached.
    """
    run = _Run(standing, route, terms, now, is_open)
    match outcome:
        case Delivered():
            return run.delivered(outcome)
        case Deferred():
            return run.temporary(outcome.status, outcome.reason)
        case Failed():
            return run.refused(outcome)
        case NotTried():
            return run.given_up(outcome) if hop_given_up or route is None else run.again(outcome)
        case _:
            assert_never(outcome)


def _is_unfit(outcome: Failed) -> bool:
    """Whether the next hop cannot carry the message, as far as it has announced that; its own refusal is final."""
    enhanced = outcome.status.enhanced
    return enhanced == _NEEDS_SMTPUTF8 or (enhanced == _TOO_BIG and not outcome.said_by_peer)


def end_run(standing: Standing, terms: Terms, now: datetime) -> Settlement:
    """What follows when routes were tried in this run and none of those left can be used: the wait begins."""
    return _Run(standing, None, terms, now).wait(standing.status, standing.reason, spent=False)


@frozen
class _Run:
    """One attempt that has ended, and what is known about it."""

    standing: Standing
    route: Route | None
    terms: Terms
    now: datetime
    is_open: Callable[[str], bool] = lambda name: False

    def delivered(self, outcome: Delivered) -> Settlement:
        report = _SUCCESS_REPORTS.get(outcome.handover) if self.standing.wants(Notify.SUCCESS) else None
        reason = outcome.reason or str(outcome.status)
        return Settlement(Next.DELIVERED, reason, self.standing.route_class, True, outcome.status, report=report)

    def refused(self, outcome: Failed) -> Settlement:
        """A permanent answer, unless it is none about this recipient or message: then it was our mistake."""
        if outcome.culprit not in _REFUSERS or not outcome.status.is_permanent:
            return self.temporary(LOCAL_ERROR.with_text(outcome.reason), outcome.reason)
        if outcome.culprit is Culprit.SENDER or _is_unfit(outcome):
            return self.next_route(outcome.status, outcome.reason) or self.failed(outcome.status, outcome.reason)
        return self.failed(outcome.status, outcome.reason)

    def given_up(self, outcome: NotTried) -> Settlement:
        """The next hop could not be used. In direct delivery that is the recipient's domain's own trouble."""
        culprit, reason = outcome.culprit, outcome.reason
        if self.route and self.route.fails_on_connect_error and culprit in _NO_CONNECTION:
            return self.failed(Status(554, "5.4.1", reason), reason)
        is_own_trouble = self.route is None or (self.route.way is Way.DIRECT and culprit is not Culprit.LINK)
        if is_own_trouble:
            return self.temporary(Status(451, _HOP_CODES.get(culprit, "4.3.0"), reason), reason)
        if self.standing.route_class.tried and not self.has_open_route():
            return self.wait(self.standing.status, reason, spent=False)
        return self.again(outcome)

    def again(self, outcome: NotTried) -> Settlement:
        """Nothing happened: due as soon as this route or a later one can be used."""
        return Settlement(Next.QUEUED, outcome.reason, self.standing.route_class, False)

    def temporary(self, status: Status, reason: str) -> Settlement:
        return self.next_route(status, reason) or self.wait(status, reason, spent=True)

    def next_route(self, status: Status, reason: str) -> Settlement | None:
        """On to a later route in the same run, if one can be used."""
        if self.route is None or not self.has_open_route():
            return None
        route_class = self.standing.route_class
        moved = replace(route_class, tried=route_class.tried | {self.route.name})
        return Settlement(Next.QUEUED, f"{reason}; the next route is tried", moved, True, status)

    def has_open_route(self) -> bool:
        """Whether another route of the class could take the recipient in this run."""
        if self.route is None or self.route.last:
            return False
        others = (name for name in self.standing.route_class.remaining() if name != self.route.name)
        return any(self.is_open(name) for name in others)

    def wait(self, status: Status | None, reason: str, *, spent: bool) -> Settlement:
        """The end of a run without success: wait, warn when it is time to, or give up."""
        standing, lifetime = self.standing, self.terms.lifetime
        if lifetime.is_over(standing.age):
            text = f"given up after {show_duration(standing.age)} of trying; the last answer was: {reason}"
            return self.failed(LIFETIME_EXPIRED.with_text(text), text, spent=spent)
        due = self.now + self.terms.retry.wait_after(standing.attempts + spent)
        warnings = lifetime.warnings_due(standing.age)
        is_warned = warnings > standing.warned and standing.wants(Notify.DELAY)
        return Settlement(
            Next.DEFERRED,
            reason,
            standing.route_class.fresh(),
            spent,
            status,
            due,
            report=Report.DELAYED if is_warned else None,
            warned=warnings if is_warned else None,
        )

    def failed(self, status: Status, reason: str, *, spent: bool = True) -> Settlement:
        report = Report.FAILED if self.standing.wants(Notify.FAILURE) else None
        return Settlement(Next.FAILED, reason, self.standing.route_class, spent, status, report=report)


def show_duration(duration: timedelta) -> str:
    """A duration in its biggest unit, for people: "5 days", "4 hours"."""
    seconds = int(duration.total_seconds())
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if count := seconds // unit:
            return f"{count} {name}" if count == 1 else f"{count} {name}s"
    return "less than a minute"
