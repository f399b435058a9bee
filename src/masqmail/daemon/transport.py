"""How each route speaks to its next hops: its options, its password, and what is remembered of its hosts."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from masqmail.config.fetch import FetchSection
from masqmail.config.routes import HELO_BY_ADDRESS, RouteSection, Tls
from masqmail.daemon.secrets import SecretSource
from masqmail.delivery.connect import Memory, Options
from masqmail.delivery.direct import Source
from masqmail.frozen import frozen
from masqmail.net.session import TlsMode
from masqmail.proto.sasl import CLIENT_MECHANISMS, Credentials, Secret
from masqmail.routing.route import Way
from masqmail.settings import Domain, HostPort

if TYPE_CHECKING:
    from masqmail.daemon.poplogins import PopLogins


@frozen
class Direct:
    """How direct delivery goes about a domain, and where it looks for its hosts."""

    options: Options
    sources: tuple[Source, ...]


class Transports:
    """Options for connections by today's configuration. A password is read once and kept until it is refused."""

    def __init__(
        self,
        sections: Mapping[str, RouteSection],
        host_name: str,
        read_secret: Callable[[SecretSource], Awaitable[Secret]],
        accounts: Mapping[str, FetchSection] | None = None,
    ) -> None:
        self._sections = sections
        self._host_name = host_name
        self._read_secret = read_secret
        self._secrets: dict[str, Secret] = {}
        self.memory = Memory()
        self.pop_logins: PopLogins | None = None
        if accounts:
            from masqmail.daemon import poplogins  # in memory only where there is something to log in to

            self.pop_logins = poplogins.PopLogins(accounts, read_secret, self.memory)

    async def options(self, route: str, next_hop: HostPort) -> Options:
        """For one smarthost of a route. Raises `SecretError` when its password cannot be read."""
        section = self._sections[route]
        return self._options(section, section.tls_for(next_hop), await self._credentials(section))

    async def log_in_first(self, route: str, options: Options) -> None:
        """What `pop_before_smtp` asks for. Raises `FetchFailure` or `SecretError`."""
        if self.pop_logins is not None and (account := self._account_before(route)):
            await self.pop_logins.ensure(account, options)

    def direct(self, route: str) -> Direct:
        """For direct delivery: nobody logs in there."""
        section = self._sections[route]
        options = self._options(section, section.tls or Tls.OPPORTUNISTIC, None)
        return Direct(options, tuple(Source(look_up.value) for look_up in section.resolve))

    def turned(self, route: str) -> Options:
        """For a connection over which somebody fetches his mail: it is there, and who waits longer pays for it."""
        section = self._sections[route]
        return replace(self._options(section, Tls.NONE, None), linger=timedelta(0), connections=1)

    def forget_secret(self, route: str) -> None:
        """The login was refused: the next time the password is read anew, and an account logged in to first."""
        self._secrets.pop(route, None)
        if self.pop_logins is not None and (account := self._account_before(route)):
            self.pop_logins.forget(account)

    def _account_before(self, route: str) -> str | None:
        """The account of `pop_before_smtp`. The route may have gone with the last reload."""
        section = self._sections.get(route)
        return section.pop_before_smtp if section else None

    async def _credentials(self, section: RouteSection) -> Credentials | None:
        if section.username is None:
            return None
        if section.name not in self._secrets:
            source = SecretSource(
                section.password_file, section.password_command or (), section.password_credential or ""
            )
            self._secrets[section.name] = await self._read_secret(source)
        return Credentials(section.username, self._secrets[section.name])

    def _options(self, section: RouteSection, tls: Tls, credentials: Credentials | None) -> Options:
        mechanisms = tuple(mechanism.value.upper() for mechanism in section.auth)
        helo = section.helo or self._host_name
        if helo == HELO_BY_ADDRESS and section.wrapper:
            helo = Domain(self._host_name)  # behind a program nobody knows our address
        return Options(
            helo_name=None if helo == HELO_BY_ADDRESS else helo,
            tls=TlsMode(tls.value),
            tls_ca=section.tls_ca,
            tls_fingerprint=section.tls_fingerprint or "",
            credentials=credentials,
            mechanisms=mechanisms or tuple(CLIENT_MECHANISMS),
            clear_password=section.tls is Tls.NONE,
            pipelining=section.pipelining,
            max_messages=section.max_messages_per_connection,
            connections=1 if section.way is Way.DIRECT else section.max_connections,
            wrapper=section.wrapper or (),
            send_first=section.send_first,
        )
