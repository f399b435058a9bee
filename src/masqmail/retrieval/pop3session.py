"""A session with a POP3 server: connection, TLS, log-in and QUIT, all in time.

What is said is the business of `proto.pop3.client`; whoever fetches mail asks it for more in between.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import cast

from masqmail.frozen import frozen
from masqmail.net.errors import ConnectionLost, NetError, StreamTimeout
from masqmail.net.session import TlsMemory, TlsMode, keep_session, protect
from masqmail.net.stream import Stream
from masqmail.proto.errors import PeerError
from masqmail.proto.pop3.client import Client
from masqmail.proto.pop3.session import ClientOptions, Ended, Event, Phase, Quitted, Stls, TlsWanted
from masqmail.proto.pop3.transaction import Answer, Command, Counted, Done, Refused
from masqmail.retrieval import reach
from masqmail.retrieval.account import Account, FetchFailure
from masqmail.settings import HostPort
from masqmail.system import events

_STLS = {
    TlsMode.STARTTLS: Stls.REQUIRED,
    TlsMode.OPPORTUNISTIC: Stls.IF_OFFERED,
    TlsMode.IMPLICIT: Stls.NEVER,
    TlsMode.NONE: Stls.NEVER,
}


#: A command, and about how many bytes will come for it.
Request = tuple[Command, int]


class Garbled(FetchFailure):
    """The server broke the protocol."""


@frozen
class Visit:
    """Where a connection led to, and our own address on it."""

    peer: HostPort
    local: str


async def log_in(account: Account, memory: TlsMemory) -> Visit | None:
    """Logs in and says QUIT. Returns the way that was gone; with a wrapper nobody knows it.

    Raises `FetchFailure`, whatever goes wrong before we are logged in; what goes wrong later does not matter.
    """
    async with logged_in(account, memory) as session:
        await session.quit()
        return session.visit


@asynccontextmanager
async def logged_in(account: Account, memory: TlsMemory, *, pipelining: bool = True) -> AsyncIterator["Session"]:
    """A session that is ready for commands, see `reach.logged_in`. Raises `FetchFailure`."""

    def make_session(stream: Stream) -> Session:
        return Session(account, memory, stream, pipelining=pipelining)

    async with reach.logged_in(account, memory, make_session) as session:
        yield session


class Session:
    """One connection: what the machine wants to say goes out, what comes goes into the machine.

    All failures of the server or the way to it are raised as `FetchFailure`.
    """

    def __init__(self, account: Account, memory: TlsMemory, stream: Stream, *, pipelining: bool = True) -> None:
        self.is_over = False  # and QUIT was answered
        self.is_broken = False  # nothing more can be said
        self.server = account.server
        self._account = account
        self._memory = memory
        self._stream = stream
        self.client = Client(
            ClientOptions(
                account.credentials,
                stls=_STLS[account.tls],
                tls_is_on=account.tls is TlsMode.IMPLICIT,
                ways=account.mechanisms,
                clear_password=account.clear_password,
                pipelining=pipelining,
            )
        )

    @property
    def visit(self) -> Visit | None:
        """Where the connection led to; nobody knows it with a wrapper."""
        if self._account.wrapper or self._stream.peer is None or self._stream.local is None:
            return None
        return Visit(self._stream.peer, self._stream.local.host)

    async def log_in(self) -> None:
        """Everything up to the welcome."""
        try:
            if self._account.tls is TlsMode.IMPLICIT:
                await protect(self._stream, self.server, self._account, self._memory)
            while self.client.phase is not Phase.READY:
                await self._turn()
        except NetError as error:
            raise self._net_failure(error) from error

    async def answers(self) -> list[Answer]:
        """Sends the commands that were asked for, and returns what the server says next: one answer at least."""
        try:
            self._send()
            found = self._answers()
            deadline = _now() + self._limit
            while not found:
                await self._hear(deadline)
                found = self._answers()
            return found
        except NetError as error:
            self.is_broken = True
            raise self._net_failure(error) from error

    async def converse(self, requests: Iterator[Request], handle: Callable[[Answer], Awaitable[None]]) -> None:
        """Asks for one thing after the other, as many at a time as the server takes, until all is answered.

        `requests` goes on only when there is room. `handle` may raise `PeerError`; what else it raises is raised when
        everything under way is answered.
        """
        client, fault = self.client, None
        while True:
            while client.may_ask and fault is None and (request := next(requests, None)) is not None:
                client.ask(*request)
            if client.is_idle:
                break
            for answer in await self.answers():
                try:
                    if fault is None:
                        await handle(answer)
                except PeerError as error:
                    raise self._garbled(error) from error
                except Exception as error:
                    fault = error
        if fault is not None:
            raise fault

    async def quit(self) -> bool:
        """Leaves as one should, if the server still listens; whether it said that all is well."""
        is_ok = False
        try:
            self.client.quit()
            while self.client.phase is not Phase.CLOSED:
                for event in await self._turn():
                    is_ok = isinstance(event, Quitted) and event.is_ok
            await keep_session(self._stream, self.server, self._account, self._memory)
            await self._stream.aclose()
            self.is_over = True
        except (NetError, FetchFailure):
            return is_ok
        return is_ok

    def cut_off(self) -> None:
        """Closes the connection at once; harmless when it is closed."""
        self.is_broken = True
        self._stream.abort()

    @property
    def _limit(self) -> float:
        """How many seconds the server may take now."""
        time = self.client.reply_time or timedelta(0)
        return time.total_seconds() * self._account.time_scale

    async def _turn(self) -> list[Event]:
        """Sends what is to be said, then waits for its reply."""
        limit = self._limit
        deadline = _now() + limit
        self._send()
        await self._stream.drain(limit)
        phase, found = self.client.phase, list[Event]()
        while self.client.phase is phase and not self.client.has_to_send:
            await self._hear(deadline)
            found += await self._events()
        return found

    async def _hear(self, deadline: float) -> None:
        """Takes what comes next into the machine. Raises `NetError`."""
        limit = self._limit
        try:
            data = await self._stream.receive(max(0.0, deadline - _now()))
        except StreamTimeout as error:
            raise StreamTimeout(f"no answer within {limit:g} s ({self.client.doing})") from error
        if not data:
            raise ConnectionLost("closed the connection")
        if _now() > deadline:
            raise StreamTimeout(f"no answer within {limit:g} s ({self.client.doing})")
        if self.client.phase is not Phase.READY:  # then it may be mail
            self._trace("S:", data)
        self.client.receive(data)

    async def _events(self) -> list[Event]:
        """What has happened. TLS is started on the way."""
        found: list[Event] = []
        while (event := self._next_event()) is not None:
            match event:
                case TlsWanted():
                    await protect(self._stream, self.server, self._account, self._memory)
                    self._start_over()
                case _:
                    found.append(event)
        return found

    def _answers(self) -> list[Answer]:
        """The same for commands of a session that is logged in."""
        found: list[Answer] = []
        while (event := self._next_event()) is not None:
            found.append(cast("Answer", event))
            self._trace_answer(found[-1])
        return found

    def _next_event(self) -> Event | None:
        try:
            event = self.client.next_event()
        except PeerError as error:
            raise self._garbled(error) from error
        if isinstance(event, Ended):
            self.is_broken = True
            raise FetchFailure(f"{self.server} {event.reason}", event.culprit)
        return event

    def _start_over(self) -> None:
        """Behind the handshake."""
        try:
            self.client.tls_started()
        except PeerError as error:
            raise self._garbled(error) from error

    def _garbled(self, error: PeerError) -> Garbled:
        self.is_broken = True
        return Garbled(f"{self.server} broke the protocol: {error.status.text}")

    def _trace_answer(self, answer: Answer) -> None:
        if events.is_tracing() and isinstance(answer, Done | Refused | Counted):
            words = f"-ERR {answer.reply}" if isinstance(answer, Refused) else "+OK"
            command = "STAT" if isinstance(answer, Counted) else str(answer.command)
            events.trace("S:", f"{words} ({command})".encode(), next_hop=str(self.server))

    def _send(self) -> None:
        is_secret = self.client.is_secret
        data = self.client.data_to_send()
        self._trace("C:", data, is_secret=is_secret)
        self._stream.write(data)

    def _trace(self, direction: str, data: bytes, *, is_secret: bool = False) -> None:
        """Shows protocol lines to whoever wants them, and secrets to nobody."""
        if events.is_tracing():
            for line in data.splitlines():
                shown = b"(log-in)" if is_secret else self._account.credentials.conceal_line(line)
                events.trace(direction, shown, next_hop=str(self.server))

    def _net_failure(self, error: NetError) -> FetchFailure:
        return FetchFailure(f"{self.server}: {error.reason}", error.culprit)


def _now() -> float:
    return asyncio.get_running_loop().time()
