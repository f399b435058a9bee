"""Direct delivery: the hosts that take a domain's mail, one after the other. RFC 5321 §5.1.

Trouble with a domain is that domain's alone: what is waiting for it is deferred or failed here, and spends an
attempt.
"""

import ipaddress
from collections.abc import Collection, Container, Sequence
from enum import Enum

from masqmail.delivery.connect import Memory, Options
from masqmail.delivery.job import Feed
from masqmail.delivery.smtp import SessionEnd, send
from masqmail.frozen import frozen
from masqmail.mail.outcome import Culprit, Deferred, Failed
from masqmail.mail.status import Status
from masqmail.net.dns import MailExchanger, Resolver
from masqmail.net.errors import NameFailure, NameNotFound, NoAddress, NullMx
from masqmail.settings import HostPort

SMTP_PORT = 25
MAX_CONNECTIONS = 10  # RFC 5321 §5.1 wants at least two addresses tried, and a limit
BATCH = 64
BATCH_BYTES = 1 << 20

_NULL_MX = Status(556, "5.1.10", "The domain takes no mail")  # RFC 7505 §4.3
_NO_SUCH_DOMAIN = Status(550, "5.1.2", "The domain does not exist")  # RFC 3463 §3.2
_LOOP = Status(554, "5.4.6", "The best mail exchanger of the domain is this host")  # RFC 5321 §5.1
_UNANSWERED = {
    Culprit.NAME: Status(451, "4.4.3", "The domain could not be looked up"),
    Culprit.CONNECTION: Status(451, "4.4.1", "No mail exchanger could be reached"),
    Culprit.TLS: Status(451, "4.7.5", "No mail exchanger could be reached safely"),
}
_OTHER_TROUBLE = Status(451, "4.4.0", "No mail exchanger takes mail now")


class Source(Enum):
    """Where the hosts of a domain are looked for."""

    MX = "mx"
    A = "a"  # A and AAAA: with MX before it the implicit MX of RFC 5321 §5.1
    HOSTS = "hosts"  # the system's look-up, which also has /etc/hosts


class _NoRoute(Exception):
    """Nobody can be asked to take the domain's mail; `outcome` is for each of its recipients."""

    def __init__(self, outcome: Deferred | Failed) -> None:
        self.outcome = outcome


@frozen
class OwnHost:
    """How we recognise ourselves among the mail exchangers of a domain."""

    names: Collection[str] = ()
    addresses: Container[str] = ()

    def is_at(self, host: str, addresses: Sequence[str]) -> bool:
        is_named = any(host.lower() == name.lower() for name in self.names)
        return is_named or any(address in self.addresses for address in addresses)


async def send_direct(
    domain: str,
    options: Options,
    resolver: Resolver,
    feed: Feed,
    memory: Memory,
    *,
    own_host: OwnHost,
    sources: Sequence[Source] = (Source.MX, Source.A),
    fails_on_connect_error: bool = False,
    port: int = SMTP_PORT,
) -> SessionEnd:
    """Sends what is waiting for a domain to the best of its hosts that takes it.

    The hosts come from the first of `sources` that knows any. With `fails_on_connect_error` a domain none of whose
    hosts is known or can be connected to fails at once.
    When none does, every transaction of the feed is settled for that reason; the end that is returned has no
    culprit then, for there is no next hop to pause.
    """
    try:
        hosts = await _find_hosts(domain, resolver, own_host, sources)
    except _NoRoute as no_route:
        outcome = no_route.outcome
        if fails_on_connect_error and outcome.culprit is Culprit.NAME:
            outcome = _failed(outcome)
        return await _settle_all(feed, outcome)
    culprits = set()
    for host, address in hosts[:MAX_CONNECTIONS]:
        next_hop = HostPort(host, port)
        end = await send(next_hop, options, feed, memory, address=HostPort(address, port))
        if end.is_ok or end.progress:
            return end
        culprits.add(end.culprit)
    unanswered = _unanswered(str(next_hop), end)
    is_final = fails_on_connect_error and culprits <= {Culprit.NAME, Culprit.CONNECTION}
    return await _settle_all(feed, _failed(unanswered) if is_final else unanswered)


def _failed(outcome: Deferred | Failed) -> Failed:
    """The same trouble where the configuration says that it fails a recipient."""
    status = Status(554, "5.4.1", outcome.reason)  # RFC 3463 §3.5
    return Failed(status, Culprit.RECIPIENT, outcome.reason, outcome.remote_host)


