"""The one way into the queue: octets of a message become a stored message with its trace field.

Whoever receives a message opens an `Incoming`, writes the octets as they come and awaits `finish`, which returns
when message and envelope are on stable storage. Nothing that the content holds raises before that.
"""

import asyncio
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import NamedTuple, Protocol

from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox, show_path
from masqmail.mail.envelope import Body, Envelope, Notify
from masqmail.mail.header import field_names, split_fields
from masqmail.mail.status import MAIL_LOOP, MESSAGE_TOO_BIG, STORAGE_FULL, Status
from masqmail.mail.submission import (
    Submission,
    fix_header,
    from_mailboxes,
    header_recipients,
    is_complete,
    qualify_addresses,
    with_named,
)
from masqmail.mail.trace import count_hops, received_field
from masqmail.spool.api import BodyWriter, FetchMark, Kind, NewMessage, NewRecipient, Spool, SpoolFull
from masqmail.spool.queueid import QueueIds

#: A header section larger than this is no mail we know; RFC 5321 sets no bound, and it is held in memory.
HEADER_MAX_BYTES = 512 * 1024

HEADER_TOO_BIG = Status(552, "5.3.4", f"The header section is larger than {HEADER_MAX_BYTES} bytes")
NO_RECIPIENTS = Status(554, "5.1.0", "The message has no recipients")

# Complete lines that begin a field or continue one. The first line of a message cannot continue anything.
_FIELD_LINES = re.compile(rb"(?>(?:(?:[ \t]|[!-9;-~]++[ \t]*+:)[^\n]*+\n)*)")


class Refused(Exception):
    """The message is not taken; `status` is the answer. Nothing of it was stored."""

    def __init__(self, status: Status) -> None:
        super().__init__(str(status))
        self.status = status


@frozen
class Origin:
    """Where a message comes from.

    `description` is for people: "bob (uid 1000)". `received_clause` is made by `mail.trace.client_clause`,
    `local_clause` or `fetched_clause`. An `is_submission` message is new: its header is completed and blind copies
    are removed.
    """

    description: str
    protocol: str
    client_host: str = ""
    client_address: str = ""
    user: str = ""
    full_name: str = ""
    uid: int | None = None
    is_submission: bool = False
    received_clause: str = ""


class HeaderFacts(NamedTuple):
    """What the resolver may ask about a message that is about to be stored.

    `header` is complete, trace field included. `bad_recipients` are entries of To, Cc and Bcc that are no
    addresses; each deserves a report. `queue_only` messages wait until somebody says flush (`sendmail -odq`). `body`
    is there for a report that returns the message; None when it is empty.
    """

    queue_id: str
    header: bytes
    size_bytes: int
    received_at: datetime
    origin: Origin
    kind: Kind = Kind.MAIL
    queue_only: bool = False
    bad_recipients: tuple[str, ...] = ()
    body: BodyWriter | None = None

    def read_body(self) -> bytes:
        """The whole body, for whoever has looked at the size."""
        return self.body.read() if self.body else b""

    @property
    def from_mailboxes(self) -> tuple[Mailbox, ...]:
        """The addresses in From, read when they are asked for; what is no address there is passed over."""
        return from_mailboxes(split_fields(self.header))


class Resolution(NamedTuple):
    """What became of the envelope's recipients, and the reports to store in the same transaction."""

    recipients: Sequence[NewRecipient]
    reports: Sequence[NewMessage] = ()


#: Finds the envelope in a header section as it came, for mail that has no other, with a remark on it for people, or
#: none. Never raises.
EnvelopeOf = Callable[[bytes], tuple[Envelope, str]]

#: Turns recipients into targets with their route classes; pure and quick. May raise `Refused`.
Resolve = Callable[[Envelope, HeaderFacts], Resolution]


class Clock(Protocol):
    """The part of `system.clock.Clock` that is needed here."""

    def now(self) -> datetime: ...


@frozen
class IntakeSettings:
    """Our name in Received and Message-ID, and what we take."""

    host_name: str
    max_message_size_bytes: int
    max_hops: int = 50


class _Request(NamedTuple):
    """One message as it was announced."""

    envelope: Envelope | EnvelopeOf
    origin: Origin
    header_recipients: bool
    header_notify: Notify | None
    full_name: str
    queue_only: bool
    queue_id: str
    kind: Kind
    fetched: FetchMark | None
    submitted_at: datetime | None


def _say_nothing(**fields: object) -> None:
    """The default for `on_received`."""


