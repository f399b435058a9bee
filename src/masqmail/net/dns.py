"""Who takes the mail of a domain, and where a host is: RFC 5321 §5.1.

dnspython is imported when the first MX record is wanted: a host with a smarthost never needs it.
"""

import asyncio
import ipaddress
import random
import re
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import anyio

from masqmail.frozen import frozen
from masqmail.net import dial
from masqmail.net.errors import NameFailure, NameNotFound, NoAddress, NullMx

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver as DnsResolver
    from dns.resolver import NXDOMAIN, Answer

#: How long one question may take, with all its repeats.
LIFETIME_SECONDS = 20.0
RESOLV_CONF = Path("/etc/resolv.conf")
MAX_EXCHANGERS = 32
_CACHED_ANSWERS = 1000
_FULL_NAME = re.compile(
    r"(?=.{1,255}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]*[a-z][a-z0-9-]*", re.IGNORECASE
)


@frozen
class MailExchanger:
    """One MX record."""

    preference: int
    host: str


@frozen
class MxAnswer:
    """The mail exchangers of a domain, the most preferred first; none when the domain exists without any.

    A domain without exchangers is its own (the implicit MX of RFC 5321 §5.1).
    """

    exchangers: tuple[MailExchanger, ...] = ()

    @classmethod
    def of(cls, domain: str, records: Sequence[tuple[int, str]]) -> "MxAnswer":
        """Sorts records of (preference, host). Raises `NullMx` for a domain that takes no mail, RFC 7505 §3."""
        if [host for _, host in records] in ([""], ["."]):
            raise NullMx(f"the domain {domain} takes no mail (it publishes a null MX)")
        exchangers = [
            MailExchanger(preference, host.rstrip(".").lower())
            for preference, host in records
            if host not in ("", ".")
        ]
        return cls(tuple(sorted(exchangers, key=lambda mx: mx.preference)[:MAX_EXCHANGERS]))


class Resolver(Protocol):
    """Answers questions about names."""

    async def mail_exchangers(self, domain: str) -> MxAnswer:
        """The MX records of a domain. Raises `NameNotFound`, `NullMx`, or `NameFailure` for a later try."""

    async def address_records(self, host: str) -> list[str]:
        """What the DNS alone says: A records, then AAAA. Raises `NameNotFound`, `NoAddress`, `NameFailure`."""

    async def addresses(self, host: str) -> list[str]:
        """What the system says, which also has /etc/hosts: best first; a numeric host is itself.

        Raises `NoAddress`, or `NameFailure` for a later try.
        """

    async def is_hijacked(self) -> bool:
        """Whether its "does not exist" is not to be believed; then `NameNotFound` defers instead of failing."""


