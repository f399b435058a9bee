"""The spool in one SQLite file: every verb becomes a request to the writer.

`writer` runs the requests in groups, `database` is what they run on, and what they do stands in `custody`,
`leases`, `messages`, `people`, `reclassing`, `fetched`, `history` and `space`. Big bodies are files, see `bodies`.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from masqmail.routing.route import RouteClass
from masqmail.spool import custody, fetched, history, leases, messages, people, reclassing, space
from masqmail.spool.api import (
    Counts,
    HistoryEntry,
    Lease,
    NewMessage,
    NewRecipient,
    QueuedMessage,
    Record,
    Selection,
    SpoolError,
    SpoolFull,
    Tell,
)
from masqmail.spool.bodies import IN_MEMORY_BYTES, IN_ROW_BYTES, Bodies, NewBody
from masqmail.spool.changes import message_size
from masqmail.spool.database import Database
from masqmail.spool.fetchmark import FetchMark, Uid
from masqmail.spool.room import Room
from masqmail.spool.writer import Effect, Writer


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class SqliteSpool:
    """The durable queue, see `api.Spool`. Made by `open`; its verbs belong to the event loop it was opened in."""

    def __init__(self, directory: Path, monotonic: Callable[[], float]) -> None:
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._room = Room(directory, monotonic)
        self._bodies = Bodies(directory / "bodies", self._room.has)
        self._writer = Writer()

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        now: Callable[[], datetime] = _wall_clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> "SqliteSpool":
        """Opens the queue in a folder; makes both if they are not there.

        Raises `SpoolError` when it cannot be used or another process does, `SpoolBroken` when it is damaged.
        `now` is the clock by which leases are compared with `woken_at`.
        """
        try:
            spool = cls(directory, monotonic)
            await spool._writer.start(partial(Database, directory, spool._bodies, now))
        except OSError as error:
            raise SpoolError(f"cannot use the spool {directory}: {error}") from error
        return spool

    # receiving

    def new_body(self) -> NewBody:
        return self._bodies.new()

    def has_room(self, size_bytes: int) -> bool:
        return self._room.has(size_bytes)

    def accept(self, messages: Sequence[NewMessage]) -> Awaitable[None]:
        future, tell = self._writer.future()
        self.accept_and_tell(messages, tell)
        return future

    def accept_and_tell(self, messages: Sequence[NewMessage], tell: Tell) -> None:
        messages = [self._take_body(message) for message in messages]
        size_bytes = in_rows = 0
        for message in messages:
            size = message_size(message)
            size_bytes += size
            header_size = len(message.header)
            in_rows += header_size if size - header_size > IN_ROW_BYTES else size
        if self._room.has(size_bytes):
            self._writer.submit_joint(
                custody.accept,
                messages,
                Effect.FIRM,
                tell,
                size_bytes=in_rows,
                on_failure=custody.drop,
                is_owed=False,
            )
        else:
            custody.drop(messages)
            tell(SpoolFull("the disk is nearly full"))

    def _take_body(self, message: NewMessage) -> NewMessage:
        """The message with a big body as `NewBody`; this is the spool's from now on."""
        body = message.body
        if isinstance(body, bytes):
            if len(body) <= IN_MEMORY_BYTES:
                return message
            body = self._bodies.new(body)
            message = message._replace(body=body)
        assert isinstance(body, NewBody)  # or a body of another spool
        body.take()
        return message

    # sending

    def lease(
        self,
        worker: str,
        classes: Collection[RouteClass],
        *,
        now: datetime,
        woken_at: datetime | None = None,
        domain: str | None = None,
        max_messages: int = 64,
        max_bytes: int = 1 << 20,
    ) -> Awaitable[list[Lease]]:
        wanted = leases.Wanted(tuple(classes), now, woken_at, domain)
        bounds = leases.Bounds(max_messages, max_bytes)
        return self._writer.submit(lambda db: leases.lease(db, worker, wanted, bounds), Effect.LOOSE)

    def waiting_domains(
        self,
        classes: Collection[RouteClass],
        *,
        now: datetime,
        woken_at: datetime | None = None,
        limit: int = 100,
    ) -> Awaitable[list[str]]:
        wanted = leases.Wanted(tuple(classes), now, woken_at)
        return self._writer.submit(lambda db: leases.waiting_domains(db, wanted, limit), Effect.NOTHING)

    def begin(self, recipient_ids: Collection[int]) -> Awaitable[None]:
        future, tell = self._writer.future()
        self._writer.submit_joint(leases.begin, tuple(recipient_ids), Effect.LOOSE, tell)
        return future

    def record(self, records: Sequence[Record], reports: Sequence[NewMessage] = ()) -> Awaitable[None]:
        future, tell = self._writer.future()
        reports = [self._take_body(report) for report in reports]
        self._writer.submit_joint(
            custody.record,
            (records, reports),
            Effect.FIRM,
            tell,
            size_bytes=sum(map(message_size, reports)),
            on_failure=custody.drop_reports,
        )
        return future

    def forward(
        self, recipient_id: int, children: Sequence[NewRecipient], reports: Sequence[NewMessage], text: str
    ) -> Awaitable[None]:
        future, tell = self._writer.future()
        reports = [self._take_body(report) for report in reports]
        self._writer.submit_joint(
            custody.forward,
            (recipient_id, children, reports, text),
            Effect.FIRM,
            tell,
            size_bytes=sum(map(message_size, reports)),
            on_failure=custody.drop_forward,
        )
        return future

    def next_due(self, classes: Collection[RouteClass], *, after: datetime) -> Awaitable[datetime | None]:
        wanted = tuple(classes)
        return self._writer.submit(lambda db: leases.next_due(db, wanted, after), Effect.NOTHING)

    def recover(self, now: datetime) -> Awaitable[int]:
        return self._writer.submit(lambda db: leases.recover(db, now), Effect.FIRM)

    def clamp_due(self, now: datetime, longest_wait: timedelta) -> Awaitable[None]:
        return self._writer.submit(lambda db: leases.clamp_due(db, now, longest_wait), Effect.LOOSE)

    # classes and their clocks

    def classes(self) -> Awaitable[dict[RouteClass, int]]:
        return self._writer.submit(reclassing.classes, Effect.NOTHING)

    def advance(self, seconds: float, usable: Collection[RouteClass]) -> Awaitable[None]:
        wanted = tuple(usable)
        return self._writer.submit(lambda db: reclassing.advance(db, seconds, wanted), Effect.LOOSE)

    def stale(self, generation: str, limit: int = 200) -> Awaitable[list[QueuedMessage]]:
        return self._writer.submit(lambda db: reclassing.stale(db, generation, limit), Effect.NOTHING)

    def reclass(self, moves: Sequence[tuple[int, RouteClass]]) -> Awaitable[None]:
        return self._writer.submit(lambda db: reclassing.reclass(db, moves), Effect.LOOSE)

    # people

    def listing(
        self, *, after: str = "", limit: int | None = None, owner_uid: int | None = None
    ) -> Awaitable[list[QueuedMessage]]:
        return self._writer.submit_sliced(lambda db: messages.listing(db, after, limit, owner_uid))

    def find(self, queue_id: str, *, with_body: bool = True) -> Awaitable[QueuedMessage | None]:
        return self._writer.submit(lambda db: messages.find(db, queue_id, with_body=with_body), Effect.NOTHING)

    def select(self, selection: Selection) -> Awaitable[list[str]]:
        return self._writer.submit_sliced(lambda db: messages.select(db, selection))

    def hold(self, queue_ids: Collection[str], reason: str, *, leased: bool = True) -> Awaitable[int]:
        ids = tuple(queue_ids)
        return self._writer.submit(lambda db: people.hold(db, ids, reason, leased), Effect.FIRM)

    def release(self, queue_ids: Collection[str]) -> Awaitable[int]:
        ids = tuple(queue_ids)
        return self._writer.submit(lambda db: people.release(db, ids), Effect.FIRM)

    def retry(self, queue_ids: Collection[str]) -> Awaitable[int]:
        ids = tuple(queue_ids)
        return self._writer.submit(lambda db: people.retry(db, ids), Effect.FIRM)

    def remove(self, queue_ids: Collection[str], now: datetime, text: str) -> Awaitable[int]:
        ids = tuple(queue_ids)
        return self._writer.submit(lambda db: people.remove(db, ids, now, text), Effect.FIRM)

    def counts(self) -> Awaitable[Counts]:
        return self._writer.submit(people.counts, Effect.NOTHING)

    def note(self, entries: Sequence[HistoryEntry]) -> Awaitable[None]:
        return self._writer.submit(lambda db: history.add(db, entries), Effect.FIRM)

    def history(self, queue_id: str = "", *, limit: int = 200) -> Awaitable[Sequence[HistoryEntry]]:
        return self._writer.submit(lambda db: history.read(db, queue_id, limit), Effect.NOTHING)

    def trim(self, before: datetime) -> Awaitable[None]:
        return self._writer.submit_sliced(lambda db: history.trim(db, before))

    def tidy(self) -> Awaitable[None]:
        return self._writer.submit_sliced(space.tidy)

    # fetching

    def fetch_marks(self, account: str) -> Awaitable[dict[Uid, FetchMark]]:
        return self._writer.submit_sliced(lambda db: fetched.read(db, account))

    def mark_fetched(self, marks: Sequence[FetchMark]) -> Awaitable[None]:
        marks = tuple(marks)
        return self._writer.submit(lambda db: fetched.put(db, marks), Effect.FIRM)

    def forget_fetched(self, account: str, uids: Collection[Uid]) -> Awaitable[None]:
        names = tuple(uids)
        return self._writer.submit(lambda db: fetched.forget(db, account, names), Effect.FIRM)

    # a few facts that outlive the process

    def remember(self, key: str, value: str) -> Awaitable[None]:
        return self._writer.submit(lambda db: history.remember(db, key, value), Effect.FIRM)

    def recall(self, key: str) -> Awaitable[str | None]:
        return self._writer.submit(lambda db: history.recall(db, key), Effect.NOTHING)

    async def close(self) -> None:
        await self._writer.close()
