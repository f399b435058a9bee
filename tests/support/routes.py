"""Short ways to write the values of routing down."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.routing.decide import MessageFacts
from masqmail.routing.link import LinkState, Verdict
from masqmail.routing.local import LocalDomains
from masqmail.routing.route import Conditions, Rewriting, Route, Way
from masqmail.settings import Pattern

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

LOCAL = LocalDomains(
    host_name="gateway.home.example",
    domains=("localhost", "gateway.home.example", "home.example", "*.lan"),
    local_addresses=(Pattern("bob@isp.example"),),
    not_local_addresses=(Pattern("eric@home.example"),),
    recipient_delimiter="+",
)


def path(text: str) -> Mailbox | None:
    """A reverse-path; `<>` is the null one."""
    return None if text == "<>" else parse_mailbox(text)


def patterns(*texts: str) -> tuple[Pattern, ...]:
    return tuple(map(Pattern, texts))


def route(
    name: str,
    links: Sequence[str] = ("dsl",),
    *,
    way: Way = Way.SMARTHOST,
    last: bool = False,
    rewriting: Rewriting | None = None,
    **conditions: tuple[Pattern, ...] | int,
) -> Route:
    """A route; further keywords are its conditions."""
    return Route(
        name,
        tuple(links),
        way,
        replace(Conditions(), **conditions),
        rewriting or Rewriting(),
        last=last,
    )


def facts(reverse_path: str = "john@home.example", *from_addresses: str, size_bytes: int = 1000) -> MessageFacts:
    return MessageFacts(path(reverse_path), tuple(map(parse_mailbox, from_addresses)), size_bytes)


def verdict(link: str, state: LinkState = LinkState.UP, reason: str = "carrier on ppp0") -> Verdict:
    return Verdict(link, state, reason, NOW)
