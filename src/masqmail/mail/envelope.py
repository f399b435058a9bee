"""The envelope of one transaction: RFC 5321 §2.3.1 with the DSN parameters of RFC 3461 §4."""

from enum import Enum, Flag, auto

from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox


class Notify(Flag):
    """The NOTIFY parameter, RFC 3461 §4.1. `NEVER` stands alone."""

    NEVER = 0
    SUCCESS = auto()
    FAILURE = auto()
    DELAY = auto()

    def __str__(self) -> str:
        """The parameter's value as SMTP writes it."""
        return ",".join(flag.name or "" for flag in Notify if flag in self) if self else "NEVER"


#: What holds when a recipient came without NOTIFY, RFC 3461 §4.1.
DEFAULT_NOTIFY = Notify.FAILURE | Notify.DELAY


class Ret(Enum):
    """The RET parameter, RFC 3461 §4.3: how much of the message a failure report returns."""

    FULL = "FULL"
    HDRS = "HDRS"


class Body(Enum):
    """The BODY parameter, RFC 6152 §3. BINARYMIME is not offered."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"


@frozen
class Recipient:
    """One forward-path with what its originator asked for.

    `notify` is None where none was given. `orcpt` is the ORCPT value decoded from xtext, with its
    address type ("rfc822;ann@example.org"), or empty.
    """

    mailbox: Mailbox
    notify: Notify | None = None
    orcpt: str = ""


@frozen
class Envelope:
    """Who a message is from and for. A `reverse_path` of None is the null reverse-path.

    `envid` is decoded from xtext. `body` says what MAIL declared; `smtputf8` that it had that parameter.
    """

    reverse_path: Mailbox | None
    recipients: tuple[Recipient, ...]
    ret: Ret | None = None
    envid: str = ""
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
