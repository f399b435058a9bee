"""Delivery over SMTP: one connection to one next hop, for as many messages as there are.

`send` connects, lets `proto.smtp.client` decide what to say, and streams the transactions of a `Feed`: see
`exchange`. `send_turned` does the same over a connection that the next hop has made (RFC 2645 §5.3). Whatever
happens, every transaction taken from the feed is settled before they return.
"""

import socket
from abc import ABC, abstractmethod
from dataclasses import asdict, replace

import anyio

from masqmail.delivery.connect import Memory, Options, client_options, our_name
from masqmail.delivery.exchange import Exchange
from masqmail.delivery.job import Feed
from masqmail.delivery.meter import Cost, Meter
from masqmail.delivery.reckoning import Reckoning, SessionEnd
from masqmail.delivery.wire import Wire
from masqmail.mail.outcome import Culprit
from masqmail.net.errors import NetError, TlsFailure
from masqmail.net.session import TlsMode, keep_session, open_stream, protect
from masqmail.net.stream import Stream
from masqmail.net.wrapper import LOSS_SECONDS, PEACE_SECONDS, Wrapper, open_wrapped
from masqmail.proto.smtp.client import Client
from masqmail.proto.smtp.clientsession import Phase
from masqmail.settings import HostPort
from masqmail.system import events

__all__ = ["SessionEnd", "send", "send_turned"]


async def send(
    next_hop: HostPort, options: Options, feed: Feed, memory: Memory, *, address: HostPort | None = None
) -> SessionEnd:
    """One connection to a next hop, for as many transactions as the feed has.

    `address` is where to connect when it is not `next_hop` itself, whose name the certificate must have. Where
    opportunistic TLS fails it is tried again without (RFC 7435 §3).
    """
    end = await _DialledSession(next_hop, address or next_hop, options, feed, memory).run()
    has_failed = end.culprit is Culprit.TLS and end.status is None  # a reply says that it wants TLS
    if has_failed and options.tls is TlsMode.OPPORTUNISTIC:
        plain = replace(options, tls=TlsMode.NONE, clear_password=False)
        end = await _DialledSession(next_hop, address or next_hop, plain, feed, memory).run()
    return end


async def send_turned(stream: Stream, name: str, options: Options, feed: Feed, memory: Memory) -> SessionEnd:
    """The same over a connection that a host of this name has made to us, and on which it waits for mail now.

    The connection is as safe as it will be: `options` must ask for no TLS and no log-in. It is closed in the end.
    """
    return await _TurnedSession(stream, name, options, feed, memory).run()


