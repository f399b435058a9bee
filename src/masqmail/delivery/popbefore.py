"""A log-in to a POP3 account and out again: some providers take mail only from who has just done that.

Such a server remembers the address that the log-in came from for a while ("SMTP-after-POP"). No mail is looked at.
"""

import asyncio
from dataclasses import dataclass

from masqmail.delivery.connect import Memory, Options, TlsMode, keep_session, open_stream, protect
from masqmail.delivery.wrapper import LOSS_SECONDS, PEACE_SECONDS, open_wrapped
from masqmail.mail.outcome import Culprit
from masqmail.net.errors import ConnectionLost, NetError, StreamTimeout
from masqmail.net.stream import Stream
from masqmail.proto.errors import PeerError
from masqmail.proto.pop3.client import Client
from masqmail.proto.pop3.session import ClientOptions, Ended, Phase, Quitted, Ready, Stls, TlsWanted
from masqmail.settings import HostPort
from masqmail.system import events

_STLS = {
    TlsMode.STARTTLS: Stls.REQUIRED,
    TlsMode.OPPORTUNISTIC: Stls.IF_OFFERED,
    TlsMode.IMPLICIT: Stls.NEVER,
    TlsMode.NONE: Stls.NEVER,
}


class LoginFailure(Exception):
    """The account could not be logged in to; the message says why. `is_refused`: the name or password is to blame."""

    def __init__(self, reason: str, *, is_refused: bool = False) -> None:
        super().__init__(reason)
        self.is_refused = is_refused


@dataclass(frozen=True, slots=True)
class Visit:
    """Where a connection led to, and our own address on it."""

    peer: HostPort
    local: str


async def log_in(server: HostPort, options: Options, memory: Memory) -> Visit | None:
    """Logs in and says QUIT. Returns the way that was gone; with a wrapper nobody knows it.

    `options` are read as for SMTP; `mechanisms` are the ways of `proto.pop3.login`. Raises `LoginFailure`, whatever
    goes wrong before we are logged in; what goes wrong later does not matter.
    """
    try:
        if options.wrapper:
            await _visit_wrapped(server, options, memory)
            return None
        stream, _ = await open_stream(server, options, memory, _not_measured)
    except NetError as error:
        raise LoginFailure(error.reason) from error
    await _visit(server, options, memory, stream)
    assert stream.peer is not None and stream.local is not None, "a TCP connection has an address at both ends"
    return Visit(stream.peer, stream.local.host)


async def _visit(server: HostPort, options: Options, memory: Memory, stream: Stream) -> None:
    session = _Session(server, options, memory, stream)
    try:
        await session.log_in()
        await session.quit()
    finally:
        stream.abort()


async def _visit_wrapped(server: HostPort, options: Options, memory: Memory) -> None:
    """The same through a program, whose own words about a failure count too. Raises `ConnectFailure` as well."""
    stream, _, wrapper = await open_wrapped(options.wrapper, str(server))
    patience, failure = LOSS_SECONDS, None
    try:
        await _visit(server, options, memory, stream)
        patience = PEACE_SECONDS
    except LoginFailure as error:
        failure = error
    finally:
        await wrapper.end(patience)
    if failure is not None:
        reason = "; ".join(filter(None, (str(failure), wrapper.verdict)))
        raise LoginFailure(reason, is_refused=failure.is_refused) from failure


class _Session:
    """One connection: what the machine wants to say goes out, what comes goes into the machine, all in time."""

    def __init__(self, server: HostPort, options: Options, memory: Memory, stream: Stream) -> None:
        assert options.credentials is not None, "without a name there is nothing to log in with"
        self._server = server
        self._options = options
        self._memory = memory
        self._stream = stream
        self._is_logged_in = False
        self._client = Client(
            ClientOptions(
                options.credentials,
                stls=_STLS[options.tls],
                tls_is_on=options.tls is TlsMode.IMPLICIT,
                ways=options.mechanisms,
                clear_password=options.clear_password,
            )
        )

    async def log_in(self) -> None:
        """Everything up to the welcome. Raises `LoginFailure`."""
        try:
            if self._options.tls is TlsMode.IMPLICIT:
                await protect(self._stream, self._server, self._options, self._memory)
            while not self._is_logged_in:
                await self._turn()
        except NetError as error:
            raise LoginFailure(f"{self._server}: {error.reason}") from error
        except PeerError as error:
            raise LoginFailure(f"{self._server} broke the protocol: {error.status.text}") from error

    async def quit(self) -> None:
        """Leaves as one should, if the server still listens."""
        try:
            self._client.quit()
            while self._client.phase is not Phase.CLOSED:
                await self._turn()
            await keep_session(self._stream, self._server, self._options, self._memory)
            await self._stream.aclose()
        except (NetError, PeerError, LoginFailure):
            return  # we were logged in, and only that counts

    async def _turn(self) -> None:
        """Sends what is to be said, then waits for its reply. Raises `NetError`, `PeerError` or `LoginFailure`."""
        limit = self._options.seconds(time) if (time := self._client.reply_time) else 0.0
        deadline = _now() + limit
        self._send()
        await self._stream.drain(limit)
        phase, is_answered = self._client.phase, False
        while not is_answered:
            try:
                data = await self._stream.receive(max(0.0, deadline - _now()))
            except StreamTimeout as error:
                raise StreamTimeout(f"no answer within {limit:g} s ({phase.value})") from error
            if not data:
                raise ConnectionLost("closed the connection")
            self._trace("S:", data)
            self._client.receive(data)
            is_answered = await self._handle_events()
            if not is_answered and _now() > deadline:
                raise StreamTimeout(f"no answer within {limit:g} s ({phase.value})")

    async def _handle_events(self) -> bool:
        """Whether what came was an answer: then something is to be said, or the phase is another."""
        before = self._client.phase
        while (event := self._client.next_event()) is not None:
            match event:
                case TlsWanted():
                    await protect(self._stream, self._server, self._options, self._memory)
                    self._client.tls_started()
                case Ready():
                    self._is_logged_in = True
                case Ended(culprit, reason):
                    raise LoginFailure(f"{self._server} {reason}", is_refused=culprit is Culprit.LOGIN)
                case Quitted():
                    pass
        return self._client.phase is not before or self._client.has_to_send

    def _send(self) -> None:
        is_secret = self._client.is_secret
        data = self._client.data_to_send()
        self._trace("C:", data, is_secret=is_secret)
        self._stream.write(data)

    def _trace(self, direction: str, data: bytes, *, is_secret: bool = False) -> None:
        """Shows protocol lines to whoever wants them, and secrets to nobody."""
        if events.is_tracing():
            for line in data.splitlines():
                events.trace(direction, b"(log-in)" if is_secret else line, next_hop=str(self._server))


def _not_measured() -> None:
    """Nobody wants to know when the first packet leaves."""


def _now() -> float:
    return asyncio.get_running_loop().time()
