"""What the rest of the program sees of the durable queue: its values and its verbs.

A spool knows *when* something is due, not what should happen then; that is decided in `routing`. Every verb
takes effect in the order of the calls, also when its result is not awaited; what it returns is done when the
change is on stable storage. `sqlite.SqliteSpool` and `memory.MemorySpool` implement `Spool` and pass the same
conformance suite (`tests/spool/conformance.py`).

Some changes do no harm when they are lost: `lease`, `begin`, `advance`, `reclass`, `clamp_due`, `trim`. They
survive the death of the process like all others, but a power failure only when a later change was synced.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Body, Notify, Ret
from masqmail.mail.status import Status
from masqmail.routing.route import RouteClass
from masqmail.spool.fetchmark import FetchFate as FetchFate
from masqmail.spool.fetchmark import FetchMark as FetchMark
from masqmail.spool.fetchmark import FetchMarks
from masqmail.spool.fetchmark import Uid as Uid
from masqmail.spool.states import State


class SpoolError(Exception):
    """Something kept the spool from doing what was asked; nothing of it was stored."""


class SpoolFull(SpoolError):
    """Too little space is left; answer 452 4.3.1."""


class SpoolBroken(SpoolError):
    """A write or sync failed, or the file is damaged: this process must not go on (a failed fsync is final)."""


class ContentLost(SpoolError):
    """The header or body of one message cannot be read; the rest of the queue is as it was."""


class Kind(Enum):
    """What a message is to us: decides what happens when it cannot be delivered."""

    MAIL = "mail"
    REPORT = "report"  # a DSN of ours; when it fails it goes to the postmaster
    NOTICE = "notice"  # to the postmaster about the system itself, and reports that failed; ends there
    FETCHED = "fetched"  # from an account of ours on a server; its sender is a stranger who is told nothing


class TargetKind(Enum):
    """What a recipient's `target` names."""

    REMOTE = "remote"  # an address elsewhere
    MAILBOX = "mailbox"  # a local user's mailbox
    USER = "user"  # a local user, whose ~/.forward is still to be asked; the mailbox where there is none
    PIPE = "pipe"  # "|command", from an alias file or a .forward
    FILE = "file"  # "/path" (mbox) or "/path/" (Maildir), from an alias file or a .forward


class NewRecipient(NamedTuple):
    """One recipient of a message to accept; its alias expansion is done.

    `target` is an address, a user name, "|command" or a path, by `kind`; `original` the address that was
    asked for. `source` says where a pipe or file came from, as "FILE:NAME" of the alias entry. `domain` is
    the folded domain of a remote target. A recipient that must fail at once (a bad alias entry) comes in
    state FAILED with its status and reason, and its report in the same call of `accept`.
    """

    target: str
    original: str
    kind: TargetKind
    route_class: RouteClass
    domain: str = ""
    source: str = ""
    notify: Notify | None = None
    orcpt: str = ""
    reported: bool = True  # False for archive copies: they make no reports
    state: State = State.QUEUED
    status: Status | None = None
    reason: str = ""


class BodyWriter(Protocol):
    """Takes a message body while it is received; small ones stay in memory, big ones go to a file."""

    @property
    def size_bytes(self) -> int: ...

    def write(self, data: bytes) -> None:
        """Adds to the body. Raises `SpoolFull` when the disk is."""

    def read(self) -> bytes:
        """All that was written, for whoever knows that it is not too much; not after `accept`."""

    def discard(self) -> None:
        """Forgets the body; harmless after `accept`."""


class NewMessage(NamedTuple):
    """A message to accept. `header` is its whole header section with the trace field, each line ending in CRLF.

    `body` is all behind the blank line. The message as sent is header, CRLF, body (`size_bytes` counts it).
    `declared_body` is what MAIL declared, or 8BITMIME when the text turned out to be that.
    """

    queue_id: str
    reverse_path: Mailbox | None
    recipients: Sequence[NewRecipient]
    header: bytes
    body: BodyWriter | bytes
    received_at: datetime
    received_from: str  # for people: "bob (uid 1000)", "192.168.1.7 (printer)"
    protocol: str = ""  # RFC 3848: "ESMTPSA"; "local"
    owner_uid: int | None = None  # who may see and remove it, when handed in by a local user
    ret: Ret | None = None
    envid: str = ""
    declared_body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    kind: Kind = Kind.MAIL
    priority: int = 0
    fetched: FetchMark | None = None  # stored with it, in place of an older one


