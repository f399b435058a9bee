"""The customer's side of ODMR: the provider sends us our mail on a connection of ours, and speaks to our SMTP server.

It may send what is for this host or for the domains that were asked for. It does not log in, and hands in nothing
new.
"""

import asyncio
import ssl
from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING

from masqmail.config.fetch import FetchProtocol, FetchSection
from masqmail.config.model import Smtp
from masqmail.daemon.directory import Directory
from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Envelope, Notify, Recipient
from masqmail.mail.status import MAILBOX_UNKNOWN, RECIPIENT_OK, RELAYING_DENIED, SENDER_OK, Status
from masqmail.net.stream import Stream
from masqmail.proto.sasl import Credentials
from masqmail.proto.smtp.command import Mail
from masqmail.proto.smtp.session import Offers
from masqmail.reception.clerk import Incoming, Intake
from masqmail.reception.policy import KeepsNothing, Session, network_origin
from masqmail.reception.smtp import Service
from masqmail.retrieval.account import Account, Inbox, Retriever
from masqmail.spool.intake import Origin

if TYPE_CHECKING:
    from masqmail.daemon.wiring import Daemon

#: For what is bigger than the account's `max_size`: the provider keeps it.
TOO_BIG_FOR_NOW = Status(452, "4.3.4", "Bigger than we take over this line, please keep it")

#: The protocols in which we speak SMTP to a server and ask it for mail.
PROTOCOLS = (FetchProtocol.ODMR, FetchProtocol.ETRN)


def make_retriever(protocol: FetchProtocol, daemon: "Daemon") -> Retriever:
    """Somebody who speaks one of `PROTOCOLS`."""

    def helo_name() -> str:
        return daemon.configuration.host.name

    async def serve(stream: Stream, account: Account, inbox: Inbox) -> bool:
        configuration = daemon.configuration
        section = configuration.fetch[account.name]
        policy = OdmrPolicy(configuration.host.name, configuration.smtp, section, daemon.directory, inbox)
        return await Service(policy, Door(daemon.intake, policy, inbox), daemon.clock).serve(stream)

    if protocol is FetchProtocol.ETRN:
        from masqmail.retrieval.etrn import EtrnRetriever

        return EtrnRetriever(helo_name)
    from masqmail.retrieval.odmr import OdmrRetriever

    return OdmrRetriever(helo_name, serve)


class OdmrPolicy(KeepsNothing):
    """For the provider of one account: mail for this host or the account's domains, and nothing else."""

    def __init__(self, host_name: str, smtp: Smtp, section: FetchSection, directory: Directory, inbox: Inbox) -> None:
        self._host_name = host_name
        self._smtp = smtp
        self._section = section
        self._directory = directory
        self._inbox = inbox
        self._domains = {domain.lower() for domain in section.multidrop_domains}

    def offers(self, session: Session) -> Offers:
        """Neither TLS, which is there or never will be, nor a login."""
        return Offers(self._host_name, self._smtp.max_message_size, self._smtp.max_recipients)

    def tls_context(self) -> ssl.SSLContext | None:
        return None

    def asks_ident(self, session: Session) -> bool:
        return False

    def check_sender(self, session: Session, mail: Mail) -> Status:
        """What is too big for the account stays where it is, as long as the provider tries."""
        limit = self._section.max_size
        if limit is None or mail.size_bytes is None or mail.size_bytes <= limit:
            return SENDER_OK
        self._inbox.tally.left += 1
        self._inbox.progress()
        return TOO_BIG_FOR_NOW

    def reverse_path(self, session: Session, mail: Mail) -> Mailbox | None:
        return mail.reverse_path

    def check_recipient(self, session: Session, mail: Mail, recipient: Recipient) -> Status:
        return self._judge(self._stripped(recipient.mailbox)) if self._section.deliver_to is None else RECIPIENT_OK

    async def authenticate(self, session: Session, credentials: Credentials) -> str | None:
        return None  # AUTH is not offered

    def origin(self, session: Session, protocol: str) -> Origin:
        return network_origin(session, protocol, is_submission=False)

    def readdressed(self, envelope: Envelope) -> Envelope:
        """The envelope by the settings of the account. The null reverse-path stays what it is."""
        reverse_path, wanted = envelope.reverse_path, self._section.return_path
        if reverse_path is not None and wanted is not None:
            reverse_path = self._directory.rules.local.qualify(wanted)
        recipients = tuple(replace(one, mailbox=self._target(one.mailbox)) for one in envelope.recipients)
        return replace(envelope, reverse_path=reverse_path, recipients=recipients)

    def _target(self, mailbox: Mailbox) -> Mailbox:
        """Who gets it: the mailbox that is meant, or `deliver_to` when there is none such here."""
        mailbox, instead = self._stripped(mailbox), self._section.deliver_to
        return mailbox if instead is None or self._judge(mailbox).is_success else instead

    def _judge(self, mailbox: Mailbox) -> Status:
        if self._directory.rules.local.is_local(mailbox):
            return RECIPIENT_OK if self._directory.book().knows(mailbox) else MAILBOX_UNKNOWN
        return RECIPIENT_OK if mailbox.domain_key in self._domains else RELAYING_DENIED

    def _stripped(self, mailbox: Mailbox) -> Mailbox:
        """Without what the provider has put before it."""
        prefix, local_part = self._section.strip or "", mailbox.local_part
        rest = local_part.removeprefix(prefix)
        return Mailbox(rest, mailbox.domain) if rest and rest != local_part else mailbox


class Door:
    """The way into the queue for what comes so, which counts it."""

    def __init__(self, intake: Intake, policy: OdmrPolicy, inbox: Inbox) -> None:
        self._intake = intake
        self._policy = policy
        self._inbox = inbox

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
    ) -> Incoming:
        """Begins a message; the wishes of submitters are not for a provider. Raises `Refused`."""
        self._inbox.tally.expected += 1
        incoming = self._intake.open(
            self._policy.readdressed(envelope), origin, declared_size_bytes=declared_size_bytes
        )
        return _Counted(incoming, self._inbox)


class _Counted:
    """A message whose octets show that the provider is alive."""

    def __init__(self, incoming: Incoming, inbox: Inbox) -> None:
        self._incoming = incoming
        self._inbox = inbox
        self._size_bytes = 0

    def write(self, chunk: bytes) -> None:
        self._size_bytes += len(chunk)
        self._inbox.progress()
        self._incoming.write(chunk)

    def finish(self) -> Awaitable[str]:
        future = asyncio.ensure_future(self._incoming.finish())
        future.add_done_callback(self._note_end)
        return future

    def discard(self) -> None:
        self._incoming.discard()

    def _note_end(self, future: "asyncio.Future[str]") -> None:
        if not future.cancelled() and future.exception() is None:
            self._inbox.tally.taken += 1
            self._inbox.tally.taken_bytes += self._size_bytes
        self._inbox.progress()
