"""The transactions of one connection: who reads, who writes, and what waits for what.

Replies are heard in the turn of the event loop that brings them, and what they allow to send leaves in the same turn.
A task of its own takes work from the feed, and sends what has to be waited for: a body in a file, or a full line.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from masqmail.delivery.connect import Options
from masqmail.delivery.job import Feed, Transaction
from masqmail.delivery.meter import Meter
from masqmail.delivery.reckoning import Reckoning
from masqmail.delivery.window import Window
from masqmail.delivery.wire import Wire
from masqmail.mail.outcome import Deferred, NotTried
from masqmail.net.errors import ConnectionLost
from masqmail.proto.errors import UsageError
from masqmail.proto.smtp.client import Client
from masqmail.proto.smtp.clientsession import Event, Phase, Verdicts
from masqmail.proto.smtp.compose import Outgoing
from masqmail.proto.smtp.pipeline import Pace

#: A window of fewer messages is filled up with each one that is answered, a bigger one when half of it is free.
SMALL_WINDOW = 16


@dataclass(slots=True, eq=False)
class _Work:
    """A transaction on this connection. Its last byte may leave when `begun` is set."""

    transaction: Transaction
    begun: anyio.Event
    is_sent: bool = False  # with all its content

    @property
    def is_in_memory(self) -> bool:
        return isinstance(self.transaction.content.body, bytes)


class _SessionOver(Exception):
    """Leaves the tasks of a session whose `SessionEnd` is known."""


class Exchange:
    """What goes over one connection, once the machine for it is made."""

    def __init__(
        self, options: Options, feed: Feed, client: Client, reckoning: Reckoning, wire: Wire, meter: Meter
    ) -> None:
        self._options = options
        self._feed = feed
        self._client = client
        self._reckoning = reckoning
        self._wire = wire
        self._meter = meter
        self._group: TaskGroup | None = None
        self._works: dict[int, _Work] = {}
        self._window = Window(options.window_bytes)
        self._news = asyncio.Event()  # there is something to do for who has parked
        self._is_parked = False
        self._is_hearing = False
        self._stopped_by: Exception | None = None
        self._is_over = asyncio.Event()
        self._now = asyncio.get_running_loop().time
        self._feed_is_dry = False
        self.taken = 0  # messages

    async def guarded(self, task: Callable[[], Awaitable[None]]) -> None:
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

    async def run(self) -> None:
        """Sends until the feed has no more, or the session ends."""
        async with anyio.create_task_group() as group:
            self._group = group
            group.start_soon(self.guarded, self._read)
            group.start_soon(self.guarded, self._write)
            group.start_soon(self.guarded, lambda: self._meter.watch(self._news.set))
        self._group = None

    # reading

    async def _read(self) -> None:
        """Has what comes heard at once, in the turn of the event loop that brings it; minds the deadlines itself."""
        self._wire.stream.watch(self._hear)
        self._feed.watch(self._note_work)
        try:
            self._hear()
            await self._wire.mind(self._is_over, lambda: self._client.awaited)
        finally:
            self._wire.stream.watch(None)
            self._feed.watch(None)
        assert self._stopped_by is not None
        raise self._stopped_by

    def _hear(self) -> None:
        """Takes what has come, and sends what it allows to send unless somebody must wait for that."""
        if self._is_hearing:
            return  # a write of ours broke the connection: that is heard next
        self._is_hearing = True
        try:
            while self._stopped_by is None and (data := self._wire.take()) is not None:
                self._understand(data)
                if self._is_parked and (not self._pump() or self._client.is_idle or self._wants_work()):
                    self._news.set()
        except Exception as error:
            self._stopped_by = error
            self._is_over.set()
        finally:
            self._is_hearing = False

    async def read_once(self) -> None:
        """Before the first transaction: waits for something to come."""
        self._understand(await self._wire.receive(lambda: self._client.awaited))

    def _understand(self, data: bytes) -> None:
        if not data:
            raise ConnectionLost("closed the connection")
        self._client.receive(data)
        self._handle_events()
        if self._client.phase is Phase.READY:
            self._meter.look()
        if self._reckoning.end is not None:
            raise _SessionOver

    def _handle_events(self) -> None:
        """Takes what has happened from the machine. What came before a breach of the protocol counts."""
        happened: list[Event] = []
        try:
            while (event := self._client.next_event()) is not None:
                happened.append(event)
        finally:
            if happened:
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
        outcomes = self._reckoning.outcomes(found, trouble)
        self._window.note_answered(found.number, transaction.size_bytes, self._now())
        self._client.window_bytes = self._window.size_bytes
        self._meter.answered(found.number)
        self._feed.settle(transaction, outcomes)

    # writing

    async def _write(self) -> None:
        while True:
            await self._take_work()
            await self.send()
            is_idle = self._client.is_idle
            if self._wants_work() and not is_idle:
                continue  # the last message has only now left
            self._wire.hold_back(False)
            if not is_idle:
                await self._park()
            elif not await self._may_go_on():
                break
        if self._stopped_by is None:  # else the session has ended in this turn of the event loop
            self._client.quit()
        await self.send()

    async def _park(self) -> None:
        """Waits for replies; `_hear` goes on with the sending meanwhile."""
        self._news.clear()
        with self._parking():
            await self._news.wait()

    @contextmanager
    def _parking(self) -> Iterator[None]:
        self._is_parked = True
        try:
            yield
        finally:
            self._is_parked = False

    def _note_work(self) -> None:
        """There may be more in the feed. Near by, what came meanwhile is taken together when the replies are here."""
        if self._meter.is_far:
            self._feed_is_dry = False
            self._news.set()

    async def _may_go_on(self) -> bool:
        """With nothing left to do: whether more work comes while we wait a moment for it."""
        if self._is_used_up():
            return False
        self._feed_is_dry = not await self._feed.wait(self._options.linger.total_seconds())
        await anyio.lowlevel.checkpoint_if_cancelled()
        return not self._feed_is_dry

    def _is_used_up(self) -> bool:
        limit = self._options.max_messages
        return self._client.is_used_up or self._reckoning.account_trouble is not None or 0 < limit <= self.taken

    def _wants_work(self) -> bool:
        """Whether the window is half empty, or there is nothing else to do."""
        if self._feed_is_dry or self._stopped_by is not None or self._is_used_up():
            return False
        if self._meter.wants_one_unsent and not all(work.is_sent for work in self._works.values()):
            return False
        messages, room_bytes = self._client.room
        refill = self._client.window_messages // 2 if self._client.window_messages >= SMALL_WINDOW else 1
        return self._client.is_idle or (messages >= refill and 2 * room_bytes >= self._window.size_bytes)

    async def _take_work(self) -> None:
        """Takes more when there is room for it, and begins it while its commands already leave."""
        if not self._wants_work():
            return
        was_idle = self._client.is_idle
        messages, room_bytes = self._client.room
        if self._options.max_messages:
            messages = min(messages, self._options.max_messages - self.taken)
        with self._parking():
            transactions = await self._feed.take(max_transactions=messages, max_bytes=room_bytes)
        self._feed_is_dry = not transactions
        if not transactions:
            return
        self.taken += len(transactions)
        self._meter.working()
        begun = anyio.Event()
        for transaction in transactions:
            number = self._client.start(_outgoing(transaction))
            self._works[number] = _Work(transaction, begun)
            self._reckoning.note_taken(number, transaction.queue_id)
        self._handle_events()
        await anyio.lowlevel.checkpoint_if_cancelled()
        assert self._group is not None
        if was_idle and self._client.pace is Pace.STREAM:
            await self._begin(begun)  # its commands would need a segment of their own
            await anyio.lowlevel.checkpoint_if_cancelled()
        else:
            self._group.start_soon(self.guarded, lambda: self._begin(begun))

    async def _begin(self, begun: anyio.Event) -> None:
        """Tells the feed that the last bytes of these transactions are about to leave."""
        await self._feed.begin([work.transaction for work in self._works.values() if work.begun is begun])
        begun.set()

    async def send(self) -> None:
        """Sends all that may leave now."""
        while not self._pump():
            if (number := self._client.body_of) is not None:
                work = self._works[number]
                await work.begun.wait()
                await self._wire.drain()
                if not work.is_in_memory:
                    await self._send_file(number, work)
            await self._wire.drain()

    def _pump(self) -> bool:
        """Sends what may leave now; False when something has to be waited for first."""
        while True:
            is_secret = self._client.is_secret
            if data := self._client.data_to_send():
                self._wire.trace("C:", data, is_secret=is_secret)
                self._wire.put(data)
            self._handle_events()
            number = self._client.body_of
            if number is None:
                self._flush()
                return not self._wire.stream.is_full
            work = self._works[number]
            if not (work.begun.is_set() and work.is_in_memory):
                self._flush()
                return False
            with self._sending(number, work):
                for chunk in work.transaction.content.chunks():
                    self._wire.put(self._client.body_data(chunk))
            if self._meter.wants_one_unsent and self._wants_work():
                self._wire.hold_back(True)
            if self._wire.is_full or self._meter.wants_each_alone:
                self._flush()
                if self._wire.stream.is_full:
                    return False

    def _flush(self) -> None:
        self._wire.flush()
        self._meter.flushed()

    async def _send_file(self, number: int, work: _Work) -> None:
        chunks = work.transaction.content.chunks()
        with self._sending(number, work):
            while (chunk := await anyio.to_thread.run_sync(next, chunks, None)) is not None:
                self._wire.put(self._client.body_data(chunk))
                if self._wire.is_full:
                    self._flush()
                    await self._wire.drain()

    @contextmanager
    def _sending(self, number: int, work: _Work) -> Iterator[None]:
        """Around the content of a message. What cannot be read, or is not what it was, ends the session."""
        self._reckoning.note_content_begun(number)
        try:
            yield
            self._wire.put(self._client.body_end())
        except (OSError, UsageError) as error:
            self._reckoning.note_content_spoiled(number, error)
            raise _SessionOver from error
        self._reckoning.note_content_sent()
        self._window.note_sent(number, self._now())
        self._meter.sent(number)
        work.is_sent = True

    def release(self) -> None:
        """Settles whatever is still open."""
        self._client.abandon()
        self._handle_events()


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
