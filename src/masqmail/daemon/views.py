"""What the daemon knows, as the documents of `INTERFACE`: the JSON of status, queue and log.

Reasons are made here for what waits: they say what the recipient waits for *now*, from the links and pauses of this
moment. What is stored with a recipient is only the reason of its last attempt.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

from masqmail.config.model import Configuration
from masqmail.daemon.pauses import Pauses
from masqmail.daemon.scheduler import Scheduler
from masqmail.mail.address import show_path
from masqmail.routing.link import Verdict
from masqmail.routing.route import LOCAL_ROUTE, QUEUE_ONLY, Route, RouteClass
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

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
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
        state = State.QUEUED if recipient.state is State.LEASED else recipient.state
        return {
            "address": self._address(recipient),
            "original": recipient.original,
            "state": state.value,
            "route": route,
            "attempts": recipient.attempts,
            "last_attempt_at": instant(recipient.last_attempt_at),
            "next_attempt_at": instant(self._next_attempt(recipient)),
            "last_status": str(recipient.last_status) if recipient.last_status else None,
            "reason": reason,
        }

    def _address(self, recipient: StoredRecipient) -> str:
        """The target: for a mailbox of this host the address that leads to it."""
        if recipient.kind not in (TargetKind.MAILBOX, TargetKind.USER):
            return recipient.target
        if not recipient.source:
            return recipient.original
        return f"{recipient.target}@{self._scheduler.rules.host_name}"

    def _next_attempt(self, recipient: StoredRecipient) -> datetime | None:
        """When it is due, or when the pause ends that it waits for; None when that depends on something else."""
        if recipient.state is State.DEFERRED:
            return recipient.due
        return self._judge(recipient.route_class).next_try if recipient.state is State.QUEUED else None

    def _where(self, recipient: StoredRecipient) -> tuple[str | None, str]:
        """The route and the reason a recipient is where it is."""
        if recipient.state is State.LEASED:
            return self._judge(recipient.route_class).route or recipient.last_route or None, "being sent now"
        if recipient.state is not State.QUEUED:
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
        reasons = [f"route {item.route}, {item.reason}" for item in choice.considered]
        reason = "waits for " + "; ".join(reasons)
        return _Judgement(route_class.routes[0], reason, self._scheduler.next_try(route_class))


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
    if up is None:
        state, reason = "waiting", "; ".join(f"link {item.link}: {item.reason}" for item in verdicts)
    elif pause is not None:
        state, reason, until = "paused", pause.reason, instant(pause.ends_at)
    else:
        state, reason = "ready", f"link {up.link} is up"
    return {"name": route.name, "state": state, "reason": reason, "queued": queued, "next_attempt_at": until}


def fetch_accounts(configuration: Configuration) -> list[Document]:
    """Every fetch account. None is fetched in this version, and each says so."""
    return [_fetch_account(name, configuration) for name in configuration.fetch]


def _fetch_account(name: str, configuration: Configuration) -> Document:
    reason = "fetching is not supported yet in this version"
    routes = [route.name for route in configuration.routes.values() if route.pop_before_smtp == name]
    if routes:
        reason += f"; it is logged in to before mail is sent over {', '.join(routes)}"
    return {"name": name, "state": "unsupported", "reason": reason, "last_at": None, "next_at": None}
