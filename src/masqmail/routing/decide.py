"""Which way a recipient takes now, and why: routes, their conditions, links and pauses in; a choice out.

`classify` asks what does not change while a message waits (its conditions), `choose` what does (links, pauses).
Every route passed over has a reason in words for `masqmail queue show` and `masqmail explain`.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox, show_path
from masqmail.routing.link import ALWAYS, LinkState, Verdict
from masqmail.routing.pattern import first_match, is_about_domains
from masqmail.routing.route import Route, RouteClass, Way
from masqmail.settings import Pattern

#: So many answers a classifier remembers; when there are more it begins anew.
MAX_REMEMBERED = 4096


class MessageFacts(NamedTuple):
    """What conditions ask about a message: addresses as received, before any rewriting."""

    reverse_path: Mailbox | None
    from_mailboxes: tuple[Mailbox, ...]
    size_bytes: int


@frozen
class Considered:
    """One route, whether it is taken, and why or why not."""

    route: str
    taken: bool
    reason: str


@frozen
class Choice:
    """The route to use now with the link it goes over, or None; and the routes looked at, in order."""

    route: Route | None
    link: str
    considered: tuple[Considered, ...]

    @property
    def reason(self) -> str:
        """Why this choice, in one line."""
        if not self.considered:
            return "no route is meant for it: their conditions exclude this recipient or message"
        if self.route is not None:
            return f"{self.route.name}: {self.considered[-1].reason}"
        return "; ".join(f"{one.route}: {one.reason}" for one in self.considered)


def judge(route: Route, facts: MessageFacts, recipient: Mailbox) -> str | None:
    """Why a route is not meant for this recipient of this message, or None when all conditions hold."""
    conditions = route.conditions
    senders = (facts.reverse_path,)
    return (
        _judge_addresses("sender", "senders", senders, conditions.senders, conditions.not_senders)
        or _judge_addresses("recipient", "recipients", (recipient,), conditions.recipients, conditions.not_recipients)
        or _judge_addresses(
            "From", "from_headers", facts.from_mailboxes, conditions.from_headers, conditions.not_from_headers
        )
        or _judge_size(facts.size_bytes, conditions.max_size_bytes)
    )


def classify(facts: MessageFacts, recipient: Mailbox, routes: Sequence[Route], generation: str) -> RouteClass:
    """Every route that is meant for this recipient of this message, in order, whatever the links do now."""
    names = tuple(route.name for route in routes if judge(route, facts, recipient) is None)
    return RouteClass(names, generation=generation)


class Classifier:
    """`classify` for one configuration, which remembers what it found.

    Messages that differ only in what no route asks about have the same answer: of the size it matters which bounds
    it keeps, of an address its domain where no pattern names a local-part.
    """

    def __init__(self, routes: Sequence[Route], generation: str) -> None:
        conditions = [route.conditions for route in routes]
        self._routes = tuple(routes)
        self._generation = generation
        self._bounds = sorted({one.max_size_bytes for one in conditions if one.max_size_bytes is not None})
        self._sender = _what_matters(pattern for one in conditions for pattern in (*one.senders, *one.not_senders))
        self._recipient = _what_matters(
            pattern for one in conditions for pattern in (*one.recipients, *one.not_recipients)
        )
        self._known: dict[tuple[object, ...], RouteClass] = {}

    def classify(self, facts: MessageFacts, recipient: Mailbox, mark: str = "") -> RouteClass:
        """Every route that is meant for this recipient of this message, in order, whatever the links do now."""
        key = (
            self._sender(facts.reverse_path),
            self._recipient(recipient),
            facts.from_mailboxes,  # empty unless a route asks
            bisect_left(self._bounds, facts.size_bytes),
            mark,
        )
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            found = classify(facts, recipient, self._routes, self._generation)
            found = self._known[key] = found.marked(mark) if mark else found
        return found


def _what_matters(patterns: Iterable[Pattern]) -> Callable[[Mailbox | None], object]:
    """What these patterns ask of an address: nothing, its domain, or all of it."""
    patterns = tuple(patterns)
    if not patterns:
        return lambda mailbox: None
    if is_about_domains(patterns):
        return lambda mailbox: mailbox and mailbox.domain_key
    return lambda mailbox: mailbox


def choose(
    route_class: RouteClass,
    routes: Mapping[str, Route],
    links: Mapping[str, Verdict],
    paused: Mapping[str, str],
) -> Choice:
    """The first route of the class, not tried in this run, whose link is up and which is not paused.

    `paused` has the reason by a route's name. A route with `last` that is paused ends the search: no later one
    may take its place (a link that is down does not, since nothing failed there). So does one whose user has to
    fetch the mail: what waits for him goes nowhere else.
    """
    considered = []
    for name in route_class.routes:
        route = routes.get(name)
        if route is None:
            considered.append(Considered(name, False, "it is not configured any more"))
            continue
        if name in route_class.tried:
            considered.append(Considered(name, False, "already tried in this run"))
            continue
        link, reason = _link_of(route, links)
        if link and (pause := paused.get(name)) is not None:
            note = "; it is the last: no later route is tried" if route.last else ""
            considered.append(Considered(name, False, f"paused: {pause}{note}"))
            if route.last:
                break
            continue
        considered.append(Considered(name, bool(link), reason))
        if link:
            return Choice(route, link, tuple(considered))
        if route.way is Way.ODMR:
            break
    return Choice(None, "", tuple(considered))


def consider(
    facts: MessageFacts,
    recipient: Mailbox,
    routes: Sequence[Route],
    links: Mapping[str, Verdict],
    paused: Mapping[str, str],
) -> Choice:
    """The choice for a message not yet in the queue, with every route up to the one taken among the considered."""
    choice = choose(classify(facts, recipient, routes, ""), {route.name: route for route in routes}, links, paused)
    open_ones = {one.route: one for one in choice.considered}
    considered = []
    for route in routes:
        unfit = judge(route, facts, recipient)
        if unfit is not None:
            considered.append(Considered(route.name, False, unfit))
        elif route.name in open_ones:
            considered.append(open_ones[route.name])
        if choice.route is route:
            break
    return Choice(choice.route, choice.link, tuple(considered))


def is_usable(
    route_class: RouteClass, routes: Mapping[str, Route], links: Mapping[str, Verdict], paused: Mapping[str, str]
) -> bool:
    """Whether time counts for recipients of this class: one of its routes could take them, tried or not.

    Local delivery always can.
    """
    return route_class.is_local or choose(route_class.fresh(), routes, links, paused).route is not None


def _link_of(route: Route, links: Mapping[str, Verdict]) -> tuple[str, str]:
    """The first of a route's links that is up, or an empty name, with the reason."""
    if ALWAYS in route.links:
        return ALWAYS, "it needs no link"
    if route.way is Way.ODMR:
        verdict = links.get(route.links[0])
        return (route.links[0], verdict.reason) if verdict and verdict.is_up else ("", waits_for(route))
    reasons = []
    for name in route.links:
        verdict = links.get(name)
        if verdict is None:
            reasons.append(f"link {name} is not known yet")
        elif verdict.is_up:
            return name, f"link {name} is up: {verdict.reason}"
        elif verdict.state is LinkState.UNKNOWN:
            reasons.append(f"link {name} is not known to be up: {verdict.reason}")
        else:
            reasons.append(f"link {name} is down: {verdict.reason}")
    return "", ", ".join(reasons)


