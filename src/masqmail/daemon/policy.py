"""Who may send what to whom: clients on the network, and users of this host on the submission socket."""

import ipaddress
import ssl
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from pathlib import Path

import anyio.to_thread

from masqmail.config.model import Configuration, Network
from masqmail.daemon.directory import Directory
from masqmail.daemon.odmrserver import OdmrServer, has_queues, has_turns, is_kept
from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Recipient
from masqmail.mail.status import (
    MAILBOX_UNKNOWN,
    NOT_IMPLEMENTED,
    RECIPIENT_OK,
    RELAYING_DENIED,
    SENDER_OK,
    Status,
)
from masqmail.net.stream import Stream
from masqmail.proto.sasl import Credentials, hash_password, verify_password
from masqmail.proto.smtp.command import Etrn, Mail
from masqmail.proto.smtp.replies import LOGIN_FIRST
from masqmail.proto.smtp.session import Offers
from masqmail.reception.policy import KeepsNothing, Session, local_origin, network_origin
from masqmail.routing.pattern import EVERYTHING, first_match
from masqmail.spool.intake import Origin
from masqmail.system.accounts import Accounts
from masqmail.system.userfile import read_users

SENDER_NOT_ALLOWED = Status(550, "5.7.1", "You may not relay under this sender address")
NOT_YOUR_ADDRESS = Status(550, "5.7.1", "You may not use this sender address: only trusted_users of [submission] may")

MAX_SUBMITTED_RECIPIENTS = 100_000

#: Of so many clients, senders and sessions a policy remembers what it decided.
MAX_REMEMBERED = 1024


class NetworkPolicy:
    """For clients that connect over TCP. What it decides by the configuration alone it remembers."""

    def __init__(
        self,
        configuration: Configuration,
        directory: Directory,
        tls: ssl.SSLContext | None,
        odmr: OdmrServer | None = None,
    ) -> None:
        self._odmr = odmr
        self._routes = configuration.policies
        self._has_turns = odmr is not None and has_turns(configuration.policies)
        self._has_queues = odmr is not None and has_queues(configuration.policies)
        self._host_name = configuration.host.name
        self._smtp = configuration.smtp
        self._directory = directory
        self._tls = tls
        self._is_of_ours = lru_cache(MAX_REMEMBERED)(self._is_in_relay_networks)
        self._accepts_everybody = EVERYTHING in self._smtp.accept_senders
        self._accepts_sender = lru_cache(MAX_REMEMBERED)(self._is_in_accept_senders)
        self._origin = lru_cache(MAX_REMEMBERED)(self._make_origin)

    def offers(self, session: Session) -> Offers:
        """AUTH is offered only under TLS or on loopback."""
        is_safe = session.tls is not None or _is_loopback(session)
        auth = is_safe and self._smtp.users is not None and self._smtp.users.exists()
        return Offers(
            host_name=self._host_name,
            max_size_bytes=self._smtp.max_message_size,
            max_recipients=self._smtp.max_recipients,
            starttls=self._tls is not None,
            auth=auth,
            atrn=auth and self._has_turns,
            etrn=self._has_queues and (auth or self._may_relay(session)),
        )

    def tls_context(self) -> ssl.SSLContext | None:
        return self._tls

    def asks_ident(self, session: Session) -> bool:
        networks = self._smtp.ident_networks
        return bool(networks) and session.peer is not None and _is_in(networks, session.peer.host)

    def check_sender(self, session: Session, mail: Mail) -> Status:
        return LOGIN_FIRST if self._smtp.require_login and not session.user else SENDER_OK

    def reverse_path(self, session: Session, mail: Mail) -> Mailbox | None:
        return mail.reverse_path

    def check_recipient(self, session: Session, mail: Mail, recipient: Recipient) -> Status:
        """A local recipient must be known; for others the client must be one of ours, unless we keep their mail."""
        if self._directory.rules.local.is_local(recipient.mailbox):
            if self._directory.book().knows(recipient.mailbox):
                return RECIPIENT_OK
            is_order = self._directory.is_reply(recipient.mailbox) and self._may_relay(session)
            return RECIPIENT_OK if is_order else MAILBOX_UNKNOWN
        if not self._may_relay(session):
            return RECIPIENT_OK if is_kept(self._routes, recipient.mailbox) else RELAYING_DENIED
        if self._accepts_everybody or self._accepts_sender(mail.reverse_path):
            return RECIPIENT_OK
        return SENDER_NOT_ALLOWED

    async def authenticate(self, session: Session, credentials: Credentials) -> str | None:
        return await anyio.to_thread.run_sync(_authenticate, self._smtp.users, credentials)

    async def turn(self, session: Session, domains: tuple[str, ...], begin: Callable[[], Stream]) -> Status | None:
        if self._odmr is None:
            return NOT_IMPLEMENTED
        return await self._odmr.turn(session.user, session.helo_name, domains, begin)

    async def start_queue(self, session: Session, asked: Etrn) -> Status:
        if self._odmr is None:
            return NOT_IMPLEMENTED
        return await self._odmr.start_queue(asked) if self._may_relay(session) else LOGIN_FIRST

    def origin(self, session: Session, protocol: str) -> Origin:
        """A client of ours hands in new mail, others bring what is under way already."""
        return self._origin(session, protocol)

    def _make_origin(self, session: Session, protocol: str) -> Origin:
        return network_origin(session, protocol, is_submission=self._may_relay(session))

    def _may_relay(self, session: Session) -> bool:
        return bool(session.user) or (session.peer is not None and self._is_of_ours(session.peer.host))

    def _is_in_relay_networks(self, host: str) -> bool:
        return _is_in(self._smtp.relay_networks, host)

    def _is_in_accept_senders(self, reverse_path: Mailbox | None) -> bool:
        return first_match(self._smtp.accept_senders, reverse_path) is not None