class _Session(ABC):
    """One connection: who does what when. What comes of it is for the `Reckoning`."""

    def __init__(self, name: str, options: Options, feed: Feed, memory: Memory) -> None:
        self._name = name
        self._options = options
        self._feed = feed
        self._memory = memory
        self._client: Client
        self._reckoning: Reckoning
        self._wire: Wire
        self._exchange: Exchange
        self._meter = Meter(options, feed)
        self._cost: Cost | None = None

    async def run(self) -> SessionEnd:
        return self._report(await self._run())

    @abstractmethod
    async def _connect(self) -> tuple[Stream, socket.socket | None]:
        """The connection, and its socket to be asked. Raises `NetError`."""

    @abstractmethod
    async def _protect(self, stream: Stream) -> None:
        """Starts TLS. Raises `TlsFailure`."""

    @abstractmethod
    async def _keep_session(self, stream: Stream) -> None:
        """Keeps what TLS can use again for the next connection."""

    async def _run(self) -> SessionEnd:
        try:
            stream = await self._open()
        except NetError as error:
            return SessionEnd(error.culprit, error.reason)
        says_goodbye = False
        try:
            await self._exchange.guarded(self._establish)
            if not self._reckoning.is_over:
                await self._exchange.run()
            self._cost = self._meter.cost(self._exchange.taken)
            if self._reckoning.went_well:
                await self._keep_session(stream)
                says_goodbye = True
        finally:
            self._exchange.release()
            if not says_goodbye:
                stream.abort()
        if self._reckoning.fault is not None:
            raise self._reckoning.fault
        assert self._reckoning.end is not None
        await stream.aclose()
        return replace(self._reckoning.end, progress=self._reckoning.progress)

    async def _open(self) -> Stream:
        """Connects, and only then makes the machine: our name may depend on the connection."""
        try:
            stream, sock = await self._connect()
        finally:
            self._meter.dialled()
        try:
            helo_name = await our_name(stream, self._options)
        except BaseException:
            stream.abort()
            raise
        may_pipeline = not self._memory.needs_care(self._name)
        self._client = Client(client_options(self._options, helo_name, may_pipeline=may_pipeline))
        self._reckoning = Reckoning(self._name, self._client, self._memory)
        self._wire = Wire(stream, self._name, self._options)
        self._meter.connected(sock, self._client, self._wire)
        self._exchange = Exchange(self._options, self._feed, self._client, self._reckoning, self._wire, self._meter)
        return stream

    # before the first transaction

    async def _establish(self) -> None:
        """Greeting, EHLO, TLS, log-in: everything until messages may be sent.

        A connection in reserve does all that costs the line little, and waits then.
        """
        if self._options.tls is TlsMode.IMPLICIT and not await self._start_tls():
            return
        while not await self._is_set_up():
            await self._exchange.send()
            self._meter.asked()
            await self._exchange.read_once()
            self._meter.heard()
            if self._client.phase is Phase.TLS:
                if not await self._start_tls():
                    return
                self._client.tls_started()
            elif self._wire.stream.tls:  # connections that are made now can use the session already
                await self._keep_session(self._wire.stream)
        self._meter.ready()
        tls = self._wire.stream.tls
        events.emit(
            events.CONNECTION_OPENED,
            next_hop=self._name,
            tls=tls.version if tls else "none",
            resumed=True if tls and tls.is_resumed else None,
        )

    async def _is_set_up(self) -> bool:
        """Whether messages may be sent. A connection that is not wanted says QUIT instead."""
        if self._client.phase is not Phase.READY:
            return False
        is_wanted = await self._is_wanted()
        if not is_wanted:
            self._client.quit()
        return is_wanted

    async def _is_wanted(self) -> bool:
        """Whether to go on. A connection in reserve waits here until that is known."""
        began = anyio.current_time()
        try:
            return await self._feed.is_wanted()
        finally:
            self._meter.waited(anyio.current_time() - began)

    async def _is_wanted_or_cheap(self) -> bool:
        """The same where what comes costs the line much, unless there is a TLS session that can be resumed."""
        is_wanted = True
        context = await self._memory.context(self._options)

        async def wait_for_session() -> None:
            await self._memory.wait_for_session(self._name, context)
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_session)
            is_wanted = await self._is_wanted()
            group.cancel_scope.cancel()
        return is_wanted

    async def _start_tls(self) -> bool:
        """False when the connection is not wanted."""
        if not await self._is_wanted_or_cheap():
            self._reckoning.end = SessionEnd()
            return False
        await self._protect(self._wire.stream)
        self._wire.touch()
        return True

    # the end

    def _report(self, end: SessionEnd) -> SessionEnd:
        if end.culprit is None:
            assert self._cost is not None
            events.emit(events.CONNECTION_CLOSED, next_hop=self._name, **asdict(self._cost))
            if end.progress:
                self._memory.note_success(self._name)
        else:
            events.emit(events.CONNECTION_FAILED, next_hop=self._name, culprit=end.culprit.value, reason=end.reason)
        return end


class _DialledSession(_Session):
    """One that we begin: over a connection of ours, or a program that takes its place."""

    def __init__(self, next_hop: HostPort, address: HostPort, options: Options, feed: Feed, memory: Memory) -> None:
        super().__init__(str(next_hop), options, feed, memory)
        self._next_hop = next_hop
        self._address = address
        self._wrapper: Wrapper | None = None

    async def run(self) -> SessionEnd:
        """The session, and the program if there is one."""
        patience = 0.0
        try:
            end = await self._run()
            patience = PEACE_SECONDS if end.is_ok else LOSS_SECONDS
        finally:
            if self._wrapper is not None:
                await self._wrapper.end(patience)
        if self._wrapper is not None and end.culprit is not None and self._wrapper.verdict:
            end = replace(end, reason=f"{end.reason}; {self._wrapper.verdict}")
        return self._report(end)

    async def _connect(self) -> tuple[Stream, socket.socket | None]:
        if self._options.wrapper:
            stream, sock, self._wrapper = await open_wrapped(self._options.wrapper, self._note_complaint)
            return stream, sock
        return await open_stream(self._address, self._options, self._memory, self._meter.dialling)

    def _note_complaint(self, program: str, line: str) -> None:
        events.emit(events.PROGRAM_SAID, program=program, next_hop=self._name, line=line)

    async def _protect(self, stream: Stream) -> None:
        await protect(stream, self._next_hop, self._options, self._memory)

    async def _keep_session(self, stream: Stream) -> None:
        await keep_session(stream, self._next_hop, self._options, self._memory)


class _TurnedSession(_Session):
    """One that the other side has begun, and turned."""

    def __init__(self, stream: Stream, name: str, options: Options, feed: Feed, memory: Memory) -> None:
        super().__init__(name, options, feed, memory)
        self._stream = stream

    async def _connect(self) -> tuple[Stream, socket.socket | None]:
        return self._stream, self._stream.sock

    async def _protect(self, stream: Stream) -> None:
        raise TlsFailure("TLS cannot begin on a line that was turned")

    async def _keep_session(self, stream: Stream) -> None:
        """It was the other side's."""