def waits_for(route: Route) -> str:
    """Why mail stays that its user has to fetch."""
    return f"it waits until {route.user} fetches it with ATRN"


def _judge_addresses(
    what: str,
    setting: str,
    mailboxes: Sequence[Mailbox | None],
    allowed: tuple[Pattern, ...],
    denied: tuple[Pattern, ...],
) -> str | None:
    """Why these addresses do not fit: one is denied, or none of them is allowed where only some are.

    No address at all, as in a From that cannot be read, gets round neither list.
    """
    if not mailboxes and (denied or allowed):
        return f"the message has no {what} address, and {setting if allowed else 'not_' + setting} asks for one"
    if denied:
        for mailbox in mailboxes:
            if (pattern := first_match(denied, mailbox)) is not None:
                return f"{what} {show_path(mailbox)} is in not_{setting} ({pattern})"
    if not allowed or any(first_match(allowed, mailbox) is not None for mailbox in mailboxes):
        return None
    return f"{what} {', '.join(map(show_path, mailboxes[:3]))} is not in {setting}"


def _judge_size(size_bytes: int, max_size_bytes: int | None) -> str | None:
    if max_size_bytes is None or size_bytes <= max_size_bytes:
        return None
    return f"the message has {_show_size(size_bytes)}, max_size is {_show_size(max_size_bytes)}"


def _show_size(size_bytes: int) -> str:
    """A size as the configuration writes it, with a decimal place where that tells more."""
    for unit, name in ((1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "KB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f}".removesuffix(".0") + name
    return f"{size_bytes} bytes"