def body_pieces(body: bytes | Path, size_bytes: int = 65536) -> Iterator[bytes]:
    """A stored body in pieces: one that is in memory as it is, a file never whole."""
    if isinstance(body, bytes):
        if body:
            yield body
        return
    with body.open("rb") as file:
        while piece := file.read(size_bytes):
            yield piece


@frozen
class StoredMessage:
    """A message in our custody, as it was accepted. A big body is a file, a small one is here."""

    key: int
    queue_id: str
    reverse_path: Mailbox | None
    header: bytes
    body: bytes | Path
    size_bytes: int
    received_at: datetime
    received_from: str
    protocol: str
    owner_uid: int | None
    ret: Ret | None
    envid: str
    declared_body: Body
    smtputf8: bool
    kind: Kind
    priority: int

    def body_chunks(self, size_bytes: int = 65536) -> Iterator[bytes]:
        """The body in pieces; a file is never loaded whole."""
        return body_pieces(self.body, size_bytes)


@frozen
class StoredRecipient:
    """One recipient in our custody.

    `age` is the time in which it could have been delivered (one of its routes was usable) since it was
    accepted; `warned` counts the warnings already sent.
    """

    id: int
    target: str
    original: str
    kind: TargetKind
    route_class: RouteClass
    domain: str
    source: str
    notify: Notify | None
    orcpt: str
    reported: bool
    state: State
    attempts: int
    age: timedelta
    warned: int
    due: datetime | None
    last_attempt_at: datetime | None
    last_status: Status | None
    last_route: str
    reason: str


@frozen
class Lease:
    """The right to work on these recipients of one message, until they are recorded."""

    message: StoredMessage
    recipients: tuple[StoredRecipient, ...]


@frozen
class Attempt:
    """What was done for a recipient, for its history. `spent` ones count as attempts."""

    at: datetime
    route: str
    remote_host: str
    spent: bool


@frozen
class Record:
    """The end of a lease for one recipient: its next state and why.

    `due` is for DEFERRED. A QUEUED recipient is due at once (once a route of its class is usable). When
    `route_class` differs from the stored one the recipient moves there with its age. `warned` of None leaves
    the count as it is.
    """

    recipient_id: int
    state: State
    reason: str
    route_class: RouteClass
    status: Status | None = None
    due: datetime | None = None
    attempt: Attempt | None = None
    warned: int | None = None


class HistoryEntry(NamedTuple):
    """One line of what happened to a message. `event` is "received", "delivered", "deferred", "failed", …"""

    at: datetime
    queue_id: str
    event: str
    recipient: str = ""
    route: str = ""
    remote_host: str = ""
    status: str = ""
    text: str = ""


@frozen
class QueuedMessage:
    """A message with all its recipients, the ended ones included, as `masqmail queue` lists it.

    Only `find` gives it whole, if asked to: `stale` leaves its body empty, `listing` its header as well.
    """

    message: StoredMessage
    recipients: tuple[StoredRecipient, ...]


@frozen
class Counts:
    """Recipients by state, and messages with their bytes. `queued` includes what is being sent."""

    messages: int
    recipients: int
    queued: int
    deferred: int
    held: int
    bytes: int
    oldest_at: datetime | None


@frozen
class Selection:
    """Which messages a person means. All given conditions must hold; patterns are address globs.

    `queue_ids` of None selects every message (for `--all` and the other conditions).
    """

    queue_ids: tuple[str, ...] | None = None
    sender: str = ""
    recipient: str = ""
    route: str = ""
    received_before: datetime | None = None
    owner_uid: int | None = None


#: Hears that something is on stable storage, or why it is not and nothing of it was stored.
Tell = Callable[[Exception | None], None]