@dataclass(slots=True)
class Intake:
    """Opens messages. `on_received` is called with the fields of the event "message received".

    Changed `settings` count for messages that are opened from then on.
    """

    spool: Spool
    resolve: Resolve
    clock: Clock
    settings: IntakeSettings
    on_received: Callable[..., None] = _say_nothing
    queue_ids: QueueIds = field(default_factory=QueueIds)
    _timestamp: int = field(init=False, default=-1)
    _local_time: datetime = field(init=False, default=datetime.min)

    def open(
        self,
        envelope: Envelope | EnvelopeOf,
        origin: Origin,
        *,
        header_recipients: bool = False,
        header_notify: Notify | None = None,
        full_name: str = "",
        queue_only: bool = False,
        queue_id: str = "",
        kind: Kind = Kind.MAIL,
        declared_size_bytes: int = 0,
        fetched: FetchMark | None = None,
        submitted_at: datetime | None = None,
    ) -> "Incoming":
        """Begins a message. Raises `Refused` at once when there is no room for its declared size.

        `header_recipients` adds those in To, Cc and Bcc, with `header_notify` as their NOTIFY. A `queue_id` is
        given only by who must be able to recognise the message after a crash. `fetched` is stored with the message,
        which then may have any size that there is room for. `submitted_at` is for mail that was handed in before it
        came to us: the time of its Date and of its trace field, while its lifetime begins now.
        """
        if not self.spool.has_room(declared_size_bytes):
            raise Refused(STORAGE_FULL)
        name = full_name or origin.full_name
        request = _Request(
            envelope,
            origin,
            header_recipients,
            header_notify,
            name,
            queue_only,
            queue_id,
            kind,
            fetched,
            submitted_at,
        )
        return Incoming(self, request)

    def local_time(self, now: datetime) -> datetime:
        """The second of this instant in local time; one value for all messages of a second."""
        timestamp = int(now.timestamp())
        if timestamp != self._timestamp:
            self._timestamp, self._local_time = timestamp, now.replace(microsecond=0).astimezone()
        return self._local_time