class SystemResolver:
    """The name servers of resolv.conf for records; the system's own look-up for addresses."""

    def __init__(self, resolv_conf: Path = RESOLV_CONF, *, lifetime_seconds: float = LIFETIME_SECONDS) -> None:
        self._resolv_conf = resolv_conf
        self._lifetime_seconds = lifetime_seconds
        self._resolver: DnsResolver | None = None
        self._version: object = None
        self._has_answered = False

    async def mail_exchangers(self, domain: str) -> MxAnswer:
        answer = await self._ask(to_ascii(domain), "MX")
        records = [(record.preference, record.exchange.to_text()) for record in answer or ()]
        random.shuffle(records)  # equal preferences share the load, RFC 5321 §5.1
        return MxAnswer.of(domain, records)

    async def address_records(self, host: str) -> list[str]:
        name = to_ascii(host)
        found = [record.address for record in await self._ask(name, "A") or ()]
        try:
            found += [record.address for record in await self._ask(name, "AAAA") or ()]
        except NameFailure:
            if not found:
                raise
        if not found:
            raise NoAddress(f"the name {host} has no address record")
        return found

    async def addresses(self, host: str) -> list[str]:
        found = await dial.look_up(to_ascii(host))
        return list(dict.fromkeys(endpoint.host for endpoint in found))

    async def is_hijacked(self) -> bool:
        """Asks for a name that cannot exist (RFC 6761 §6.4), and whether anything exists at all."""
        try:
            await self._ask(f"{secrets.token_hex(8)}.invalid", "A")
            return True
        except NameNotFound:
            pass
        except NameFailure:
            return True
        try:
            return not self._has_answered and not await self._ask("", "NS")
        except NameFailure:
            return True

    async def _ask(self, name: str, kind: str) -> "Answer | None":
        """One question; None when the name exists without such records. Raises `NameFailure`."""
        resolver = await self._current()
        import dns.asyncbackend
        import dns.exception
        import dns.resolver

        try:
            answer = await resolver.resolve(
                f"{name}.",
                kind,
                raise_on_no_answer=False,
                search=False,
                lifetime=self._lifetime_seconds,
                backend=dns.asyncbackend.get_backend("asyncio"),
            )
        except dns.resolver.NXDOMAIN as error:
            self._has_answered |= _names_its_zone(error)
            raise NameNotFound(f"the domain {name} does not exist") from error
        except dns.exception.Timeout as error:
            raise NameFailure(f"no name server answered for {name}") from error
        except dns.resolver.NoNameservers as error:
            raise NameFailure(f"the name servers could not answer for {name}") from error
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            raise NameFailure(f"the name {name} could not be looked up: {error}") from error
        self._has_answered |= answer.rrset is not None
        return answer if answer.rrset is not None else None

    async def _current(self) -> "DnsResolver":
        """The resolver for what resolv.conf says now, which changes with the network."""
        try:
            status = self._resolv_conf.stat()
        except OSError as error:
            raise NameFailure(f"no name server is known: {self._resolv_conf} cannot be read") from error
        version = (status.st_mtime_ns, status.st_ino, status.st_size)
        if self._resolver is None or version != self._version:
            self._resolver = await anyio.to_thread.run_sync(_make_resolver, self._resolv_conf)
            self._version, self._has_answered = version, False
        return self._resolver


async def name_of(address: str) -> str:
    """The full name of a host by its address, if that name leads back there. Raises `NameFailure`.

    The system is asked, which also has /etc/hosts. It sets no bound of time that one could rely on.
    """
    try:
        found, _ = await asyncio.get_running_loop().getnameinfo((address, 0), socket.NI_NAMEREQD)
    except OSError as error:
        raise NameFailure(f"the address {address} has no name") from error
    name = found.rstrip(".")
    if not _FULL_NAME.fullmatch(name):
        raise NameFailure(f"the name of {address} is no full name of a host: {name!r}")
    if address not in {endpoint.host for endpoint in await dial.look_up(name)}:
        raise NameFailure(f"the name {name} of {address} leads elsewhere")
    return name


def is_numeric(host: str) -> bool:
    """Whether it is an IPv4 or IPv6 address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def to_ascii(domain: str) -> str:
    """A domain as DNS wants it, with A-labels (RFC 5891). Raises `NameFailure` for one that cannot be."""
    if domain.isascii():
        return domain
    import idna  # its tables are large, and most hosts never need them

    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise NameFailure(f"{domain!r} cannot be the name of a domain") from error


def _make_resolver(resolv_conf: Path) -> "DnsResolver":
    """Takes a tenth of a second the first time: the import."""
    import dns.asyncresolver
    import dns.resolver

    try:
        resolver = dns.asyncresolver.Resolver(str(resolv_conf))
    except dns.resolver.NoResolverConfiguration as error:
        raise NameFailure(f"no name server is known: none is in {resolv_conf}") from error
    resolver.cache = dns.resolver.LRUCache(_CACHED_ANSWERS)
    return resolver


def _names_its_zone(error: "NXDOMAIN") -> bool:
    """Whether a name server said which zone lacks the name, as an honest one does (RFC 2308 §3)."""
    responses = error.responses()  # type: ignore[no-untyped-call]
    return any(response.authority for response in responses.values())
