"""The messages of a POP3 session on their way into the queue, and the deletions that follow.

While one message is read those before it are being stored, and those behind it are asked for. DELE leaves only when
a message is on stable storage.

There are servers whose answers to pipelined commands get mixed up. So a message that came while others were asked
for is believed when it has the size that LIST gave, else it is asked for again, alone. Where such sizes turned out to
be wrong anyway it is believed when the reply behind it makes sense.

A message that gets far longer than `max_size` although LIST gave less can be stopped in one way only: the connection
is cut off. In the next session it has to come alone, and if it is as long then, it stays on the server.
"""

import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio

from masqmail.mail.outcome import Culprit
from masqmail.proto.pop3.transaction import Answer, Command, Done, Refused, Text, Verb
from masqmail.retrieval.account import FetchFailure, Inbox, Parcel
from masqmail.retrieval.pop3session import Request, Session
from masqmail.retrieval.pop3survey import Message, Rules
from masqmail.spool import intake
from masqmail.spool.api import SpoolError, Uid

MAX_HEADER_BYTES = 65536  # of a message that is cut off, for whoever is told of it
MAX_COMMITS = 32  # messages that are being stored at a time
DRAIN_SECONDS = 60.0  # for what is under way when we have to stop, so that QUIT can be said

#: So often in a row a connection may be lost while commands are under way, before they wait for each other.
MAX_STRIKES = 2


class TooLong(FetchFailure):
    """A message got longer than LIST had said and `max_size` lets it be. Another session will get further."""


@dataclass(slots=True)
class Habits:
    """What we know of a server from one session to the next."""

    garbles: bool = False  # pipelined commands confuse it
    sizes_are_true: bool | None = None  # in LIST; None until the first message came
    suspects: set[Uid] = field(default_factory=set)  # too long, when commands were pipelined
    strikes: int = 0  # connections lost in a row with commands under way
    deleted: set[Uid] = field(default_factory=set)  # in the last session, and it said so

    @property
    def may_pipeline(self) -> bool:
        return not self.garbles and self.strikes < MAX_STRIKES


class _Incoming:
    """A message that comes now. Without a parcel nobody wants it any more."""

    def __init__(self, message: Message, parcel: Parcel | None) -> None:
        self.message = message
        self.parcel = parcel
        self.octets = 0
        self._begin = bytearray()
        self._lines = 0
        self._checksum = 0

    def write(self, data: bytes) -> None:
        self.octets += len(data)
        self._begin += data[: MAX_HEADER_BYTES - len(self._begin)]
        self._lines += data.count(b"\n")
        self._checksum = zlib.crc32(data, self._checksum)
        if self.parcel is not None:
            self.parcel.write(data)

    @property
    def mark(self) -> tuple[int, int]:
        """Two messages with the same mark are the same."""
        return self.octets, self._checksum

    @property
    def header(self) -> bytes:
        """The header section, as far as it came."""
        head, separator, _ = bytes(self._begin).partition(b"\r\n\r\n")
        return head + separator

    @property
    def has_listed_size(self) -> bool:
        """Servers count line ends as one octet or as two, and the last one, if the file has none, not at all."""
        size = self.message.found.size_bytes
        return size in (self.octets, self.octets - 2, self.octets - self._lines, self.octets - self._lines - 1)

    def drop(self) -> None:
        if self.parcel is not None:
            self.parcel.discard()
            self.parcel = None


