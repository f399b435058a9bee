"""Which accounts were logged in to just now, for routes with `pop_before_smtp`."""

import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import anyio

from masqmail.config.fetch import FetchSection
from masqmail.daemon.fetch.accounts import account_of, source_of
from masqmail.daemon.secrets import SecretSource
from masqmail.delivery.connect import Memory, Options
from masqmail.mail.outcome import Culprit
from masqmail.proto.sasl import Secret
from masqmail.retrieval.account import Account, FetchFailure
from masqmail.retrieval.pop3session import Visit, log_in
from masqmail.settings import HostPort
from masqmail.system.clock import SystemClock

#: How long a log-in counts. The servers that want one remember it for ten minutes or more.
LOGIN_SECONDS = 300.0

#: How long a failure counts: the other smarthosts of a route need not each find it out, perhaps with a bad password.
FAILURE_SECONDS = 1.0

LogIn = Callable[[Account, Memory], Awaitable[Visit | None]]


@dataclass(slots=True)
class _Account:
    """What is known of one account. `at` is when it was tried last, in boot time: the server's clock does not stop
    when we are suspended. `visit` is the way of a login that counts, where that is known.
    """

    lock: anyio.Lock
    at: float = float("-inf")
    failure: FetchFailure | None = None
    is_logged_in: bool = False
    visit: Visit | None = None
    secret: Secret | None = None


class PopLogins:
    """Logs in to accounts when it is due. A password is read once and kept until it is refused."""

    def __init__(
        self,
        sections: Mapping[str, FetchSection],
        read_secret: Callable[[SecretSource], Awaitable[Secret]],
        memory: Memory,
        *,
        log_in: LogIn = log_in,
        boottime: Callable[[], float] = SystemClock.boottime,
        address_towards: Callable[[HostPort], str] | None = None,
    ) -> None:
        self._sections = sections
        self._read_secret = read_secret
        self._memory = memory
        self._log_in = log_in
        self._boottime = boottime
        self._address_towards = address_towards or address_towards_peer
        self._accounts: dict[str, _Account] = {}

    async def ensure(self, name: str, options: Options) -> None:
        """Returns when the account was logged in to a short while ago, from the address that we still have.

        `options` are those of the SMTP session that follows, whose way it goes. Raises `FetchFailure`, or
        `SecretError` when the password cannot be read.
        """
        account = self._accounts.setdefault(name, _Account(anyio.Lock()))
        async with account.lock:
            age = self._boottime() - account.at
            if account.failure is not None and age < FAILURE_SECONDS:
                raise account.failure
            if account.is_logged_in and age < LOGIN_SECONDS and self._is_same_way(account.visit):
                return
            await self._log_in_to(account, self._sections[name], options)

    def forget(self, name: str) -> None:
        """The smarthost does not believe it: the next time it is done anew."""
        if name in self._accounts:
            self._accounts[name].is_logged_in = False

    async def _log_in_to(self, account: _Account, section: FetchSection, options: Options) -> None:
        account.failure, account.is_logged_in = None, False
        if account.secret is None or section.token_command:  # a token does not live long
            account.secret = await self._read_secret(source_of(section))
        try:
            account.visit = await self._log_in(account_before(section, account.secret, options), self._memory)
            account.is_logged_in = True
        except FetchFailure as failure:
            reason = f"login to the account {section.name} before sending: {failure}"
            account.failure = FetchFailure(reason, failure.culprit)
            if failure.culprit is Culprit.LOGIN:
                account.secret = None
            raise account.failure from failure
        finally:
            account.at = self._boottime()

    def _is_same_way(self, visit: Visit | None) -> bool:
        """Whether we would still come from the same address. Behind a router that is all we can know."""
        return visit is None or self._address_towards(visit.peer) == visit.local


def account_before(section: FetchSection, secret: Secret, options: Options) -> Account:
    """How the server of an account is spoken to, on the way of the SMTP session that follows."""
    return replace(account_of(section, secret), local_address=options.local_address, time_scale=options.time_scale)


def address_towards_peer(peer: HostPort) -> str:
    """Our address on the way to a peer as the routes are now; empty when there is no way. Nothing is sent."""
    family = socket.AF_INET6 if ":" in peer.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((peer.host, peer.port))
            return str(sock.getsockname()[0])
    except OSError:
        return ""
