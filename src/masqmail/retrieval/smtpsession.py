"""A session with a server that we ask for our mail by SMTP: connection, TLS, log-in, the question, QUIT.

What is said is the business of `proto.smtp.client`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from masqmail.mail.address import address_literal
from masqmail.mail.outcome import Culprit
from masqmail.mail.status import Status
from masqmail.net.dns import to_ascii
from masqmail.net.errors import ConnectionLost, NameFailure, NetError, StreamTimeout
from masqmail.net.session import TlsMemory, TlsMode, keep_session, protect
from masqmail.net.stream import Stream
from masqmail.proto.errors import PeerError
from masqmail.proto.sasl import CLIENT_MECHANISMS, TOKEN_MECHANISMS
from masqmail.proto.smtp.client import Client
from masqmail.proto.smtp.clientsession import REPLY_TIMES, Answered, ClientOptions, Ended, Phase, StartTls, TlsWanted
from masqmail.retrieval import reach
from masqmail.retrieval.account import Account, FetchFailure
from masqmail.system import events

_STARTTLS = {
    TlsMode.STARTTLS: StartTls.REQUIRED,
    TlsMode.OPPORTUNISTIC: StartTls.IF_OFFERED,
    TlsMode.IMPLICIT: StartTls.NEVER,
    TlsMode.NONE: StartTls.NEVER,
}

#: Ways to log in that are safe with a password under TLS.
_PASSWORD_MECHANISMS = tuple(name for name in CLIENT_MECHANISMS if name not in TOKEN_MECHANISMS)


@asynccontextmanager
async def logged_in(account: Account, memory: TlsMemory, helo_name: str) -> AsyncIterator["Session"]:
    """A session that is ready for questions, see `reach.logged_in`. Raises `FetchFailure`.

    Without a `helo_name` we go by our address.
    """

    def make_session(stream: Stream) -> Session:
        return Session(account, memory, helo_name, stream)

    async with reach.logged_in(account, memory, make_session) as session:
        yield session


class Session:
    """One connection. All failures of the server or the way to it are raised as `FetchFailure`."""

    def __init__(self, account: Account, memory: TlsMemory, helo_name: str, stream: Stream) -> None:
        self.is_over = False  # in peace
        self._account = account
        self._memory = memory
        self._stream = stream
        self._client = Client(
            ClientOptions(
                helo_name or _own_address(stream),
                starttls=_STARTTLS[account.tls],
                tls_is_on=account.tls is TlsMode.IMPLICIT,
                credentials=account.credentials if account.credentials.username else None,
                mechanisms=account.mechanisms or _PASSWORD_MECHANISMS,
                clear_password=account.clear_password,
            )
        )

    async def log_in(self) -> None:
        """Everything until questions may be asked."""
        try:
            if self._account.tls is TlsMode.IMPLICIT:
                await self._protect()
            while self._client.phase is not Phase.READY:
                await self._turn()
        except NetError as error:
            raise self._net_failure(error) from error

    async def turn(self) -> Status:
        """Says ATRN for the domains of the account. After a success `hand_over` is what remains to be done."""
        return await self._ask(Phase.ATRN)

    async def request(self, domain: str) -> Status:
        """Says ETRN for a domain."""
        return await self._ask(Phase.ETRN, domain)

    async def _ask(self, phase: Phase, domain: str = "") -> Status:
        try:
            if phase is Phase.ATRN:
                self._client.turn(_ascii(self._account.domains))
            else:
                self._client.request(*_ascii([domain]))
        except ValueError as error:
            raise FetchFailure(str(error), Culprit.LOCAL) from error
        try:
            while self._client.phase is phase:
                if (status := await self._turn()) is not None:
                    return status
        except NetError as error:
            raise self._net_failure(error) from error
        raise AssertionError("a question ends with its answer")

    async def hand_over(self) -> Stream:
        """The connection on which the server is the client now, every byte that it has sent in it."""
        await keep_session(self._stream, self._account.server, self._account, self._memory)
        self._stream.unread(self._client.rest)
        return self._stream

    async def close(self) -> None:
        """Ends what was handed over and has come to its end."""
        await self._stream.aclose()
        self.is_over = True

    async def quit(self) -> None:
        """Leaves as one should, if the server still listens."""
        try:
            self._client.quit()
            while self._client.phase is not Phase.CLOSED:
                await self._turn()
            await keep_session(self._stream, self._account.server, self._account, self._memory)
        except (NetError, FetchFailure):
            return
        await self.close()

    def cut_off(self) -> None:
        """Closes the connection at once; harmless when it is closed."""
        self._stream.abort()

    # one exchange

    async def _turn(self) -> Status | None:
        """Sends what is to be said, then waits for the reply to it; the answer if a question was asked."""
        phase = self._client.phase
        limit = REPLY_TIMES[phase].total_seconds() * self._account.time_scale
        deadline = _now() + limit
        is_secret = self._client.is_secret
        if data := self._client.data_to_send():
            self._trace("C:", data, is_secret=is_secret)
            self._stream.write(data)
            await self._stream.drain(limit)
        while self._client.phase is phase and not self._client.has_to_send:
            self._client.receive(await self._hear(deadline, limit))
            if (answer := await self._handle_events()) is not None:
                return answer
        return None

    async def _hear(self, deadline: float, limit: float) -> bytes:
        try:
            data = await self._stream.receive(max(0.0, deadline - _now()))
        except StreamTimeout as error:
            raise StreamTimeout(f"no answer within {limit:g} s ({self._client.phase.value})") from error
        if not data:
            raise ConnectionLost("closed the connection")
        if _now() > deadline:
            raise StreamTimeout(f"no answer within {limit:g} s ({self._client.phase.value})")
        self._trace("S:", data)
        return data

    async def _handle_events(self) -> Status | None:
        """Does what has to be done about what has happened; the answer to a question if there is one."""
        answer: Status | None = None
        try:
            while (event := self._client.next_event()) is not None:
                match event:
                    case TlsWanted():
                        await self._protect()
                        self._client.tls_started()
                    case Answered(status):
                        answer = status
                    case Ended(culprit, reason, status):
                        is_for_now = culprit is Culprit.LOGIN and status is not None and status.is_temporary
                        raise self._failure(reason, Culprit.SESSION if is_for_now else culprit)
        except PeerError as error:
            raise self._failure(f"answered nonsense: {error.status.text}", Culprit.SESSION) from error
        return answer

    async def _protect(self) -> None:
        await protect(self._stream, self._account.server, self._account, self._memory)

    def _failure(self, reason: str, culprit: Culprit) -> FetchFailure:
        return FetchFailure(f"{self._account.server} {reason}", culprit)

    def _net_failure(self, error: NetError) -> FetchFailure:
        return FetchFailure(f"{self._account.server}: {error.reason}", error.culprit)

    def _trace(self, direction: str, data: bytes, *, is_secret: bool = False) -> None:
        if events.is_tracing():
            for line in data.splitlines():
                shown = b"AUTH ..." if is_secret else self._account.credentials.conceal_line(line)
                events.trace(direction, shown, next_hop=str(self._account.server))


def _own_address(stream: Stream) -> str:
    """Our address on a connection in the place of a name, RFC 5321 §4.1.4."""
    return address_literal(stream.local.host) if stream.local is not None else "localhost"


def _ascii(domains: Sequence[str]) -> list[str]:
    """The domains as a command can name them. Raises `ValueError`."""
    try:
        return [to_ascii(domain) for domain in domains]
    except NameFailure as error:
        raise ValueError(error.reason) from error


def _now() -> float:
    return asyncio.get_running_loop().time()