class Incoming:
    """One message on its way in. The first reason to refuse it is remembered and the rest of it ignored."""

    __slots__ = (
        "_body",
        "_header",
        "_intake",
        "_is_ascii",
        "_judged",
        "_limit",
        "_refusal",
        "_request",
        "_settings",
        "_size",
        "_tail",
        "_unread",
    )

    def __init__(self, intake: Intake, request: _Request) -> None:
        self._intake = intake
        self._request = request
        self._settings = intake.settings
        self._limit = intake.settings.max_message_size_bytes if request.fetched is None else sys.maxsize
        self._refusal: Status | None = None
        self._size = 0
        self._unread: bytes | bytearray = b""  # the header section until its end is found
        self._judged = 0  # how much of it is known to be complete lines of fields
        self._header: bytes | None = None
        self._body: BodyWriter | None = None
        self._tail = b"\r\n"  # the last two octets of the body
        self._is_ascii = True  # all of it so far

    def write(self, chunk: bytes) -> None:
        """Takes the next octets, in any slices; lines end in CRLF. Never raises for what they hold."""
        if self._refusal:
            return
        self._size += len(chunk)
        self._is_ascii = self._is_ascii and chunk.isascii()
        if self._size > self._limit:
            self._refuse(MESSAGE_TOO_BIG.with_text(f"Message too big, {self._limit} bytes are allowed"))
        elif self._header is None:
            if not self._unread:
                self._unread = chunk  # most often all of it
            else:
                self._unread = _as_bytearray(self._unread)
                self._unread += chunk
            if b"\n" in chunk:
                self._judge_lines()
            if len(self._unread) > HEADER_MAX_BYTES:
                self._refuse(HEADER_TOO_BIG)
        else:
            self._store(chunk)

    def finish(self) -> asyncio.Future[str]:
        """Stores the message. The future has its queue ID when it is on stable storage.

        Or it has `Refused`, or `SpoolBroken` when the storage itself failed; then nothing was stored. The message is
        stored whether or not somebody still waits for the future.
        """
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        try:
            message, reports = self._complete()
            self._intake.spool.accept_and_tell([message, *reports], partial(self._stored, done, message))
        except Exception as error:
            self._give_up(done, error)
        return done

    def _stored(self, done: asyncio.Future[str], message: NewMessage, error: Exception | None) -> None:
        """The spool has answered."""
        if error is not None:
            self._give_up(done, error)
            return
        if not done.done():  # else whoever waited was cancelled
            done.set_result(message.queue_id)
        self._intake.on_received(
            queue_id=message.queue_id,
            reverse_path=show_path(message.reverse_path),
            recipients=len(message.recipients),
            size_bytes=self._size,
            received_from=message.received_from,
            protocol=message.protocol,
        )

    def _give_up(self, done: asyncio.Future[str], error: Exception) -> None:
        self.discard()
        if not done.done():
            done.set_exception(Refused(STORAGE_FULL) if isinstance(error, SpoolFull) else error)

    def discard(self) -> None:
        """Forgets what was received; harmless after `finish`."""
        if self._body:
            self._body.discard()
            self._body = None

    def _judge_lines(self) -> None:
        """Looks for the end of the header section: an empty line, or the first line that can't be a field's."""
        unread = self._unread
        if self._judged or unread[0] not in b" \t":
            match = _FIELD_LINES.match(unread, self._judged)
            assert match  # it matches nothing as well
            self._judged = match.end()
        line_end = unread.find(b"\n", self._judged) + 1
        if not line_end:
            return
        end = self._judged
        body_start = line_end if unread[end:line_end] == b"\r\n" else end
        self._header, rest = bytes(unread[:end]), bytes(unread[body_start:])
        self._unread = b""
        if len(self._header) > HEADER_MAX_BYTES:
            self._refuse(HEADER_TOO_BIG)
        elif rest:
            self._store(rest)

    def _store(self, chunk: bytes) -> None:
        """Passes octets of the body on to the spool."""
        try:
            if self._body is None:
                self._body = self._intake.spool.new_body()
            self._body.write(chunk)
        except SpoolFull:
            self._refuse(STORAGE_FULL)
        self._tail = chunk[-2:] if len(chunk) > 1 else (self._tail + chunk)[-2:]

    def _refuse(self, status: Status) -> None:
        self._refusal = status
        self._unread = b""
        self.discard()

    def _end_lines(self) -> bytes:
        """Ends the last line with CRLF where it was not, and returns the header section."""
        if self._header is None:
            if self._unread and not self._unread.endswith(b"\r\n"):
                self._unread = _as_bytearray(self._unread)
                self._unread += b"\r\n"
                self._judge_lines()
            if self._header is None:
                return bytes(self._unread)
        elif self._tail != b"\r\n":
            self._store(b"\r\n")
        return self._header

    def _complete(self) -> tuple[NewMessage, Sequence[NewMessage]]:
        """The message to store, with the reports it causes. Raises `Refused`."""
        header = self._end_lines()
        if self._refusal:
            raise Refused(self._refusal)
        intake, request, settings, body = self._intake, self._request, self._settings, self._body
        names = field_names(header)
        if count_hops(names) > settings.max_hops:
            raise Refused(MAIL_LOOP)
        now = intake.clock.now()
        queue_id = request.queue_id or intake.queue_ids.new(now)
        envelope, origin = request.envelope, request.origin
        if not isinstance(envelope, Envelope):
            envelope, remark = envelope(header)
            origin = replace(origin, description=f"{origin.description}: {remark}") if remark else origin
        bad_recipients: tuple[str, ...] = ()
        if request.header_recipients:
            named, bad_recipients = header_recipients(header)
            envelope = replace(envelope, recipients=with_named(envelope.recipients, named, request.header_notify))
        if envelope.reverse_path and not envelope.reverse_path.domain:  # a user of this host
            reverse_path = envelope.reverse_path.with_domain(settings.host_name)
            envelope = replace(envelope, reverse_path=reverse_path)
        header = self._with_trace(header, names, envelope, queue_id, request.submitted_at or now)
        self._size = len(header) + 2 + (body.size_bytes if body else 0)  # as it is stored from here on
        facts = HeaderFacts(
            queue_id, header, self._size, now, origin, request.kind, request.queue_only, bad_recipients, body
        )
        recipients, reports = intake.resolve(envelope, facts)
        if not recipients:
            raise Refused(NO_RECIPIENTS)
        return self._message(facts, envelope, recipients), reports

    def _with_trace(
        self, header: bytes, names: Sequence[bytes], envelope: Envelope, queue_id: str, at: datetime
    ) -> bytes:
        """The header section as it is stored: completed if it is new, our trace field on top."""
        origin, host_name = self._request.origin, self._settings.host_name
        local_time = self._intake.local_time(at)  # RFC 5322 §3.3 wants local time
        if origin.is_submission:
            header = qualify_addresses(header, host_name)
            if not is_complete(names):
                originator = envelope.reverse_path or (Mailbox(origin.user, host_name) if origin.user else None)
                submission = Submission(originator, self._request.full_name, local_time, queue_id, host_name)
                header = fix_header(header, submission, names)
        received = received_field(
            clause=origin.received_clause,
            host_name=host_name,
            protocol=origin.protocol,
            queue_id=queue_id,
            received_at=local_time,
            recipient=_only_recipient(envelope, host_name),
        )
        return received + header

    def _message(self, facts: HeaderFacts, envelope: Envelope, recipients: Sequence[NewRecipient]) -> NewMessage:
        return NewMessage(
            queue_id=facts.queue_id,
            reverse_path=envelope.reverse_path,
            recipients=recipients,
            header=facts.header,
            body=self._body or b"",
            received_at=facts.received_at,
            received_from=facts.origin.description,
            protocol=facts.origin.protocol,
            owner_uid=facts.origin.uid,
            ret=envelope.ret,
            envid=envelope.envid,
            declared_body=envelope.body if self._is_ascii else Body.EIGHT_BIT,  # RFC 6152 §2: say what it is
            smtputf8=envelope.smtputf8,
            kind=facts.kind,
            fetched=self._request.fetched,
        )


def _as_bytearray(data: bytes | bytearray) -> bytearray:
    return data if isinstance(data, bytearray) else bytearray(data)


def _only_recipient(envelope: Envelope, host_name: str) -> Mailbox | None:
    """The recipient that Received may name: when it is the only one, with a domain (RFC 5321 §4.4)."""
    if len(envelope.recipients) != 1:
        return None
    mailbox = envelope.recipients[0].mailbox
    return mailbox if mailbox.domain else mailbox.with_domain(host_name)
