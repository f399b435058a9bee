"""The SMTP server: one task per connection moves bytes between a `Stream` and the machine in `proto.smtp.server`.

The machine says what to do; here it is done: the policy is asked, the message is written into the queue, and its
250 goes out only after `Incoming.finish` has returned. The same code serves the LAN and the Unix socket of
`sendmail`; what differs is up to the policy.
"""

import asyncio
import itertools
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import anyio
from anyio.lowlevel import checkpoint

from masqmail.mail.address import show_path
from masqmail.mail.envelope import Envelope, Notify
from masqmail.mail.status import LOCAL_ERROR, OK, SHUTTING_DOWN, TIMED_OUT, Status
from masqmail.net.errors import NetError, StreamTimeout, TlsFailure
from masqmail.net.listen import Listener, Report
from masqmail.net.stream import Stream
from masqmail.proto.sasl import Credentials
from masqmail.proto.smtp.command import Mail, Rcpt
from masqmail.proto.smtp.replies import AUTHENTICATED, LOGIN_FAILED, LOGIN_UNAVAILABLE
from masqmail.proto.smtp.reply import format_reply
from masqmail.proto.smtp.server import Server
from masqmail.proto.smtp.session import (
    WAIT_SECONDS,
    Authenticate,
    Begin,
    Body,
    Close,
    Discard,
    End,
    Event,
    StartTls,
    Wait,
)
from masqmail.reception.policy import Policy, Session
from masqmail.spool.intake import Origin, Refused
from masqmail.system import events
from masqmail.system.clock import Clock

TOO_MANY_CONNECTIONS = Status(421, "4.3.2", "Too many connections, try again later")

FIRST_LOGIN_DELAY_SECONDS = 1.0
LONGEST_LOGIN_DELAY_SECONDS = 8.0
_LAST_WORDS_SECONDS = 5.0

#: After so many a client that floods us with commands lets the others have a turn.
EVENTS_IN_A_ROW = 100


def accepted(queue_id: str) -> Status:
    """The final reply to a message that is on stable storage."""
    return OK.with_text(f"Safe on disk, id={queue_id}")


class Incoming(Protocol):
    """A message on its way into the queue; see `spool.intake.Incoming`."""

    def write(self, chunk: bytes) -> None: ...

    async def finish(self) -> str: ...

    def discard(self) -> None: ...


class Intake(Protocol):
    """Opens messages; see `spool.intake.Intake`."""

    def open(
        self,
        envelope: Envelope,
        origin: Origin,
        *,
        header_recipients: bool = False,
        header_notify: Notify | None = None,
        full_name: str = "",
        queue_only: bool = False,
        declared_size_bytes: int = 0,
    ) -> Incoming: ...


@dataclass
class Service:
    """All SMTP sessions of the program. `policy` and `intake` may be exchanged while it runs."""

    policy: Policy
    intake: Intake
    clock: Clock

    def __post_init__(self) -> None:
        self.is_stopping = False
        self._is_patient = True
        self._conversations: set[_Conversation] = set()
        self._all_gone = anyio.Event()
        self._ids = itertools.count(1)

    def listener(
        self,
        sockets: Sequence[socket.socket],
        *,
        max_connections: int,
        report: Report,
        implicit_tls: bool = False,
    ) -> Listener:
        """What accepts connections for this service."""
        handler = self.handle_tls if implicit_tls else self.handle
        return Listener(sockets, handler, max_connections=max_connections, refuse=self.refuse, report=report)

    def refuse(self) -> bytes:
        """What a client is told when there are too many."""
        events.emit(events.SESSION_REFUSED, level=logging.WARNING)
        return format_reply(TOO_MANY_CONNECTIONS)

    async def handle(self, stream: Stream) -> None:
        """Serves one client to the end. Raises `NetError` when the connection breaks."""
        session = Session(next(self._ids), stream.peer, stream.credentials, stream.tls)
        conversation = _Conversation(self, stream, session)
        self._conversations.add(conversation)
        try:
            await conversation.run()
        finally:
            self._conversations.discard(conversation)
            if self.is_stopping and not self._conversations:
                self._all_gone.set()

    async def handle_tls(self, stream: Stream) -> None:
        """The same on a port where TLS begins at once, RFC 8314 §3.3."""
        context = self.policy.tls_context()
        if context is not None:  # else the certificate is gone since the listener was opened
            await stream.start_tls(context, server_side=True, timeout_seconds=WAIT_SECONDS[Wait.TLS])
            await self.handle(stream)

    def must_end(self, server: Server) -> bool:
        """Whether a session must go as soon as it waits for its client, because the program stops."""
        return self.is_stopping and (server.is_idle or not self._is_patient)

    async def stop(self, grace_seconds: float) -> None:
        """Ends every session with 421 (RFC 5321 §3.8): at once, or when its transaction or the grace time is over.

        What is being committed is still answered. The listener is closed before.
        """
        self.is_stopping = True
        if self._conversations:
            await self._hang_up()
            with anyio.move_on_after(grace_seconds):
                await self._all_gone.wait()
        self._is_patient = False
        if self._conversations:
            await self._hang_up()
            with anyio.move_on_after(_LAST_WORDS_SECONDS):
                await self._all_gone.wait()

    async def _hang_up(self) -> None:
        async with anyio.create_task_group() as group:
            for conversation in list(self._conversations):
                group.start_soon(conversation.hang_up)


