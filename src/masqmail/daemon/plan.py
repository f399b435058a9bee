"""The dry run behind `masqmail explain`, with the running daemon's knowledge or without any daemon."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import anyio

from masqmail.config.model import Configuration
from masqmail.daemon.directory import Directory
from masqmail.daemon.views import Document
from masqmail.links import DETECTORS
from masqmail.links.board import ask_safely
from masqmail.mail.address import AddressError, Mailbox, parse_mailbox, show_path
from masqmail.routing.decide import MessageFacts
from masqmail.routing.explain import Ways, explain
from masqmail.routing.link import ALWAYS, LinkState, Source, Verdict
from masqmail.routing.route import Route, Way
from masqmail.system.clock import Clock, SystemClock


def plan_for(
    address: str, sender: str, directory: Directory, links: Mapping[str, Verdict], paused: Mapping[str, str]
) -> Document:
    """What would happen to mail for this address; `<>` is the null sender, an empty one the postmaster.

    Raises `ValueError` when address or sender is none.
    """
    rules = directory.rules
    reverse_path = None if sender == "<>" else _mailbox(sender) if sender else rules.postmaster
    if reverse_path is not None:
        reverse_path = rules.local.qualify(reverse_path)

    def next_hop(route: Route, recipient: Mailbox) -> str:
        if route.way is Way.DIRECT:
            return f"the mail servers of {recipient.domain}"
        if route.way is Way.ODMR:
            return route.user
        if route.way is Way.PIPE:
            return rules.programs[route.name].command[0]
        return ", ".join(directory.rules.next_hop_names(route))

    facts = MessageFacts(reverse_path, (reverse_path,) if reverse_path else (), 0)
    ways = Ways(rules.routes, links, paused, next_hop)
    found = explain(_mailbox(address), facts, directory.book(), ways).to_json()
    return {"address": found.pop("address"), "sender": show_path(reverse_path), **found}


def _mailbox(text: str) -> Mailbox:
    try:
        return parse_mailbox(text)
    except AddressError as error:
        raise ValueError(f"{text!r} is no address: {error}") from None


def supposed_links(configuration: Configuration, up: Collection[str]) -> dict[str, Verdict]:
    """Verdicts by which exactly these links are up. Raises `ValueError` for a link there is not."""
    for name in up:
        if name not in configuration.links:
            raise ValueError(f"there is no link {name!r}; there are {', '.join(configuration.links)}")
    now = datetime.now(UTC)

    def verdict(name: str) -> Verdict:
        if name in up or name == ALWAYS:
            return Verdict(name, LinkState.UP, "as supposed", now, Source.MANUAL)
        return Verdict(name, LinkState.DOWN, "as supposed, since --link does not name it", now, Source.MANUAL)

    return {name: verdict(name) for name in configuration.links}


def observed_links(configuration: Configuration) -> dict[str, Verdict]:
    """Verdicts from asking every detector once."""
    return anyio.run(_ask_detectors, configuration, SystemClock())


async def _ask_detectors(configuration: Configuration, clock: Clock) -> dict[str, Verdict]:
    found: dict[str, Verdict] = {}

    async def ask(name: str) -> None:
        link = configuration.links[name]
        answer = await ask_safely(name, DETECTORS[link.detect](name, link.options, clock))
        found[name] = Verdict(name, answer.state, answer.reason, clock.now())

    async with anyio.create_task_group() as group:
        for name in configuration.links:
            group.start_soon(ask, name)
    return {name: found[name] for name in configuration.links}


def told_links(document: list[dict[str, str]]) -> dict[str, Verdict]:
    """Verdicts from the daemon's `/v1/link`."""
    return {
        link["name"]: Verdict(
            link["name"],
            LinkState(link["state"]),
            link["reason"],
            datetime.fromisoformat(link["since"]),
            Source(link["source"]),
        )
        for link in document
    }
