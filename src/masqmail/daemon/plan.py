"""The dry run behind `masqmail explain`, with the running daemon's knowledge or without any daemon."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from masqmail.config.model import Configuration
from masqmail.daemon.directory import Directory
from masqmail.daemon.views import Document
from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.routing.decide import MessageFacts
from masqmail.routing.explain import Ways, explain
from masqmail.routing.link import ALWAYS, LinkState, Source, Verdict
from masqmail.routing.route import Route, Way


def plan_for(
    address: str, sender: str, directory: Directory, links: Mapping[str, Verdict], paused: Mapping[str, str]
) -> Document:
    """What would happen to mail for this address. Raises `ValueError` when address or sender is none."""
    rules = directory.rules
    reverse_path = None if sender == "<>" else parse_mailbox(sender) if sender else rules.postmaster
    if reverse_path is not None:
        reverse_path = rules.local.qualify(reverse_path)

    def next_hop(route: Route, recipient: Mailbox) -> str:
        if route.way is Way.DIRECT:
            return f"the mail servers of {recipient.domain}"
        return ", ".join(directory.rules.next_hop_names(route))

    facts = MessageFacts(reverse_path, (reverse_path,) if reverse_path else (), 0)
    ways = Ways(rules.routes, links, paused, next_hop)
    return explain(parse_mailbox(address), facts, directory.book(), ways).to_json()


def plan_alone(
    configuration: Configuration, directory: Directory, address: str, sender: str, up: Collection[str]
) -> Document:
    """The same with exactly these links up. Raises `ValueError` for a link there is not."""
    for name in up:
        if name not in configuration.links:
            raise ValueError(f"there is no link {name!r}; there are {', '.join(configuration.links)}")
    now = datetime.now(UTC)
    links = {
        name: Verdict(
            name,
            LinkState.UP if name in up or name == ALWAYS else LinkState.DOWN,
            "as you said" if name in up else "you did not say that it is up",
            now,
            Source.MANUAL,
        )
        for name in configuration.links
    }
    return plan_for(address, sender, directory, links, {})