class _Conversation:
    """One client."""

    def __init__(self, service: Service, stream: Stream, session: Session) -> None:
        self._service = service
        self._stream = stream
        self._session = session
        trace = self._trace if events.is_tracing() else None
        self._server = Server(service.policy.offers(session), is_tls=session.tls is not None, trace=trace)
        self._mail = Mail(None)
        self._incoming: Incoming | None = None
        self._is_receiving = False
        self._deadline = 0.0
        self._failed_logins = 0
        self._messages = 0

    async def run(self) -> None:
        """From the greeting to the end of the connection."""
        session = self._session
        events.emit(events.SESSION_STARTED, level=logging.DEBUG, session_id=session.id, client=session.client)
        try:
            await self._converse()
        except StreamTimeout:
            self._server.close(TIMED_OUT)
            await self._send()
        finally:
            self._discard()
            events.emit(
                events.SESSION_ENDED,
                level=logging.DEBUG,
                session_id=session.id,
                client=session.client,
                messages=self._messages,
            )

    async def hang_up(self) -> None:
        """Says 421 and closes, if the session is waiting for its client and may end now."""
        if self._is_receiving and self._service.must_end(self._server):
            self._server.close(SHUTTING_DOWN)
            self._stream.write(self._server.take_output())
            await self._stream.aclose()

    async def _converse(self) -> None:
        server, service = self._server, self._service
        self._renew_deadline()
        while True:
            await self._send()
            if service.must_end(server):
                server.close(SHUTTING_DOWN)
                await self._send()
            if server.wait is Wait.NOTHING or not (data := await self._receive()):
                return
            server.receive(data)
            for turn in itertools.count(1):
                if (event := server.next_event()) is None:
                    break
                await self._handle(event)
                if turn % EVENTS_IN_A_ROW == 0:
                    await checkpoint()

    async def _send(self) -> None:
        """Sends the replies that have piled up. Each is progress, and the client has its time anew."""
        if output := self._server.take_output():
            self._stream.write(output)
            self._renew_deadline()
            await self._stream.drain(WAIT_SECONDS[Wait.COMMAND])

    async def _receive(self) -> bytes:
        if self._server.wait in (Wait.DATA, Wait.CHUNK):
            self._renew_deadline()
        self._is_receiving = True
        try:
            return await self._stream.receive(max(0.0, self._deadline - asyncio.get_running_loop().time()))
        finally:
            self._is_receiving = False

    def _renew_deadline(self) -> None:
        """A command that comes byte by byte does not get more time, text does."""
        self._deadline = asyncio.get_running_loop().time() + WAIT_SECONDS[self._server.wait]

    async def _handle(self, event: Event) -> None:
        """Does what the machine asks for. A fault of ours costs this one answer, not the session."""
        try:
            status = await self._decide(event)
        except NetError:
            raise
        except Exception as error:
            events.emit(events.INTERNAL_ERROR, level=logging.ERROR, exception=error, session_id=self._session.id)
            self._discard()
            status = _answer_to_fault(event)
        if status is not None:
            self._server.answer(status)

    async def _decide(self, event: Event) -> Status | None:
        """The answer to an event; None for those that want none."""
        match event:
            case Body():
                if self._incoming is not None:
                    self._incoming.write(event.data)
            case Mail():
                return self._check_sender(event)
            case Rcpt():
                return self._check_recipient(event)
            case Begin():
                return self._begin(event)
            case End():
                return await self._finish()
            case Discard():
                self._discard()
            case Authenticate():
                return await self._authenticate(event.credentials)
            case StartTls():
                await self._start_tls()
            case Close():
                pass  # the loop sees that the machine waits for nothing
        return None

    def _check_sender(self, mail: Mail) -> Status:
        self._mail = mail
        if self._server.helo_name != self._session.helo_name:
            self._session = replace(self._session, helo_name=self._server.helo_name)
        policy = self._service.policy
        status = policy.check_sender(self._session, mail)
        if not status.is_success:
            self._report(events.MESSAGE_REFUSED, status)
        elif mail.xsubmit.is_self:
            self._mail = replace(mail, reverse_path=policy.reverse_path(self._session, mail))
        return status

    def _check_recipient(self, rcpt: Rcpt) -> Status:
        recipient = rcpt.recipient
        status = self._service.policy.check_recipient(self._session, self._mail, recipient)
        if not status.is_success:
            self._report(events.RECIPIENT_REFUSED, status, recipient=str(recipient.mailbox))
        return status

    def _begin(self, begin: Begin) -> Status:
        service, mail = self._service, self._mail
        origin = service.policy.origin(self._session, self._server.protocol)
        envelope, asked = begin.envelope, mail.xsubmit
        if asked.is_self:
            envelope = replace(envelope, reverse_path=mail.reverse_path)
        try:
            self._incoming = service.intake.open(
                envelope,
                origin,
                header_recipients=asked.header_recipients,
                header_notify=asked.header_notify,
                full_name=asked.full_name,
                queue_only=asked.queue_only,
                declared_size_bytes=mail.size_bytes or 0,
            )
        except Refused as refused:
            self._report(events.MESSAGE_REFUSED, refused.status)
            return refused.status
        return OK

    async def _finish(self) -> Status:
        """Commits the message. It is ours when this returns, and not before."""
        incoming = self._incoming
        if incoming is None:  # writing it went wrong, which was reported then
            return LOCAL_ERROR
        try:
            queue_id = await incoming.finish()
        except Refused as refused:
            self._report(events.MESSAGE_REFUSED, refused.status)
            return refused.status
        finally:
            self._discard()
        self._messages += 1
        return accepted(queue_id)

    def _discard(self) -> None:
        """Forgets the message being received; harmless for one that is finished."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.discard()

    async def _authenticate(self, credentials: Credentials) -> Status:
        user = await self._service.policy.authenticate(self._session, credentials)
        session = self._session
        if user is not None:
            self._session = replace(session, user=user)
            events.emit(events.LOGIN_SUCCEEDED, session_id=session.id, client=session.client, user=user)
            return AUTHENTICATED
        self._failed_logins += 1
        events.emit(
            events.LOGIN_FAILED,
            level=logging.WARNING,
            session_id=session.id,
            client=session.client,
            user=credentials.username,
        )
        await self._send()
        delay = FIRST_LOGIN_DELAY_SECONDS * 2 ** (self._failed_logins - 1)
        await self._service.clock.sleep(min(delay, LONGEST_LOGIN_DELAY_SECONDS))
        return LOGIN_FAILED

    async def _start_tls(self) -> None:
        """Begins TLS. Whatever fails, no plain text may follow, so the connection ends."""
        service = self._service
        await self._send()
        context = service.policy.tls_context()
        if context is None:
            raise TlsFailure("there is no certificate any more")  # the configuration has changed since EHLO
        await self._stream.start_tls(context, server_side=True, timeout_seconds=WAIT_SECONDS[Wait.TLS])
        self._session = replace(self._session, tls=self._stream.tls, helo_name="", user="")
        self._server.tls_started(service.policy.offers(self._session))
        self._renew_deadline()

    def _report(self, event: str, status: Status, recipient: str | None = None) -> None:
        events.emit(
            event,
            session_id=self._session.id,
            client=self._session.client,
            reverse_path=show_path(self._mail.reverse_path),
            recipient=recipient,
            status=str(status),
        )

    def _trace(self, direction: str, line: bytes) -> None:
        events.trace(direction, line, session_id=self._session.id)


def _answer_to_fault(event: Event) -> Status | None:
    """What a client gets when a fault of ours kept us from deciding; None for events that want no answer."""
    match event:
        case Mail() | Rcpt() | Begin() | End():
            return LOCAL_ERROR
        case Authenticate():
            return LOGIN_UNAVAILABLE
        case _:
            return None
