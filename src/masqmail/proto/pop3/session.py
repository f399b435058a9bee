"""What a POP3 session is made of: how to speak to a server, its phases and their times, and what happens in it.

The machine itself is `client`.
"""

from datetime import timedelta
from enum import Enum

from masqmail.frozen import frozen
from masqmail.mail.outcome import Culprit
from masqmail.proto import sasl
from masqmail.proto.pop3.transaction import Answer


class Stls(Enum):
    """What to do with STLS, RFC 2595 §4."""

    REQUIRED = "required"
    IF_OFFERED = "if offered"
    NEVER = "never"  # no TLS, or TLS from the first byte


class Phase(Enum):
    """Where the session stands. Up to READY each phase waits for one reply."""

    GREETING = "greeting"
    CAPA = "CAPA"
    STLS = "STLS"
    TLS = "TLS"  # the shell does the handshake
    LOGIN = "login"
    READY = "ready"  # RFC 1939 §5 calls it the TRANSACTION state
    QUIT = "QUIT"
    CLOSED = "closed"


_MINUTE = timedelta(minutes=1)

#: How long a reply may take. Ours: RFC 1939 §3 only says when a server may go.
REPLY_TIMES: dict[Phase, timedelta] = {
    Phase.GREETING: 2 * _MINUTE,
    Phase.CAPA: _MINUTE,
    Phase.STLS: _MINUTE,
    Phase.LOGIN: 2 * _MINUTE,  # servers let who mistyped wait
    Phase.QUIT: timedelta(seconds=10),  # nothing depends on it
}

#: How long QUIT may take where the server deletes what it was told to.
DELETING_TIME = 2 * _MINUTE


@frozen
class ClientOptions:
    """How to speak to a server.

    `tls_is_on` says that TLS began with the connection. Nothing about the password travels without TLS unless
    `clear_password`. `ways` may be used to log in, in this order; empty stands for all, the best first. With
    `pipelining` off every command waits for its reply.
    """

    credentials: sasl.Credentials
    stls: Stls = Stls.REQUIRED
    tls_is_on: bool = False
    ways: tuple[str, ...] = ()
    clear_password: bool = False
    pipelining: bool = True


@frozen
class TlsWanted:
    """The shell must start TLS now, then call `tls_started`."""


@frozen
class Ready:
    """We are logged in."""


@frozen
class Ended:
    """The session is over before we said QUIT. `reason` stands behind the server's name.

    LOGIN says that name or password were refused, SESSION that it may go well another time.
    """

    culprit: Culprit
    reason: str


@frozen
class Quitted:
    """QUIT was answered: the connection can be closed."""

    is_ok: bool = True


Event = TlsWanted | Ready | Ended | Quitted | Answer
