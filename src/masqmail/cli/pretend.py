"""The pretend provider of `masqmail demo`: takes mail for everybody over SMTP and keeps it in a Maildir.

It is our own SMTP server with a policy that refuses nobody, and a Maildir where the queue would be.
"""

import logging
import math
import ssl
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread

from masqmail.delivery import maildir
from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox, show_path
from masqmail.mail.envelope import Envelope, Recipient
from masqmail.mail.status import MESSAGE_TOO_BIG, RECIPIENT_OK, SENDER_OK, Status
from masqmail.net.listen import bind_tcp
from masqmail.proto.sasl import Credentials
from masqmail.proto.smtp.command import Mail
from masqmail.proto.smtp.session import Offers
from masqmail.reception.policy import KeepsNothing, Session, network_origin
from masqmail.reception.smtp import Service
from masqmail.settings import HostPort
from masqmail.spool.intake import Origin, Refused
from masqmail.spool.queueid import QueueIds
from masqmail.system import events
from masqmail.system.clock import Clock, SystemClock

NAME = "mail.provider.example"
MAX_SIZE_BYTES = 50_000_000
MAX_CONNECTIONS = 50


@frozen
class Arrival:
    """A message that the provider has taken; `file` is where it is now."""

    file: Path
    envelope: Envelope
    size_bytes: int

    def __str__(self) -> str:
        recipients = ", ".join(str(recipient.mailbox) for recipient in self.envelope.recipients)
        return f"from {show_path(self.envelope.reverse_path)} for {recipients}, {self.size_bytes} bytes"


class Provider:
    """An SMTP server on loopback that keeps what it takes in `folder`, a Maildir, and tells `arrivals`."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        """Binds a free port. Raises `ListenFailure`."""
        self._sender, self.arrivals = anyio.create_memory_object_stream[Arrival](math.inf)
        clock = clock or SystemClock()
        service = Service(_OpenHouse(), _Mailroom(folder, clock, self._sender.send_nowait), clock)
        sockets = bind_tcp(HostPort("127.0.0.1", 0))
        self.port: int = sockets[0].getsockname()[1]
        self._listener = service.listener(sockets, max_connections=MAX_CONNECTIONS, report=_report)

    async def serve(self) -> None:
        """Takes mail until it is cancelled."""
        with self._sender, self.arrivals:
            await self._listener.serve()


class _OpenHouse(KeepsNothing):
    """A policy that lets everybody send to everybody; it listens on loopback only."""

    def offers(self, session: Session) -> Offers:
        return Offers(NAME, MAX_SIZE_BYTES)

    def tls_context(self) -> ssl.SSLContext | None:
        return None

    def asks_ident(self, session: Session) -> bool:
        return False

    def check_sender(self, session: Session, mail: Mail) -> Status:
        return SENDER_OK

    def reverse_path(self, session: Session, mail: Mail) -> Mailbox | None:
        return mail.reverse_path

    def check_recipient(self, session: Session, mail: Mail, recipient: Recipient) -> Status:
        return RECIPIENT_OK

    async def authenticate(self, session: Session, credentials: Credentials) -> str | None:
        return None  # AUTH is not offered

    def origin(self, session: Session, protocol: str) -> Origin:
        return network_origin(session, protocol, is_submission=False)


class _Mailroom:
    """Stands where the daemon has its intake."""

    def __init__(self, folder: Path, clock: Clock, tell: Callable[[Arrival], None]) -> None:
        self.folder = folder
        self.clock = clock
        self.tell = tell
        self.queue_ids = QueueIds()

    def open(self, envelope: Envelope, origin: Origin, **ignored: object) -> "_Letter":
        return _Letter(self, envelope)


class _Letter:
    """One message on its way into the Maildir, with lines that end in CRLF."""

    def __init__(self, room: _Mailroom, envelope: Envelope) -> None:
        self._room = room
        self._envelope = envelope
        self._content = bytearray()

    def write(self, chunk: bytes) -> None:
        if len(self._content) <= MAX_SIZE_BYTES:
            self._content += chunk

    async def finish(self) -> str:
        """Returns when the message is on stable storage. Raises `Refused` or `OSError`."""
        if len(self._content) > MAX_SIZE_BYTES:
            raise Refused(MESSAGE_TOO_BIG)
        room = self._room
        queue_id = room.queue_ids.new(room.clock.now())
        pieces = [_envelope_fields(self._envelope), bytes(self._content)]
        await anyio.to_thread.run_sync(lambda: maildir.put(str(room.folder), pieces, identity=queue_id))
        file = next((room.folder / "new").glob(f"{queue_id},*"))
        room.tell(Arrival(file, self._envelope, len(self._content)))
        return queue_id

    def discard(self) -> None:
        self._content.clear()


def _envelope_fields(envelope: Envelope) -> bytes:
    """What the file keeps of the envelope: RFC 5321 §4.4, and RFC 9228 for Delivered-To."""
    lines = [f"Return-Path: <{envelope.reverse_path or ''}>\r\n"]
    lines += [f"Delivered-To: {recipient.mailbox}\r\n" for recipient in envelope.recipients]
    return "".join(lines).encode()


def _report(what: str, error: Exception) -> None:
    events.emit(events.INTERNAL_ERROR, level=logging.ERROR, reason=what, exception=error)