class LocalUsers:
    """What the users of this host may do, known by the credentials of their socket or the owner of their file."""

    def __init__(self, configuration: Configuration, directory: Directory, accounts: Accounts) -> None:
        self.configuration = configuration
        self._directory = directory
        self._accounts = accounts

    def origin(self, uid: int) -> Origin:
        account = self._accounts.by_uid(uid)
        return local_origin(uid, account.name, full_name=account.full_name) if account else local_origin(uid, "")

    def mailbox(self, uid: int) -> Mailbox:
        """A user's own address."""
        return Mailbox(self._name(uid) or f"uid{uid}", self.configuration.host.name)

    def check_sender(self, uid: int, reverse_path: Mailbox | None) -> Status:
        """Everybody may use the null reverse-path and their own address, trusted users any."""
        name = self._name(uid)
        if reverse_path is None or name in self.configuration.submission.trusted_users:
            return SENDER_OK
        local = self._directory.rules.local
        is_own = name and name in local.names_of(reverse_path) and local.is_local(reverse_path)
        return SENDER_OK if is_own else NOT_YOUR_ADDRESS

    def _name(self, uid: int) -> str:
        account = self._accounts.by_uid(uid)
        return account.name if account else ""


class SubmissionPolicy(KeepsNothing):
    """For the submission socket of this host."""

    def __init__(self, users: LocalUsers) -> None:
        self._users = users

    def offers(self, session: Session) -> Offers:
        """As many recipients as anybody names on a command line."""
        configuration = self._users.configuration
        smtp = configuration.smtp
        return Offers(
            host_name=configuration.host.name,
            max_size_bytes=smtp.max_message_size,
            max_recipients=max(smtp.max_recipients, MAX_SUBMITTED_RECIPIENTS),
            xsubmit=True,
        )

    def tls_context(self) -> ssl.SSLContext | None:
        return None

    def asks_ident(self, session: Session) -> bool:
        return False  # the socket tells

    def check_sender(self, session: Session, mail: Mail) -> Status:
        return self._users.check_sender(_uid(session), mail.reverse_path)

    def reverse_path(self, session: Session, mail: Mail) -> Mailbox | None:
        return self._users.mailbox(_uid(session)) if mail.xsubmit.is_self else mail.reverse_path

    def check_recipient(self, session: Session, mail: Mail, recipient: Recipient) -> Status:
        """An unknown local recipient does not stop the others: it gets a report."""
        return RECIPIENT_OK

    async def authenticate(self, session: Session, credentials: Credentials) -> str | None:
        return None  # nobody logs in here, and AUTH is not offered

    def origin(self, session: Session, protocol: str) -> Origin:
        return self._users.origin(_uid(session))


def _is_in(networks: Iterable[Network], host: str) -> bool:
    """Whether an IP address is in one of them; an IPv4 address may come in the clothes of IPv6."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def _uid(session: Session) -> int:
    assert session.credentials is not None  # this policy is for Unix sockets
    return session.credentials.uid


def _is_loopback(session: Session) -> bool:
    return session.peer is not None and ipaddress.ip_address(session.peer.host.partition("%")[0]).is_loopback


def _authenticate(users: Path | None, credentials: Credentials) -> str | None:
    """Looks a login up; takes as long for a user that there is not."""
    known = read_users(users).get(credentials.username) if users else None
    is_right = verify_password(known or _nobody(), credentials.password.reveal())
    return credentials.username if known and is_right else None


@cache
def _nobody() -> str:
    """The hash of a password nobody has."""
    return hash_password("")
