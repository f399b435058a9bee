"""The spool without a disk: plain dictionaries, for tests and for reading what the verbs mean.

It passes the conformance suite of the real one, and forgets everything when it is dropped.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

from masqmail.routing.route import RouteClass
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
    StoredMessage,
    StoredRecipient,
    Tell,
)
from masqmail.spool.changes import (
    IN_DOUBT,
    forwarded_entries,
    is_allowed,
    is_selected,
    message_size,
    new_children,
    received_text,
    recorded_entry,
    settled,
    stored_message,
    stored_recipient,
    unqueued_entries,
)
from masqmail.spool.memorymarks import MemoryMarks
from masqmail.spool.states import State
from masqmail.spool.verbs import verb


class MemoryBody:
    """A body while it is received."""

    def __init__(self) -> None:
        self.data = bytearray()

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def write(self, data: bytes) -> None:
        self.data += data

    def read(self) -> bytes:
        return bytes(self.data)

    def discard(self) -> None:
        """There is nothing to remove."""


@dataclass(slots=True)
class _Place:
    """A recipient with what is not for others to see. Its age is worked out when it is read."""

    value: StoredRecipient
    base: float
    touched: datetime
    begun: bool = False
    held: str | None = None  # the reason, when somebody held it while it was leased


@dataclass(slots=True)
class _Custody:
    """A message and its recipients."""

    message: StoredMessage
    places: dict[int, _Place] = field(default_factory=dict)


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class MemorySpool(MemoryMarks):
    """The queue in memory, see `api.Spool`. `capacity_bytes` is the size of its pretended disk."""

    def __init__(self, now: Callable[[], datetime] = _wall_clock, capacity_bytes: int = 1 << 30) -> None:
        super().__init__()
        self.capacity_bytes = capacity_bytes
        self._now = now
        self._numbers = count(1)
        self._order: dict[str, int] = {}  # of everything ever accepted, for the places in a listing
        self._queue: dict[str, _Custody] = {}
        self._usable: defaultdict[RouteClass, float] = defaultdict(float)
        self._history: list[HistoryEntry] = []
        self._facts: dict[str, str] = {}

    # receiving

    def new_body(self) -> MemoryBody:
        return MemoryBody()

    def has_room(self, size_bytes: int) -> bool:
        return sum(item.message.size_bytes for item in self._queue.values()) + size_bytes <= self.capacity_bytes

    @verb
    def accept(self, messages: Sequence[NewMessage]) -> None:
        self._take_in(messages)

    def accept_and_tell(self, messages: Sequence[NewMessage], tell: Tell) -> None:
        try:
            self._take_in(messages)
        except SpoolError as error:
            tell(error)
        else:
            tell(None)

    def _take_in(self, messages: Sequence[NewMessage]) -> None:
        if not self.has_room(sum(map(message_size, messages))):
            raise SpoolFull("the pretended disk is full")
        self._check(messages)
        self._accept(messages)

    def _check(self, messages: Sequence[NewMessage]) -> None:
        for message in messages:
            if message.queue_id in self._queue:
                raise SpoolError(f"the message {message.queue_id} is there already")
            if not message.recipients:
                raise SpoolError(f"the message {message.queue_id} has no recipients")

    def _accept(self, messages: Sequence[NewMessage]) -> None:
        for message in messages:
            text = received_text(message, message_size(message))
            self._history.append(HistoryEntry(message.received_at, message.queue_id, "received", text=text))
            self._history += unqueued_entries(message)
            self._order[message.queue_id] = next(self._numbers)
            if message.fetched is not None:
                self._note_fetched(message.fetched)
            if not all(recipient.state.is_ended for recipient in message.recipients):
                self._queue[message.queue_id] = self._store(message)

    def _store(self, message: NewMessage) -> _Custody:
        body = bytes(message.body.data) if isinstance(message.body, MemoryBody) else message.body
        assert isinstance(body, bytes)  # or a body of another spool
        custody = _Custody(stored_message(self._order[message.queue_id], message, body))
        for recipient in message.recipients:
            id = next(self._numbers)
            base = self._usable[recipient.route_class]
            custody.places[id] = _Place(stored_recipient(id, recipient), base, message.received_at)
        return custody

    # sending

    @verb
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
    ) -> list[Lease]:
        leases: list[Lease] = []
        size = 0
        for custody in self._queue.values():
            wanted = [
                place
                for place in self._wanted(custody, classes, now, woken_at)
                if domain is None or place.value.domain == domain
            ]
            size += custody.message.size_bytes if wanted else 0
            if leases and (len(leases) >= max_messages or size > max_bytes):
                break
            if wanted:
                for place in wanted:
                    place.value = replace(place.value, state=State.LEASED, due=None)
                    place.touched = self._now()
                leases.append(Lease(custody.message, tuple(map(self._read, wanted))))
        return leases

    def _wanted(
        self, custody: _Custody, classes: Collection[RouteClass], now: datetime, woken_at: datetime | None
    ) -> Iterator[_Place]:
        for place in custody.places.values():
            state, due = place.value.state, place.value.due
            is_due = due is None or due <= now or (woken_at is not None and place.touched < woken_at)
            if state.is_waiting and is_due and place.value.route_class in classes:
                yield place

    @verb
    def waiting_domains(
        self,
        classes: Collection[RouteClass],
        *,
        now: datetime,
        woken_at: datetime | None = None,
        limit: int = 100,
    ) -> list[str]:
        wanted = (place for item in self._queue.values() for place in self._wanted(item, classes, now, woken_at))
        return sorted({place.value.domain for place in wanted} - {""})[:limit]

    @verb
    def begin(self, recipient_ids: Collection[int]) -> None:
        for _, place in self._places():
            place.begun |= place.value.id in recipient_ids

    @verb
    def record(self, records: Sequence[Record], reports: Sequence[NewMessage] = ()) -> None:
        self._check(reports)
        known = {place.value.id: (custody, place) for custody, place in self._places()}
        for item in records:
            if item.recipient_id in known:
                self._settle(item, *known[item.recipient_id])
        self._accept(reports)
        self._drop_ended()

    @verb
    def forward(
        self, recipient_id: int, children: Sequence[NewRecipient], reports: Sequence[NewMessage], text: str
    ) -> None:
        for custody, place in list(self._places(State.LEASED)):
            if place.value.id != recipient_id:
                continue
            self._check(reports)
            del custody.places[recipient_id]
            there = [(other.value.kind, other.value.target) for other in custody.places.values()]
            new = new_children(children, there, place.held)
            self._add_recipients(custody, new)
            queue_id = custody.message.queue_id
            self._history += forwarded_entries(queue_id, place.value.target, text, new, self._now())
            self._drop_ended()
            self._accept(reports)

    def _add_recipients(self, custody: _Custody, recipients: Sequence[NewRecipient]) -> None:
        for recipient in recipients:
            id = next(self._numbers)
            base = self._usable[recipient.route_class]
            custody.places[id] = _Place(stored_recipient(id, recipient), base, self._now())

    def _settle(self, item: Record, custody: _Custody, place: _Place) -> None:
        old, attempt = place.value, item.attempt
        if not is_allowed(old.state, item.state):
            return
        state, reason = settled(item, place.held)
        place.base = self._moved_base(place, item.route_class)
        place.begun, place.held = False, None
        place.value = replace(
            old,
            route_class=item.route_class,
            state=state,
            reason=reason,
            due=item.due if state is State.DEFERRED else None,
            attempts=old.attempts + (attempt is not None and attempt.spent),
            last_attempt_at=attempt.at if attempt else old.last_attempt_at,
            last_route=attempt.route if attempt else old.last_route,
            last_status=item.status or old.last_status,
            warned=old.warned if item.warned is None else item.warned,
        )
        entry = recorded_entry(item, custody.message.queue_id, old.target, old.reason, self._now())
        self._history += [entry] if entry else []

    def _drop_ended(self) -> None:
        for queue_id, custody in list(self._queue.items()):
            if all(place.value.state.is_ended for place in custody.places.values()):
                del self._queue[queue_id]

    @verb
    def next_due(self, classes: Collection[RouteClass], *, after: datetime) -> datetime | None:
        values = [place.value for _, place in self._places() if place.value.route_class in classes]
        return min((value.due for value in values if value.due is not None and value.due > after), default=None)

    @verb
    def recover(self, now: datetime) -> int:
        doubts = 0
        for custody, place in self._places(State.LEASED):
            if place.begun:
                doubts += 1
                place.value = replace(place.value, reason=IN_DOUBT)
                queue_id, target = custody.message.queue_id, place.value.target
                self._history.append(HistoryEntry(now, queue_id, "in doubt", target, text=IN_DOUBT))
            if place.held is None:
                place.value = replace(place.value, state=State.QUEUED)
            else:
                place.value = replace(place.value, state=State.HELD, reason=place.held)
            place.begun, place.held = False, None
        return doubts

    @verb
    def clamp_due(self, now: datetime, longest_wait: timedelta) -> None:
        for _, place in self._places(State.DEFERRED):
            if place.value.due is not None and place.value.due > now + longest_wait:
                place.value = replace(place.value, due=now)

    # classes and their clocks

    @verb
    def classes(self) -> dict[RouteClass, int]:
        return dict(Counter(place.value.route_class for _, place in self._places() if not place.value.state.is_ended))

    @verb
    def advance(self, seconds: float, usable: Collection[RouteClass]) -> None:
        for route_class in usable:
            self._usable[route_class] += seconds

    @verb
    def stale(self, generation: str, limit: int = 200) -> list[QueuedMessage]:
        found = {
            custody.message.queue_id: custody
            for custody, place in self._places()
            if place.value.route_class.generation != generation
            and not place.value.route_class.is_local
            and (place.value.state.is_waiting or place.value.state is State.HELD)
        }
        items = [self._queued(custody) for custody in list(found.values())[:limit]]
        return list(map(_without_body, items))

    @verb
    def reclass(self, moves: Sequence[tuple[int, RouteClass]]) -> None:
        wanted = dict(moves)
        for _, place in self._places():
            state, route_class = place.value.state, wanted.get(place.value.id)
            if route_class is not None and (state.is_waiting or state is State.HELD):
                place.base = self._moved_base(place, route_class)
                place.value = replace(place.value, route_class=route_class)

    # people

    @verb
    def listing(
        self, *, after: str = "", limit: int | None = None, owner_uid: int | None = None
    ) -> list[QueuedMessage]:
        if after and after not in self._order:
            return []
        selection, start = Selection(owner_uid=owner_uid), self._order.get(after, 0)
        items = [self._queued(item) for item in self._queue.values() if item.message.key > start]
        found = [item for item in items if is_selected(selection, item)][:limit]
        return [replace(item, message=replace(item.message, header=b"", body=b"")) for item in found]

    @verb
    def find(self, queue_id: str, *, with_body: bool = True) -> QueuedMessage | None:
        if queue_id not in self._queue:
            return None
        found = self._queued(self._queue[queue_id])
        return found if with_body else _without_body(found)

    @verb
    def select(self, selection: Selection) -> list[str]:
        names = list(self._queue) if selection.queue_ids is None else dict.fromkeys(selection.queue_ids)
        return [
            name for name in names if name in self._queue and is_selected(selection, self._queued(self._queue[name]))
        ]

    @verb
    def hold(self, queue_ids: Collection[str], reason: str, *, leased: bool = True) -> int:
        def hold_one(place: _Place) -> bool:
            if leased and place.value.state is State.LEASED and place.held is None:
                place.held = reason
                return True
            return place.value.state.is_waiting and _move(place, State.HELD, reason)

        return self._each_recipient(queue_ids, "held", reason, hold_one)

    @verb
    def release(self, queue_ids: Collection[str]) -> int:
        def release_one(place: _Place) -> bool:
            if place.held is not None:
                place.held = None
                return True
            return place.value.state is State.HELD and _move(place, State.QUEUED, "")

        return self._each_recipient(queue_ids, "released", "", release_one)

    @verb
    def retry(self, queue_ids: Collection[str]) -> int:
        def retry_one(place: _Place) -> bool:
            return place.value.state.is_waiting and _move(place, State.QUEUED, place.value.reason)

        return self._each_recipient(queue_ids, "retried", "", retry_one)

    def _each_recipient(
        self, queue_ids: Collection[str], event: str, text: str, change: Callable[[_Place], bool]
    ) -> int:
        total = 0
        for queue_id in queue_ids:
            places = self._queue[queue_id].places if queue_id in self._queue else {}
            concerned = sum(map(change, places.values()))
            if concerned:
                self._history.append(HistoryEntry(self._now(), queue_id, event, text=text))
            total += concerned
        return total

    @verb
    def remove(self, queue_ids: Collection[str], now: datetime, text: str) -> int:
        there = [queue_id for queue_id in queue_ids if self._queue.pop(queue_id, None)]
        self._history += [HistoryEntry(now, queue_id, "removed", text=text) for queue_id in there]
        return len(there)

    @verb
    def counts(self) -> Counts:
        states = Counter(place.value.state for _, place in self._places())
        messages = [custody.message for custody in self._queue.values()]
        queued = states[State.QUEUED] + states[State.LEASED]
        return Counts(
            messages=len(messages),
            recipients=queued + states[State.DEFERRED] + states[State.HELD],
            queued=queued,
            deferred=states[State.DEFERRED],
            held=states[State.HELD],
            bytes=sum(message.size_bytes for message in messages),
            oldest_at=messages[0].received_at if messages else None,
        )

    @verb
    def note(self, entries: Sequence[HistoryEntry]) -> None:
        self._history += entries

    @verb
    def history(self, queue_id: str = "", *, limit: int = 200) -> Sequence[HistoryEntry]:
        return [entry for entry in self._history if queue_id in ("", entry.queue_id)][-limit:]

    @verb
    def trim(self, before: datetime) -> None:
        self._history = [entry for entry in self._history if entry.at >= before or entry.queue_id in self._queue]

    @verb
    def tidy(self) -> None:
        """Nothing is left over."""

    # a few facts that outlive the process

    @verb
    def remember(self, key: str, value: str) -> None:
        self._facts[key] = value

    @verb
    def recall(self, key: str) -> str | None:
        return self._facts.get(key)

    @verb
    def close(self) -> None:
        """Nothing is open."""

    def _places(self, state: State | None = None) -> Iterator[tuple[_Custody, _Place]]:
        for custody in self._queue.values():
            for place in custody.places.values():
                if state is None or place.value.state is state:
                    yield custody, place

    def _read(self, place: _Place) -> StoredRecipient:
        return replace(place.value, age=timedelta(seconds=self._usable[place.value.route_class] - place.base))

    def _moved_base(self, place: _Place, route_class: RouteClass) -> float:
        return self._usable[route_class] - (self._usable[place.value.route_class] - place.base)

    def _queued(self, custody: _Custody) -> QueuedMessage:
        return QueuedMessage(custody.message, tuple(map(self._read, custody.places.values())))


def _without_body(item: QueuedMessage) -> QueuedMessage:
    return replace(item, message=replace(item.message, body=b""))


def _move(place: _Place, state: State, reason: str) -> bool:
    place.value = replace(place.value, state=state, reason=reason, due=None)
    return True
