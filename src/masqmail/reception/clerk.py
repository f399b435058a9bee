"""What is decided in one SMTP session: the policy is asked, and messages go into the queue.

Time, bytes and the order of things are the business of `conversation`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

from masqmail.mail.address import show_path
from masqmail.mail.envelope import Envelope, Notify
from masqmail.mail.status import LOCAL_ERROR, OK, Status
from masqmail.net.stream import Stream
from masqmail.net.tls import TlsInfo
from masqmail.proto.sasl import Credentials
from masqmail.proto.smtp.command import Etrn, Mail, Rcpt
from masqmail.proto.smtp.replies import AUTHENTICATED, LOGIN_FAILED
from masqmail.proto.smtp.session import Begin, Offers
from masqmail.reception.policy import Policy, Session
from masqmail.spool.intake import Origin, Refused
from masqmail.system import events
from masqmail.system.clock import Clock

FIRST_LOGIN_DELAY_SECONDS = 1.0
LONGEST_LOGIN_DELAY_SECONDS = 8.0


def accepted(queue_id: str) -> Status:
    """The final reply to a message that is on stable storage."""
    return OK.with_text(f"Safe on disk, id={queue_id}")


class Incoming(Protocol):
    """A message on its way into the queue; see `spool.intake.Incoming`."""

    def write(self, chunk: bytes) -> None: ...

    def finish(self) -> Awaitable[str]: ...

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


class Office(Protocol):
    """What the clerks of all sessions share. `policy` and `intake` may be exchanged while they work."""

    policy: Policy
    intake: Intake
    clock: Clock


class Commit(NamedTuple):
    """A complete message while it is being stored. `future` has its queue ID when it is ours."""

    mail: Mail
    incoming: Incoming | None
    future: asyncio.Future[str]


class Clerk:
    """Answers for one session. A fault of ours costs one answer; who asks handles the exception."""

    def __init__(self, office: Office, session: Session) -> None:
        self._office = office
        self._session = session
        self._mail = Mail(None)
        self._incoming: Incoming | None = None
        self._failed_logins = 0
        self.messages = 0

    def offers(self) -> Offers:
        return self._office.policy.offers(self._session)

    def asks_ident(self) -> bool:
        return self._office.policy.asks_ident(self._session)

    def identify(self, user: str) -> None:
        """Notes the user that the client's host names."""
        if user != self._session.ident:
            self._session = replace(self._session, ident=user)

    def check_sender(self, mail: Mail, helo_name: str) -> Status:
        self._mail = mail
        if helo_name != self._session.helo_name:
            self._session = replace(self._session, helo_name=helo_name)
        policy = self._office.policy
        status = policy.check_sender(self._session, mail)
        if not status.is_success:
            self._report(events.MESSAGE_REFUSED, mail, status)
        elif mail.xsubmit.is_self:
            self._mail = mail._replace(reverse_path=policy.reverse_path(self._session, mail))
        return status

    def check_recipient(self, rcpt: Rcpt) -> Status:
        recipient = rcpt.recipient
        status = self._office.policy.check_recipient(self._session, self._mail, recipient)
        if not status.is_success:
            self._report(events.RECIPIENT_REFUSED, self._mail, status, recipient=str(recipient.mailbox))
        return status

    def begin(self, begin: Begin, protocol: str) -> Status:
        """Opens the message that follows."""
        office, mail = self._office, self._mail
        origin = office.policy.origin(self._session, protocol)
        envelope, asked = begin.envelope, mail.xsubmit
        if asked.is_self:
            envelope = replace(envelope, reverse_path=mail.reverse_path)
        try:
            self._incoming = office.intake.open(
                envelope,
                origin,
                header_recipients=asked.header_recipients,
                header_notify=asked.header_notify,
                full_name=asked.full_name,
                queue_only=asked.queue_only,
                declared_size_bytes=mail.size_bytes or 0,
            )
        except Refused as refused:
            self._report(events.MESSAGE_REFUSED, mail, refused.status)
            return refused.status
        return OK

    def write(self, data: bytes) -> None:
        """More of the message; nothing when writing it went wrong before."""
        if self._incoming is not None:
            self._incoming.write(data)

    def commit(self) -> Commit:
        """Has the message stored. `verdict` says what became of it, when the future is done."""
        incoming, self._incoming = self._incoming, None
        future: asyncio.Future[str]
        try:
            if incoming is None:  # writing it went wrong, which was reported then
                raise Refused(LOCAL_ERROR)
            finishing = incoming.finish()
            future = finishing if isinstance(finishing, asyncio.Future) else asyncio.ensure_future(finishing)
        except Exception as error:
            future = asyncio.get_running_loop().create_future()
            future.set_exception(error)
        return Commit(self._mail, incoming, future)

    def verdict(self, commit: Commit) -> Status:
        """The final reply: the message is ours, or it is refused and forgotten."""
        try:
            queue_id = commit.future.result()
        except Refused as refused:
            if commit.incoming is not None:
                self._report(events.MESSAGE_REFUSED, commit.mail, refused.status)
            status = refused.status
        except (Exception, asyncio.CancelledError) as error:
            self.report_fault(error)
            status = LOCAL_ERROR
        else:
            self.messages += 1
            return accepted(queue_id)
        if commit.incoming is not None:
            commit.incoming.discard()
        return status

    def discard(self) -> None:
        """Forgets the message being received, if there is one."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.discard()

    async def authenticate(self, credentials: Credentials) -> Status:
        """Checks a login; a wrong one takes longer each time."""
        user = await self._office.policy.authenticate(self._session, credentials)
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
        delay = FIRST_LOGIN_DELAY_SECONDS * 2 ** (self._failed_logins - 1)
        await self._office.clock.sleep(min(delay, LONGEST_LOGIN_DELAY_SECONDS))
        return LOGIN_FAILED

    async def turn(self, domains: tuple[str, ...], helo_name: str, begin: Callable[[], Stream]) -> Status | None:
        """Sends the client its mail, on the connection that `begin` gives; or the refusal."""
        return await self._office.policy.turn(replace(self._session, helo_name=helo_name), domains, begin)

    async def start_queue(self, asked: Etrn) -> Status:
        return await self._office.policy.start_queue(self._session, asked)

    def tls_started(self, tls: TlsInfo | None) -> Offers:
        """Forgets who the client said it is, and says what it is offered now."""
        self._session = replace(self._session, tls=tls, helo_name="", user="")
        return self.offers()

    def report_fault(self, error: BaseException) -> None:
        events.emit(events.INTERNAL_ERROR, level=logging.ERROR, exception=error, session_id=self._session.id)

    def _report(self, event: str, mail: Mail, status: Status, recipient: str | None = None) -> None:
        events.emit(
            event,
            session_id=self._session.id,
            client=self._session.client,
            reverse_path=show_path(mail.reverse_path),
            recipient=recipient,
            status=str(status),
        )
