"""What the SMTP server asks the rest of the program: who may send what to whom.

`Session` is what is known of a client, `Policy` decides by it; the daemon implements it from the configuration.
"""

import ssl
from collections.abc import Callable
from typing import Protocol

from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Recipient
from masqmail.mail.status import NOT_IMPLEMENTED, Status
from masqmail.mail.trace import client_clause, describe_client, local_clause
from masqmail.net.stream import PeerCredentials, Stream
from masqmail.net.tls import TlsInfo
from masqmail.proto.sasl import Credentials
from masqmail.proto.smtp.command import Etrn, Mail
from masqmail.proto.smtp.session import Offers
from masqmail.settings import HostPort
from masqmail.spool.intake import Origin


@frozen(eq=False)
class Session:
    """One client. Over the Unix socket it has `credentials` and no `peer`. Equal to none but itself.

    `helo_name` is what it calls itself and `ident` the user its host names, which proves nothing; `user` is who
    logged in, or empty.
    """

    id: int
    peer: HostPort | None = None
    credentials: PeerCredentials | None = None
    tls: TlsInfo | None = None
    helo_name: str = ""
    user: str = ""
    ident: str = ""

    @property
    def client(self) -> str:
        """Who it is, for logs: an address with port, or a uid."""
        if self.credentials is not None:
            return f"uid {self.credentials.uid}"
        return str(self.peer) if self.peer is not None else "unknown"


class Policy(Protocol):
    """Decides; asked anew each time, so that a reloaded configuration counts at once.

    A refusal is a `Status` of 4yz or 5yz. An exception is a fault of ours: the client gets 451.
    """

    def offers(self, session: Session) -> Offers:
        """What EHLO announces: bounds, STARTTLS when there is a certificate, AUTH when it is allowed now.

        XSUBMIT is only for users of this host.
        """

    def tls_context(self) -> ssl.SSLContext | None:
        """For STARTTLS and for implicit TLS; None when there is no certificate."""

    def asks_ident(self, session: Session) -> bool:
        """Whether the client's host is asked for its user, RFC 1413."""

    def check_sender(self, session: Session, mail: Mail) -> Status: ...

    def reverse_path(self, session: Session, mail: Mail) -> Mailbox | None:
        """The reverse-path of an accepted MAIL: the one it names, or with XSELF the submitter's own address."""

    def check_recipient(self, session: Session, mail: Mail, recipient: Recipient) -> Status: ...

    async def authenticate(self, session: Session, credentials: Credentials) -> str | None:
        """The user who logged in, or None. The delay after a failure is not its business."""

    async def turn(self, session: Session, domains: tuple[str, ...], begin: Callable[[], Stream]) -> Status | None:
        """Sends a client the mail for these domains, or for all that are his (ATRN). Only for who has logged in.

        `begin` says 250 and returns the connection, on which it is we who are the client from then on; it is closed
        in the end. Where that is not called the refusal is returned.
        """

    async def start_queue(self, session: Session, asked: Etrn) -> Status:
        """Has what waits for a domain sent now, and says so or why not (ETRN)."""

    def origin(self, session: Session, protocol: str) -> Origin:
        """Where a message of this session comes from; see `network_origin` and `local_origin`."""


class KeepsNothing:
    """The part of a policy by which no mail waits here for anybody; ATRN and ETRN are not offered then."""

    async def turn(self, session: Session, domains: tuple[str, ...], begin: Callable[[], Stream]) -> Status | None:
        return NOT_IMPLEMENTED

    async def start_queue(self, session: Session, asked: Etrn) -> Status:
        return NOT_IMPLEMENTED


def network_origin(session: Session, protocol: str, *, is_submission: bool) -> Origin:
    """For a message that came over TCP."""
    address = session.peer.host if session.peer is not None else ""
    helo, ident = session.helo_name, session.ident
    return Origin(
        description=describe_client(address, helo=helo, user=session.user, ident=ident),
        protocol=protocol,
        client_host=helo,
        client_address=address,
        user=session.user,
        is_submission=is_submission,
        received_clause=client_clause(helo, address, ident=ident),
    )


def local_origin(uid: int, user: str, *, full_name: str = "", protocol: str = "local") -> Origin:
    """For a message that a user of this host handed in over the Unix socket; `user` is the account's name."""
    return Origin(
        description=f"{user} (uid {uid})" if user else f"uid {uid}",
        protocol=protocol,
        user=user,
        full_name=full_name,
        uid=uid,
        is_submission=True,
        received_clause=local_clause(user, uid),
    )