class Transfer:
    """Takes messages and deletes others. `deleted` and `troubles` say what came of it."""

    def __init__(self, session: Session, inbox: Inbox, rules: Rules, habits: Habits, *, time_scale: float) -> None:
        self.deleted: list[Uid] = []
        self.troubles: list[str] = []  # to stand behind the server's name
        self._session = session
        self._client = session.client
        self._inbox = inbox
        self._rules = rules
        self._habits = habits
        self._drain_seconds = DRAIN_SECONDS * time_scale
        self._to_take: deque[Message] = deque()
        self._to_delete: deque[Message] = deque()
        self._under_way: dict[int, Message] = {}  # asked for with RETR or DELE
        self._alone: set[int] = set()  # of these, who was asked for when nothing else was under way
        self._doubted: dict[int, tuple[int, int]] = {}  # the marks of messages that have to come again
        self._current: _Incoming | None = None
        self._held: _Incoming | None = None  # here, but not believed yet
        self._commits = 0
        self._committed = anyio.Event()
        self._stop: Exception | None = None
        self._group: anyio.abc.TaskGroup
        self._scope: anyio.CancelScope

    async def run(self, take: Sequence[Message], delete: Sequence[Message]) -> None:
        """Raises `FetchFailure`, or whatever a bug raises; everything that was begun is stored or dropped then."""
        self._to_take.extend(take)
        self._to_delete.extend(delete)
        failure: Exception | None = None
        async with anyio.create_task_group() as self._group:
            with anyio.CancelScope() as self._scope:
                try:
                    await self._work()
                except Exception as error:
                    failure = error
                finally:
                    self._drop_unfinished()
            if self._scope.cancelled_caught:
                self._session.cut_off()
        if (reason := self._stop or failure) is not None:
            raise reason

    async def _work(self) -> None:
        """Until everything is answered and stored."""
        client = self._client
        while True:
            while client.may_ask and (request := self._next_request()) is not None:
                client.ask(*request)
            if not client.is_idle:
                for answer in await self._session.answers():
                    await self._handle(answer)
            elif self._held is not None:
                await self._release()
            elif self._commits:
                await self._wait_for_commit()
            else:
                return

    # what is asked for

    def _next_request(self) -> Request | None:
        if self._alone:
            return None
        if self._to_delete:
            message = self._to_delete.popleft()
            self._under_way[message.number] = message
            return Command(Verb.DELE, message.number), 0
        if self._stop is not None or self._inbox.is_closing or not self._to_take:
            return None
        is_first = self._habits.sizes_are_true is None  # comes alone, to see what sizes are worth
        must_be_alone = is_first or self._to_take[0].found.uid in self._habits.suspects
        if must_be_alone and self._under_way:
            return None
        message = self._to_take.popleft()
        if must_be_alone or not self._client.pipelines:
            self._alone.add(message.number)
        self._under_way[message.number] = message
        return Command(Verb.RETR, message.number), message.found.size_bytes

    # what comes

    async def _handle(self, answer: Answer) -> None:
        await self._release()  # this makes sense, and so did that
        match answer:
            case Text(command, data):
                incoming = self._incoming(command.number)
                incoming.write(data)
                if incoming.parcel is not None and self._is_too_long(incoming):
                    await self._cut_off(incoming)
            case Done(Command(Verb.RETR, number)):
                incoming, self._current = self._incoming(number), None
                del self._under_way[number]
                await self._judge(incoming)
            case Done(Command(Verb.DELE, number)):
                self.deleted.append(self._under_way.pop(number).found.uid)
                self._inbox.tally.deleted += 1
                self._inbox.progress()
            case Refused(command, reply):
                del self._under_way[command.number]
                self._alone.discard(command.number)
                self._doubted.pop(command.number, None)
                self.troubles.append(f"refused {command}: {reply}")

    def _incoming(self, number: int) -> _Incoming:
        if self._current is None:
            message = self._under_way[number]
            self._current = _Incoming(message, None if self._stop else self._inbox.open(message.found))
        return self._current

    def _is_too_long(self, incoming: _Incoming) -> bool:
        most = self._rules.most_bytes
        return most is not None and incoming.octets > most

    async def _cut_off(self, incoming: _Incoming) -> None:
        """Ends the session in the middle of a message. Raises `TooLong`, when its owner is told if it came alone."""
        message = incoming.message
        self._session.cut_off()
        incoming.drop()
        if message.number in self._alone:
            self._habits.suspects.discard(message.found.uid)
            await self._inbox.leave(message.found._replace(size_bytes=incoming.octets), incoming.header)
            self._inbox.tally.left += 1
            self._inbox.progress()
        else:
            self._habits.suspects.add(message.found.uid)
        raise TooLong(
            f"{self._session.server} lists message {message.number} with {message.found.size_bytes} bytes, and sends "
            f"more than {self._rules.most_bytes}"
        )

    async def _judge(self, incoming: _Incoming) -> None:
        """Whether to believe a message: if it came alone or has its size, else when the next reply makes sense."""
        number = incoming.message.number
        if number not in self._alone:
            if not self._habits.sizes_are_true:
                self._held = incoming
            elif incoming.has_listed_size:
                await self._store(incoming)
            else:
                self._doubt(incoming)
            return
        self._alone.discard(number)
        if incoming.message.found.uid in self._habits.suspects:  # then it was mixed up with others
            self._habits.suspects.discard(incoming.message.found.uid)
            self._habits.garbles = True
            self._client.pipelines = False
        if self._habits.sizes_are_true is None:
            self._habits.sizes_are_true = incoming.has_listed_size
        elif number in self._doubted:
            self._settle_doubt(is_same=self._doubted.pop(number) == incoming.mark)
        await self._store(incoming)

    def _doubt(self, incoming: _Incoming) -> None:
        """It has to come again, alone."""
        self._client.pipelines = False
        self._doubted[incoming.message.number] = incoming.mark
        self._to_take.appendleft(incoming.message)
        incoming.drop()

    def _settle_doubt(self, *, is_same: bool) -> None:
        """A message in doubt came again: if as before, its listed size is wrong, else it was not the message."""
        if is_same:
            self._habits.sizes_are_true = False
        else:
            self._habits.garbles = True
        self._client.pipelines = self._habits.may_pipeline and not self._doubted

    async def _release(self) -> None:
        """The message that was held back is believed now."""
        incoming, self._held = self._held, None
        if incoming is not None:
            await self._store(incoming)

    async def _store(self, incoming: _Incoming) -> None:
        """Hands a message to the queue, in the background."""
        while self._commits >= MAX_COMMITS:
            await self._wait_for_commit()
        if incoming.parcel is not None and self._stop is None:
            self._commits += 1
            self._group.start_soon(self._commit, incoming.message, incoming.parcel, incoming.octets)
        else:
            incoming.drop()

    # into the queue

    async def _wait_for_commit(self) -> None:
        await self._committed.wait()
        self._committed = anyio.Event()

    async def _commit(self, message: Message, parcel: Parcel, octets: int) -> None:
        tally = self._inbox.tally
        try:
            try:
                await parcel.finish()
            except intake.Refused as refusal:
                await self._inbox.refuse(message.found, str(refusal))
                tally.refused += 1
            else:
                tally.taken += 1
                tally.taken_bytes += octets
                if self._rules.is_over(self._rules.now):
                    self._to_delete.append(message)
        except SpoolError as error:
            self._end(FetchFailure(f"a message could not be stored: {error}", Culprit.LOCAL))
        except Exception as error:  # a bug of ours: the server gets its QUIT all the same
            self._end(error)
        finally:
            parcel.discard()
            self._commits -= 1
            self._committed.set()
        self._inbox.progress()

    def _drop_unfinished(self) -> None:
        for incoming in (self._held, self._current):
            if incoming is not None:
                incoming.drop()

    def _end(self, reason: Exception) -> None:
        """Nothing more is taken. What is under way is heard to its end, if that does not take too long."""
        self._stop = self._stop or reason
        if self._current is not None:
            self._current.drop()
        self._scope.deadline = min(self._scope.deadline, anyio.current_time() + self._drain_seconds)