def _unanswered(next_hop: str, end: SessionEnd) -> Deferred:
    """What it means that the last host could not be used, either. Its own words are kept if they leave hope."""
    assert end.culprit is not None
    if end.status is not None and end.status.is_temporary:
        return Deferred(end.status, end.culprit, end.reason, next_hop, said_by_peer=True)
    return Deferred(_UNANSWERED.get(end.culprit, _OTHER_TROUBLE), end.culprit, end.reason, next_hop)


async def _find_hosts(
    domain: str, resolver: Resolver, own_host: OwnHost, sources: Sequence[Source]
) -> list[tuple[str, str]]:
    """Whom to ask, as (name, address), the best first. Raises `_NoRoute`.

    A source is asked when those before it know nothing of the domain. Trouble with one ends the search: who is
    found then might be the wrong host (RFC 5321 §5.1).
    """
    if domain.startswith("["):
        literal = _literal(domain)
        return [(literal, literal)]
    missing: NameNotFound | None = None
    for source in sources:
        try:
            if found := await _ask(source, domain, resolver, own_host):
                return found
        except NameNotFound as error:
            missing = missing or error
        except NoAddress:
            continue
        except NullMx as error:
            raise _NoRoute(Failed(_NULL_MX, Culprit.RECIPIENT, error.reason)) from None
        except NameFailure as error:
            raise _later(error.reason) from None
    if missing is None:
        raise _later(f"no host is known for {domain} (asked for: {', '.join(source.value for source in sources)})")
    if await resolver.is_hijacked():
        raise _later(f"{missing.reason}, says a resolver that is not to be trusted now")
    raise _NoRoute(Failed(_NO_SUCH_DOMAIN, Culprit.RECIPIENT, missing.reason))


async def _ask(source: Source, domain: str, resolver: Resolver, own_host: OwnHost) -> list[tuple[str, str]]:
    """What one source knows; nothing for a domain without MX records."""
    match source:
        case Source.MX:
            exchangers = (await resolver.mail_exchangers(domain)).exchangers
            return await _exchanger_hosts(domain, exchangers, resolver, own_host) if exchangers else []
        case Source.A:
            addresses = await resolver.address_records(domain)
        case Source.HOSTS:
            addresses = await resolver.addresses(domain)
    if own_host.is_at(domain, addresses):
        raise _loop(domain, domain)
    return [(domain, address) for address in addresses]


async def _exchanger_hosts(
    domain: str, exchangers: Sequence[MailExchanger], resolver: Resolver, own_host: OwnHost
) -> list[tuple[str, str]]:
    """The addresses of all mail exchangers that are better than this host, as it may be one of them."""
    found: list[tuple[MailExchanger, str]] = []
    trouble = ""
    for exchanger in exchangers:
        fault, addresses = "", list[str]()
        try:
            addresses = await resolver.addresses(exchanger.host)
        except NameFailure as error:
            fault = error.reason
        if own_host.is_at(exchanger.host, addresses):
            # Hosts that are no better than we are must not be asked: they would give it back (RFC 5321 §5.1).
            found = [(other, address) for other, address in found if other.preference < exchanger.preference]
            if not found:
                raise _later(trouble) if trouble else _loop(domain, exchanger.host)
            break
        trouble = trouble or fault
        found += [(exchanger, address) for address in addresses]
    if not found:  # RFC 5321 §5.1: other records do not count where there are MX records
        raise _later(trouble or f"no mail exchanger of {domain} has an address")
    return [(exchanger.host, address) for exchanger, address in found]


def _loop(domain: str, host: str) -> _NoRoute:
    return _NoRoute(Failed(_LOOP, Culprit.RECIPIENT, f"{host}, the best mail exchanger of {domain}, is this host"))


def _later(reason: str) -> _NoRoute:
    return _NoRoute(Deferred(_UNANSWERED[Culprit.NAME], Culprit.NAME, reason))


def _literal(domain: str) -> str:
    """The address in a domain literal, RFC 5321 §4.1.3. Raises `_NoRoute` for one that is none."""
    text = domain.strip("[]")
    try:
        return str(ipaddress.ip_address(text[5:] if text.lower().startswith("ipv6:") else text))
    except ValueError:
        raise _NoRoute(Failed(_NO_SUCH_DOMAIN, Culprit.RECIPIENT, f"{domain} is no address of a host")) from None


async def _settle_all(feed: Feed, outcome: Deferred | Failed) -> SessionEnd:
    """The same outcome for everything that waits for this domain."""
    while transactions := await feed.take(max_transactions=BATCH, max_bytes=BATCH_BYTES):
        for transaction in transactions:
            feed.settle(transaction, [outcome] * len(transaction.envelope.recipients))
    return SessionEnd(reason=outcome.reason)
