"""What the daemon knows, as the documents of `INTERFACE`: the JSON of status, queue and log.

Reasons are made here for what waits: they say what the recipient waits for *now*, from the links and pauses of this
moment. What is stored with a recipient is only the reason of its last attempt.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from masqmail.config.routes import RouteSection
from masqmail.daemon.pauses import Pauses
from masqmail.daemon.rules import Rules
from masqmail.daemon.scheduler import Scheduler
from masqmail.mail.address import show_path
from masqmail.routing.decide import Considered, waits_for
from masqmail.routing.link import Verdict
from masqmail.routing.route import LOCAL_ROUTE, QUEUE_ONLY, Route, RouteClass, Way
from masqmail.spool.api import Counts, HistoryEntry, QueuedMessage, StoredRecipient, TargetKind
from masqmail.spool.states import State

Document = dict[str, object]


def instant(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


class _Judgement(NamedTuple):
    """What the recipients of a class wait for: the route, the reason, and when a pause ends that they wait for."""

    route: str
    reason: str
    next_try: datetime | None = None


class QueueView:
    """Messages as documents. Each class is judged once per listing, however many recipients it has."""

    def __init__(self, scheduler: Scheduler, now: datetime) -> None:
        self._scheduler = scheduler
        self._now = now
        self._judged: dict[RouteClass, _Judgement] = {}

    def message(self, queued: QueuedMessage) -> Document:
        message = queued.message
        return {
            "id": message.queue_id,
            "sender": show_path(message.reverse_path),
            "size": message.size_bytes,
            "received_at": instant(message.received_at),
            "received_from": message.received_from,
            "priority": message.priority,
            "recipients": [self._recipient(recipient) for recipient in queued.recipients],
        }

    def _recipient(self, recipient: StoredRecipient) -> Document:
        route, reason = self._where(recipient)
        return {
            "address": self._address(recipient),
            "original": recipient.original,
            "state": self._state(recipient).value,
            "route": route,
            "attempts": recipient.attempts,
            "last_attempt_at": instant(recipient.last_attempt_at),
            "next_attempt_at": instant(self._next_attempt(recipient)),
            "last_status": str(recipient.last_status) if recipient.last_status else None,
            "reason": reason,
        }

    def _state(self, recipient: StoredRecipient) -> State:
        """Queued is also what is being sent now, and what was deferred and has waited its time."""
        is_due = recipient.due is None or recipient.due <= self._now
        if recipient.state is State.LEASED or (recipient.state is State.DEFERRED and is_due):
            return State.QUEUED
        return recipient.state

    def _address(self, recipient: StoredRecipient) -> str:
        """The target: for a mailbox of this host the address that leads to it."""
        if recipient.kind not in (TargetKind.MAILBOX, TargetKind.USER):
            return recipient.target
        if not recipient.source:
            return recipient.original
        return f"{recipient.target}@{self._scheduler.rules.host_name}"

    def _next_attempt(self, recipient: StoredRecipient) -> datetime | None:
        """When it is due, or when the pause ends that it waits for; None when that depends on something else."""
        match self._state(recipient):
            case State.DEFERRED:
                return recipient.due
            case State.QUEUED if recipient.state is not State.LEASED:
                return self._judge(recipient.route_class).next_try
            case _:
                return None

    def _where(self, recipient: StoredRecipient) -> tuple[str | None, str]:
        """The route and the reason a recipient is where it is."""
        if recipient.state is State.LEASED:
            return self._judge(recipient.route_class).route or recipient.last_route or None, "being sent now"
        if self._state(recipient) is not State.QUEUED:
            return recipient.last_route or self._judge(recipient.route_class).route or None, recipient.reason
        route, reason, _ = self._judge(recipient.route_class)
        if recipient.reason and recipient.reason not in reason:
            reason = f"{reason}; before: {recipient.reason}"
        return route or None, reason

    def _judge(self, route_class: RouteClass) -> _Judgement:
        if route_class not in self._judged:
            self._judged[route_class] = self._judge_anew(route_class)
        return self._judged[route_class]

    def _judge_anew(self, route_class: RouteClass) -> _Judgement:
        if route_class.routes and route_class.mark == QUEUE_ONLY:
            return _Judgement(route_class.routes[0], "waits until somebody flushes the queue")
        if route_class.is_local:
            return _Judgement(LOCAL_ROUTE, "due for local delivery")
        if not self._scheduler.rules.routes:
            return _Judgement("", "no route to other hosts is configured")
        if not route_class.routes:
            return _Judgement("", "no route is meant for it (`masqmail explain` says why)")
        choice = self._scheduler.choice(route_class)
        if choice.route is not None:
            return _Judgement(choice.route.name, f"due over route {choice.route.name}")
        reason = _waits_for(choice.considered, self._scheduler.rules)
        return _Judgement(route_class.routes[0], reason, self._scheduler.next_try(route_class))


def _waits_for(considered: Sequence[Considered], rules: Rules) -> str:
    """What has to happen so that one of these routes can be used."""
    *others, last = considered
    route = rules.route(last.route)
    if route is None or route.way is not Way.ODMR:
        return "waits for " + "; ".join(f"route {item.route}, {item.reason}" for item in considered)
    before = "".join(f"; route {item.route}, {item.reason}" for item in others)
    return f"{last.reason.removeprefix('it ')} (route {last.route}){before}"


def message_with_history(queued: QueuedMessage, view: QueueView, history: Iterable[HistoryEntry]) -> Document:
    """One message with all that happened to it."""
    return {**view.message(queued), "history": [history_entry(entry) for entry in history]}


def history_entry(entry: HistoryEntry) -> Document:
    return {
        "at": instant(entry.at),
        "id": entry.queue_id,
        "event": entry.event,
        "recipient": entry.recipient,
        "route": entry.route,
        "host": entry.remote_host,
        "status": entry.status,
        "text": entry.text,
    }


def link(verdict: Verdict) -> Document:
    return {
        "name": verdict.link,
        "state": verdict.state.value,
        "source": verdict.source.value,
        "reason": verdict.reason,
        "since": instant(verdict.since),
    }


def counts(found: Counts) -> Document:
    return {
        "messages": found.messages,
        "recipients": found.recipients,
        "held": found.held,
        "deferred": found.deferred,
        "bytes": found.bytes,
        "oldest_at": instant(found.oldest_at),
    }


def routes(
    scheduler: Scheduler, pauses: Pauses, classes: dict[RouteClass, int], verdict_of: Callable[[str], Verdict | None]
) -> list[Document]:
    """Every route with its state: ready, waiting for a link, or paused."""
    queued: dict[str, int] = {}
    for route_class, count in classes.items():
        choice = scheduler.choice(route_class).route if not route_class.is_local else None
        name = choice.name if choice else (route_class.routes[0] if route_class.routes else "")
        queued[name] = queued.get(name, 0) + count
    return [
        _route(route, scheduler, pauses, queued.get(route.name, 0), verdict_of) for route in scheduler.rules.routes
    ]


def _route(
    route: Route, scheduler: Scheduler, pauses: Pauses, queued: int, verdict_of: Callable[[str], Verdict | None]
) -> Document:
    verdicts = [verdict for name in route.links if (verdict := verdict_of(name))]
    up = next((verdict for verdict in verdicts if verdict.is_up), None)
    pause = pauses.of_route(route.name, scheduler.rules.next_hop_names(route))
    until = None
    if route.way is Way.ODMR:
        is_here = scheduler.has_link(route)
        state = "ready" if is_here else "waiting"
        reason = f"{route.user} is fetching what waits" if is_here else waits_for(route).removeprefix("it ")
    elif up is None:
        state, reason = "waiting", "; ".join(f"link {item.link}: {item.reason}" for item in verdicts)
    elif pause is not None:
        state, reason, until = "paused", pause.reason, instant(pauses.ends_at(pause))
    else:
        state, reason = "ready", f"link {up.link} is up"
    return {"name": route.name, "state": state, "reason": reason, "queued": queued, "next_attempt_at": until}


def with_routes(accounts: Iterable[Document], routes: Iterable[RouteSection]) -> list[Document]:
    """Fetch accounts that also say which routes log in to them before they send."""
    users: dict[str | None, list[str]] = {}
    for route in routes:
        users.setdefault(route.pop_before_smtp, []).append(route.name)
    return [_with_users(account, users.get(str(account["name"]), [])) for account in accounts]


def _with_users(account: Document, routes: list[str]) -> Document:
    if not routes:
        return account
    before = f"it is logged in to before mail is sent over {', '.join(routes)}"
    return {**account, "reason": f"{account['reason']}; {before}"}
