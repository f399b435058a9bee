"""What a client's session is made of: how to speak to a server, its phases and their times, and what happens in it.

The machine itself is `client`.
"""

from datetime import timedelta
from enum import Enum

from masqmail.frozen import frozen
from masqmail.mail.outcome import Culprit
from masqmail.mail.status import Status
from masqmail.proto import sasl
from masqmail.proto.smtp.compose import ToALabels
from masqmail.proto.smtp.login import USUAL_MECHANISMS
from masqmail.proto.smtp.transfer import Step, Verdict


class StartTls(Enum):
    """What to do with STARTTLS."""

    REQUIRED = "required"
    IF_OFFERED = "if offered"  # RFC 7435
    NEVER = "never"  # no TLS, or TLS from the first byte


class Phase(Enum):
    """Where the session stands. Up to READY each phase waits for one reply."""

    GREETING = "greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    TLS = "TLS"  # the shell does the handshake
    AUTH = "AUTH"
    READY = "ready"  # for transactions
    ATRN = "ATRN"
    ETRN = "ETRN"
    QUIT = "QUIT"
    CLOSED = "closed"


_MINUTE = timedelta(minutes=1)

#: How long a reply may take, RFC 5321 §4.5.3.2. It names no time for EHLO, STARTTLS, AUTH, RSET and QUIT.
REPLY_TIMES: dict[Phase | Step, timedelta] = {
    Phase.GREETING: 5 * _MINUTE,
    Phase.EHLO: 5 * _MINUTE,
    Phase.HELO: 5 * _MINUTE,
    Phase.STARTTLS: 2 * _MINUTE,
    Phase.AUTH: 2 * _MINUTE,
    Phase.ATRN: 10 * _MINUTE,  # RFC 2645 §5.2.1
    Phase.ETRN: 5 * _MINUTE,
    Phase.QUIT: timedelta(seconds=10),  # nothing depends on it
    Step.RSET: 5 * _MINUTE,
    Step.MAIL: 5 * _MINUTE,
    Step.RCPT: 5 * _MINUTE,
    Step.DATA: 2 * _MINUTE,
    Step.CONTENT: 10 * _MINUTE,
}

#: How long it may take until the server has taken a piece of content, RFC 5321 §4.5.3.2.5.
BLOCK_TIME = 3 * _MINUTE


def _no_a_labels(domain: str) -> str:
    raise ValueError("no IDNA here")


@frozen
class ClientOptions:
    """How to speak to a server.

    `tls_is_on` says that TLS began with the connection. A password travels in clear only with
    `clear_password`. With `send_first` the greeting is not waited for. `mechanisms` may be used, in this order.
    With `pipelining` off, or not offered, each command waits for its reply.
    """

    helo_name: str
    starttls: StartTls = StartTls.REQUIRED
    tls_is_on: bool = False
    credentials: sasl.Credentials | None = None
    mechanisms: tuple[str, ...] = USUAL_MECHANISMS
    clear_password: bool = False
    send_first: bool = False
    pipelining: bool = True
    lmtp: bool = False
    window_bytes: int = 64 * 1024
    window_transactions: int = 64
    to_a_labels: ToALabels = _no_a_labels


@frozen
class TlsWanted:
    """The shell must start TLS now, then call `tls_started`."""


@frozen
class Ready:
    """The session stands: messages may be started."""


@frozen
class Verdicts:
    """A message is through: one verdict per recipient of its envelope, in order."""

    number: int
    verdicts: tuple[Verdict, ...]


@frozen
class Answered:
    """The answer to ATRN or ETRN. After an ATRN that succeeds our server goes on with `Client.rest`."""

    status: Status


@frozen
class Ended:
    """The session is over before we said QUIT. `reason` stands behind the server's name."""

    culprit: Culprit
    reason: str
    status: Status | None = None


@frozen
class Quitted:
    """QUIT was answered: the connection can be closed."""


Event = TlsWanted | Ready | Verdicts | Answered | Ended | Quitted