class Spool(FetchMarks, Protocol):
    """The durable queue."""

    # receiving
    def new_body(self) -> BodyWriter: ...

    def has_room(self, size_bytes: int) -> bool:
        """Whether a message of that size may be accepted without eating into the reserve."""

    def accept(self, messages: Sequence[NewMessage]) -> Awaitable[None]:
        """Stores messages and their recipients, all or none. Raises `SpoolFull` or `SpoolBroken`."""

    def accept_and_tell(self, messages: Sequence[NewMessage], tell: Tell) -> None:
        """The same, for who has many on the way: `tell` is called when it is done, in the event loop."""

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
        """Takes waiting recipients of these classes, oldest first, and marks them LEASED by `worker`.

        Taken are those due by `now`, and those that have not been touched since `woken_at` whatever their
        due time (a link came up, somebody flushed). With `domain` only remote targets of that domain. All
        matching recipients of one message come in one lease. At least one message is taken if any is there,
        however big it is. When there are more than fit, those of the deferred ones are preferred that are
        overdue longest.
        """

    def waiting_domains(
        self,
        classes: Collection[RouteClass],
        *,
        now: datetime,
        woken_at: datetime | None = None,
        limit: int = 100,
    ) -> Awaitable[list[str]]:
        """Domains with recipients that `lease` would take, for direct delivery."""

    def begin(self, recipient_ids: Collection[int]) -> Awaitable[None]:
        """Notes that the last bytes of these recipients' transactions may now leave.

        What is begun and has no record when the program dies is in doubt.
        """

    def record(self, records: Sequence[Record], reports: Sequence[NewMessage] = ()) -> Awaitable[None]:
        """Ends leases, with the messages this causes, in one transaction. Ids that are gone are passed over.

        A message whose last recipient ended is removed with its body; its history stays. A recipient that
        somebody held while it was leased becomes HELD instead of QUEUED or DEFERRED.
        """

    def forward(
        self, recipient_id: int, children: Sequence[NewRecipient], reports: Sequence[NewMessage], text: str
    ) -> Awaitable[None]:
        """Ends the lease of a recipient in whose stead others get the message, in one transaction.

        The recipient is gone after that; `text` says in the history where it went. A child whose target the message
        has already is left out. When somebody held the recipient meanwhile, its waiting children are held. Nothing
        happens when it is gone or not leased.
        """

    def next_due(self, classes: Collection[RouteClass], *, after: datetime) -> Awaitable[datetime | None]:
        """When the next DEFERRED recipient of these classes becomes due, if that is later than `after`."""

    def recover(self, now: datetime) -> Awaitable[int]:
        """At start: gives back every lease of a daemon that died; what was begun gets its doubt in the history.

        Due times further away than a clock error would explain are the caller's to mend with `clamp_due`.
        Returns how many recipients were in doubt.
        """

    def clamp_due(self, now: datetime, longest_wait: timedelta) -> Awaitable[None]:
        """Makes due now what is due later than `now + longest_wait`: the clock was wrong when it was written."""

    # classes and their clocks
    def classes(self) -> Awaitable[dict[RouteClass, int]]:
        """Every class with recipients that have not ended, and how many."""

    def advance(self, seconds: float, usable: Collection[RouteClass]) -> Awaitable[None]:
        """Adds to the usable time of these classes; the age of their recipients grows by it."""

    def stale(self, generation: str, limit: int = 200) -> Awaitable[list[QueuedMessage]]:
        """Messages with waiting or held remote recipients whose class is of another generation."""

    def reclass(self, moves: Sequence[tuple[int, RouteClass]]) -> Awaitable[None]:
        """Moves recipients that are not leased to other classes, with their ages."""

    # people
    def listing(
        self, *, after: str = "", limit: int | None = None, owner_uid: int | None = None
    ) -> Awaitable[list[QueuedMessage]]:
        """Messages in order of arrival, from behind the queue ID `after`."""

    def find(self, queue_id: str, *, with_body: bool = True) -> Awaitable[QueuedMessage | None]:
        """The message with that queue ID; an empty body for who needs none, since reading it may take a while."""

    def select(self, selection: Selection) -> Awaitable[list[str]]:
        """The queue IDs that a selection means."""

    def hold(self, queue_ids: Collection[str], reason: str, *, leased: bool = True) -> Awaitable[int]:
        """Keeps waiting recipients until they are released, and `leased` ones if they come back; returns how many."""

    def release(self, queue_ids: Collection[str]) -> Awaitable[int]: ...

    def retry(self, queue_ids: Collection[str]) -> Awaitable[int]:
        """Makes waiting recipients due now."""

    def remove(self, queue_ids: Collection[str], now: datetime, text: str) -> Awaitable[int]:
        """Forgets messages without a report; their history says who asked. Returns how many messages."""

    def counts(self) -> Awaitable[Counts]: ...

    def note(self, entries: Sequence[HistoryEntry]) -> Awaitable[None]: ...

    def history(self, queue_id: str = "", *, limit: int = 200) -> Awaitable[Sequence[HistoryEntry]]:
        """What happened to a message, or lately, oldest first."""

    def trim(self, before: datetime) -> Awaitable[None]:
        """Forgets history older than `before` of messages that are gone, and gives free space back."""

    def tidy(self) -> Awaitable[None]:
        """Gives space back that a crash or a long queue has left. To be called now and then: it looks first."""

    # a few facts that outlive the process
    def remember(self, key: str, value: str) -> Awaitable[None]: ...

    def recall(self, key: str) -> Awaitable[str | None]: ...

    def close(self) -> Awaitable[None]: ...
