"""The order of an SMTP session, and what passes between the machine and the shell around it.

The order is data: `NEXT` says what each command leads to when it is accepted. What is not in the table is out of
sequence, RFC 5321 §4.1.4.
"""

from enum import Enum

from masqmail.frozen import frozen
from masqmail.mail.envelope import Envelope
from masqmail.mail.status import Status
from masqmail.proto.sasl import SERVER_MECHANISMS, Credentials
from masqmail.proto.smtp import extension, replies
from masqmail.proto.smtp.command import Atrn, Etrn, Mail, Rcpt, Verb


class State(Enum):
    """Where a session is."""

    START = "start"  # the client has not said who it is
    READY = "ready"  # between transactions
    MAIL = "mail"  # a reverse-path is accepted, no recipient yet
    RCPT = "rcpt"  # there is at least one recipient, or the message names them itself (XHEADERRCPTS)
    CHUNKS = "chunks"  # a chunk of the message is here, the last one is not
    BROKEN = "broken"  # a chunk was refused, and with it the message (RFC 3030 §2); the client may not know yet
    CLOSED = "closed"  # nothing is read any more

    __hash__ = object.__hash__  # as Verb.__hash__


_ANYWHERE = (State.START, State.READY, State.MAIL, State.RCPT, State.CHUNKS, State.BROKEN)

#: What a command leads to once it is accepted; a refusal leaves the state as it was.
NEXT: dict[tuple[State, Verb], State] = {
    **{(state, Verb.EHLO): State.READY for state in _ANYWHERE},  # RFC 5321 §4.1.4: drops a transaction
    **{(state, Verb.HELO): State.READY for state in _ANYWHERE},
    **{(state, Verb.RSET): State.READY for state in _ANYWHERE if state is not State.START},
    (State.START, Verb.RSET): State.START,
    **{(state, Verb.NOOP): state for state in _ANYWHERE},
    **{(state, Verb.VRFY): state for state in _ANYWHERE},
    **{(state, Verb.HELP): state for state in _ANYWHERE},
    **{(state, Verb.QUIT): State.CLOSED for state in _ANYWHERE},
    (State.READY, Verb.STARTTLS): State.START,  # RFC 3207 §4.2: all knowledge of the client is dropped
    (State.READY, Verb.AUTH): State.READY,  # RFC 4954 §4: not within a transaction
    (State.READY, Verb.ATRN): State.CLOSED,  # RFC 2645 §5.3: from then on it is we who are the client
    (State.READY, Verb.ETRN): State.READY,
    (State.READY, Verb.MAIL): State.MAIL,
    (State.READY, Verb.MAIL_XHEADERRCPTS): State.RCPT,
    (State.MAIL, Verb.RCPT): State.RCPT,
    (State.RCPT, Verb.RCPT): State.RCPT,
    (State.RCPT, Verb.DATA): State.READY,
    (State.RCPT, Verb.BDAT): State.CHUNKS,
    (State.RCPT, Verb.BDAT_LAST): State.READY,
    (State.CHUNKS, Verb.BDAT): State.CHUNKS,
    (State.CHUNKS, Verb.BDAT_LAST): State.READY,
    (State.BROKEN, Verb.BDAT): State.BROKEN,  # read and answered with 503
    (State.BROKEN, Verb.BDAT_LAST): State.READY,  # the same
}

_OUTSIDE = (Verb.MAIL, Verb.MAIL_XHEADERRCPTS, Verb.STARTTLS, Verb.AUTH, Verb.ATRN, Verb.ETRN)


def refusal(state: State, verb: Verb) -> Status:
    """The reply to a command that is not in the table."""
    if state is State.START:
        return replies.HELO_FIRST
    if verb in _OUTSIDE:
        return replies.IN_TRANSACTION
    if state is State.READY:
        return replies.NO_TRANSACTION
    if state is State.MAIL:
        return replies.NO_RECIPIENTS
    return replies.MESSAGE_REFUSED if state is State.BROKEN else replies.ONLY_CHUNKS


@frozen
class Offers:
    """What the server announces and allows in one session, until TLS begins.

    `xsubmit` is for the users of this host, on their socket alone. `atrn` is for who can log in and have mail waiting
    here; `etrn` for whose requests may be heard.
    """

    host_name: str
    max_size_bytes: int
    max_recipients: int = 1000
    starttls: bool = False
    auth: bool = False
    xsubmit: bool = False
    atrn: bool = False
    etrn: bool = False

    def keywords(self, *, is_tls: bool, is_authenticated: bool) -> list[str]:
        """The lines of the EHLO reply that announce extensions."""
        keywords = [
            extension.PIPELINING,
            f"{extension.SIZE} {self.max_size_bytes}",
            extension.EIGHT_BIT_MIME,
            extension.SMTPUTF8,
            extension.CHUNKING,
            extension.DSN,
            extension.ENHANCED_STATUS_CODES,
            f"{extension.LIMITS} RCPTMAX={min(self.max_recipients, extension.MAX_LIMIT)}",
        ]
        if self.starttls and not is_tls:
            keywords.append(extension.STARTTLS)
        if self.auth and not is_authenticated:
            keywords.append(" ".join([extension.AUTH, *SERVER_MECHANISMS]))
        if self.xsubmit:
            keywords.append(extension.XSUBMIT)
        if self.atrn:
            keywords.append(extension.ATRN)
        if self.etrn:
            keywords.append(extension.ETRN)
        return [*keywords, extension.HELP]


class Wait(Enum):
    """What the machine waits for; the bytes that come are read as that."""

    COMMAND = "command"
    DATA = "data"  # text up to the final dot
    CHUNK = "chunk"  # the octets of one BDAT
    RESPONSE = "response"  # a line of a log-in
    TLS = "tls"  # the shell begins TLS; plain bytes must not come any more
    NOTHING = "nothing"  # the session is over

    __hash__ = object.__hash__  # as Verb.__hash__


#: How long the shell lets the client take. RFC 5321 §4.5.3.2.7 asks for five minutes; a log-in is done by a
#: program that has its response ready.
WAIT_SECONDS = {
    Wait.COMMAND: 300.0,
    Wait.DATA: 300.0,
    Wait.CHUNK: 300.0,
    Wait.RESPONSE: 60.0,
    Wait.TLS: 60.0,
    Wait.NOTHING: 60.0,  # for a commit that is still to be answered
}


# What the machine tells the shell. Those marked with * want an `answer` before anything else happens.


@frozen
class Begin:
    """* A message follows. An accepting answer lets it come, a refusal keeps it away."""

    envelope: Envelope


@frozen
class Body:
    """The next piece of the message, as it will be stored."""

    data: bytes


@frozen
class End:
    """The message is complete. Its final reply is given with `conclude`, while the session goes on."""


@frozen
class Discard:
    """The message that was begun will not be completed."""


@frozen
class Authenticate:
    """* Somebody logs in."""

    credentials: Credentials


@frozen
class StartTls:
    """Send the output, begin TLS, then call `tls_started`."""


@frozen
class Close:
    """Send the output and close the connection."""


#: Those that are commands want an answer too. Behind an accepting one to `Atrn` the connection is not closed: what
#: was read of it too far is in `Server.rest`, for whoever goes on with it as a client.
Event = Mail | Rcpt | Atrn | Etrn | Begin | Body | End | Discard | Authenticate | StartTls | Close
