"""Delivery over SMTP: one connection to one next hop, for as many messages as there are.

`send` connects, lets `proto.smtp.client` decide what to say, and streams the transactions of a `Feed`. Two
tasks share the connection: one reads and settles, one writes; reading never stops while writing. Whatever
happens, every transaction taken from the feed is settled before `send` returns.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from masqmail.delivery.connect import (
    Memory,
    Options,
    TlsMode,
    client_options,
    keep_session,
    open_stream,
    our_name,
    protect,
)
from masqmail.delivery.job import Feed, Transaction
from masqmail.delivery.reckoning import Reckoning, SessionEnd
from masqmail.delivery.window import Window
from masqmail.delivery.wire import Wire
from masqmail.mail.outcome import Culprit, Deferred, NotTried
from masqmail.net.errors import ConnectionLost, NetError
from masqmail.net.stream import Stream
from masqmail.proto.errors import UsageError
from masqmail.proto.smtp.client import Client
from masqmail.proto.smtp.clientsession import Event, Phase, Verdicts
from masqmail.proto.smtp.compose import Outgoing
from masqmail.settings import HostPort
from masqmail.system import events

__all__ = ["SessionEnd", "send"]


async def send(
    next_hop: HostPort, options: Options, feed: Feed, memory: Memory, *, address: HostPort | None = None
) -> SessionEnd:
    """One connection to a next hop, for as many transactions as the feed has.

    `address` is where to connect when it is not `next_hop` itself, whose name the certificate must have. Where
    opportunistic TLS fails it is tried again without (RFC 7435 §3).
    """
    end = await _Session(next_hop, options, feed, memory).run(address or next_hop)
    if end.culprit is Culprit.TLS and options.tls is TlsMode.OPPORTUNISTIC:
        plain = replace(options, tls=TlsMode.NONE, clear_password=False)
        end = await _Session(next_hop, plain, feed, memory).run(address or next_hop)
    return end


@dataclass(slots=True, eq=False)
class _Work:
    """A transaction on this connection. Its last byte may leave when `begun` is set."""

    transaction: Transaction
    begun: anyio.Event


class _SessionOver(Exception):
    """Leaves the tasks of a session whose `SessionEnd` is known."""


class _Session:
    """One connection: who does what when. What comes of it is for the `Reckoning`."""

    def __init__(self, next_hop: HostPort, options: Options, feed: Feed, memory: Memory) -> None:
        self._next_hop = next_hop
        self._name = str(next_hop)
        self._options = options
        self._feed = feed
        self._memory = memory
        self._client: Client
        self._reckoning: Reckoning
        self._wire: Wire
        self._group: TaskGroup | None = None
        self._works: dict[int, _Work] = {}
        self._window = Window(options.window_bytes)
        self._news = anyio.Event()  # set when something was read
        self._taken = 0
        self._feed_is_dry = False

    async def run(self, address: HostPort) -> SessionEnd:
        try:
            stream = await self._open(address)
        except NetError as error:
            return self._report(SessionEnd(error.culprit, error.reason))
        try:
            await self._guarded(self._establish)
            if not self._reckoning.is_over:
                await self._transact()
            if self._reckoning.went_well:
                await keep_session(stream, self._next_hop, self._options, self._memory)
        finally:
            self._release()
            if not self._reckoning.went_well:
                stream.abort()
        if self._reckoning.fault is not None:
            raise self._reckoning.fault
        assert self._reckoning.end is not None
        await stream.aclose()
        return self._report(replace(self._reckoning.end, progress=self._reckoning.progress))

    async def _open(self, address: HostPort) -> Stream:
        """Connects, and only then makes the machine: our name may depend on the connection."""
        stream = await open_stream(address, self._options)
        try:
            helo_name = await our_name(stream, self._options)
        except BaseException:
            stream.abort()
            raise
        may_pipeline = not self._memory.needs_care(self._name)
        self._client = Client(client_options(self._options, helo_name, may_pipeline=may_pipeline))
        self._reckoning = Reckoning(self._name, self._client, self._memory)
        self._wire = Wire(stream, self._name, self._options)
        return stream

    async def _guarded(self, task: Callable[[], Awaitable[None]]) -> None:
        """Runs a task of this session. Whatever stops it stops the session, and is sorted here."""
        try:
            await task()
            return
        except _SessionOver:
            pass
        except Exception as error:
            self._reckoning.note_stopped(error)
        if self._group is not None:
            self._group.cancel_scope.cancel()

    # before the first transaction

    async def _establish(self) -> None:
        """Greeting, EHLO, TLS, log-in: everything until messages may be sent."""
        if self._options.tls is TlsMode.IMPLICIT:
            await self._start_tls()
        while self._client.phase is not Phase.READY:
            await self._send()
            await self._read_once()
            if self._client.phase is Phase.TLS:
                await self._start_tls()
                self._client.tls_started()
        tls = self._wire.stream.tls
        events.emit(events.CONNECTION_OPENED, next_hop=self._name, tls=tls.version if tls else "none")

    async def _start_tls(self) -> None:
        await protect(self._wire.stream, self._next_hop, self._options, self._memory)
        self._wire.touch()

    async def _transact(self) -> None:
        async with anyio.create_task_group() as group:
            self._group = group
            group.start_soon(self._guarded, self._read)
            group.start_soon(self._guarded, self._write)
        self._group = None

    # reading

    async def _read(self) -> None:
        while True:
            await self._read_once()
            self._news.set()

    async def _read_once(self) -> None:
        data = await self._wire.receive(lambda: self._client.awaited)
        if not data:
            raise ConnectionLost("closed the connection")
        self._client.receive(data)
        self._handle_events()
        if self._reckoning.end is not None:
            raise _SessionOver

    def _handle_events(self) -> None:
        """Takes what has happened from the machine. What came before a breach of the protocol counts."""
        happened: list[Event] = []
        try:
            while (event := self._client.next_event()) is not None:
                happened.append(event)
        finally:
            for event in happened:
                self._reckoning.note_event(event)
            self._settle(happened)

    def _settle(self, happened: Sequence[Event]) -> None:
        """Turns verdicts into outcomes for the feed."""
        trouble = self._reckoning.trouble()
        for event in happened:
            if isinstance(event, Verdicts):
                self._settle_one(event, trouble)

    def _settle_one(self, found: Verdicts, trouble: NotTried | Deferred) -> None:
        transaction = self._works.pop(found.number).transaction
        outcomes = self._reckoning.outcomes(found, transaction.queue_id, trouble)
        self._window.note_answered(found.number, transaction.size_bytes, anyio.current_time())
        self._client.window_bytes = self._window.size_bytes
        self._feed.settle(transaction, outcomes)

    # writing

    async def _write(self) -> None:
        while True:
            await self._take_work()
            await self._send()
            if not self._client.is_idle:
                self._news = anyio.Event()
                await self._news.wait()
            elif not await self._may_go_on():
                break
        self._client.quit()
        await self._send()

    async def _may_go_on(self) -> bool:
        """With nothing left to do: whether more work comes while we wait a moment for it."""
        if self._is_used_up():
            return False
        self._feed_is_dry = not await self._feed.wait(self._options.linger.total_seconds())
        await anyio.lowlevel.checkpoint_if_cancelled()
        return not self._feed_is_dry

    def _is_used_up(self) -> bool:
        limit = self._options.max_messages
        return self._client.is_used_up or self._reckoning.account_trouble is not None or 0 < limit <= self._taken

    async def _take_work(self) -> None:
        """Takes more when the window is half empty, and begins it while its commands already leave."""
        messages, room_bytes = self._client.room
        is_half_empty = 2 * messages >= self._options.window_messages and 2 * room_bytes >= self._window.size_bytes
        if self._feed_is_dry or self._is_used_up() or not (is_half_empty or self._client.is_idle):
            return
        if self._options.max_messages:
            messages = min(messages, self._options.max_messages - self._taken)
        transactions = await self._feed.take(max_transactions=messages, max_bytes=room_bytes)
        self._feed_is_dry = not transactions
        if not transactions:
            return
        self._taken += len(transactions)
        begun = anyio.Event()
        for transaction in transactions:
            number = self._client.start(_outgoing(transaction))
            self._works[number] = _Work(transaction, begun)
        self._handle_events()
        await anyio.lowlevel.checkpoint_if_cancelled()
        assert self._group is not None
        self._group.start_soon(self._guarded, lambda: self._begin(begun))

    async def _begin(self, begun: anyio.Event) -> None:
        """Tells the feed that the last bytes of these transactions are about to leave."""
        await self._feed.begin([work.transaction for work in self._works.values() if work.begun is begun])
        begun.set()

    async def _send(self) -> None:
        """Sends all that may leave now."""
        while True:
            is_secret = self._client.is_secret
            data = self._client.data_to_send()
            self._handle_events()
            if data:
                self._wire.trace("C:", data, is_secret=is_secret)
                self._wire.put(data)
            if (number := self._client.body_of) is not None:
                await self._send_content(number)
            elif self._wire.has_output:
                await self._wire.flush()
            else:
                return

    async def _send_content(self, number: int) -> None:
        work = self._works[number]
        if not work.begun.is_set():
            await self._wire.flush()
            await work.begun.wait()
            await anyio.lowlevel.checkpoint_if_cancelled()
        content = work.transaction.content
        is_in_memory = isinstance(content.body, bytes)
        chunks = content.chunks()
        self._reckoning.note_content_begun(number, work.transaction.queue_id)
        try:
            while True:
                chunk = next(chunks, None) if is_in_memory else await anyio.to_thread.run_sync(next, chunks, None)
                if chunk is None:
                    break
                await anyio.lowlevel.checkpoint_if_cancelled()
                self._wire.put(self._client.body_data(chunk))
                if self._wire.is_full:
                    await self._wire.flush()
            self._wire.put(self._client.body_end())
        except (OSError, UsageError) as error:
            self._reckoning.note_content_spoiled(number, error)
            raise _SessionOver from error
        self._reckoning.note_content_sent()
        self._window.note_sent(number, anyio.current_time())
        if self._wire.is_full:
            await self._wire.flush()

    # the end

    def _release(self) -> None:
        """Settles whatever is still open."""
        self._client.abandon()
        self._handle_events()

    def _report(self, end: SessionEnd) -> SessionEnd:
        if end.culprit is None:
            events.emit(events.CONNECTION_CLOSED, next_hop=self._name, messages=self._taken)
            if end.progress:
                self._memory.note_success(self._name)
        else:
            events.emit(events.CONNECTION_FAILED, next_hop=self._name, culprit=end.culprit.value, reason=end.reason)
        return end


def _outgoing(transaction: Transaction) -> Outgoing:
    """What the machine must know. An undeclared 8-bit header is no reason for SMTPUTF8: it goes as it is."""
    is_ascii = (
        not (transaction.needs_smtputf8 and transaction.envelope.smtputf8) or transaction.content.header.isascii()
    )
    return Outgoing(
        envelope=transaction.envelope,
        size_bytes=transaction.size_bytes,
        needs_8bit=transaction.needs_8bit,
        needs_smtputf8=transaction.needs_smtputf8,
        header_is_ascii=is_ascii,
    )
