"""What one attempt meant for one recipient, and whose doing it was.

A delivery method returns one of `Delivered`, `Deferred`, `Failed` or `NotTried` per recipient. What
follows from it (another route, a wait, a report) is decided in `routing.settle`.
"""

from enum import Enum

from masqmail.frozen import frozen
from masqmail.mail.status import Status


class Culprit(Enum):
    """What failed. The first six, down to `SESSION`, are never a failure of the message."""

    LINK = "link"
    NAME = "name"
    CONNECTION = "connection"
    TLS = "tls"
    LOGIN = "login"
    SESSION = "session"
    SENDER = "sender"
    RECIPIENT = "recipient"
    MESSAGE = "message"
    LOCAL = "local"
    US = "us"


class Handover(Enum):
    """How far our promise to report goes after a success, RFC 3461 §5.2 and RFC 3464 §2.3.3."""

    MAILBOX = "delivered"  # in its mailbox: we make the success report
    RELAYED = "relayed"  # to a next hop without DSN: we make a `relayed` report
    PASSED_ON = "passed on"  # to a next hop that takes over the DSN request: no report from us


@frozen
class Delivered:
    """The next hop or mailbox has taken responsibility; with a `remote_host` the status is its answer."""

    status: Status
    remote_host: str = ""
    handover: Handover = Handover.RELAYED
    reason: str = ""


@frozen
class Deferred:
    """A temporary answer about this recipient or message, or a local error. Spends an attempt.

    `remote_host` is whom we dealt with. The status is its answer only with `said_by_peer`, and ours otherwise.
    `in_doubt` is true when the connection broke after the last byte and before the final reply: the
    message may arrive twice (RFC 1047).
    """

    status: Status
    culprit: Culprit
    reason: str
    remote_host: str = ""
    said_by_peer: bool = False
    in_doubt: bool = False


@frozen
class Failed:
    """A permanent answer about this recipient or message; `said_by_peer` as in `Deferred`."""

    status: Status
    culprit: Culprit
    reason: str
    remote_host: str = ""
    said_by_peer: bool = False


@frozen
class NotTried:
    """The next hop could not be used, or the transaction was not reached. Spends nothing."""

    culprit: Culprit
    reason: str
    remote_host: str = ""


Outcome = Delivered | Deferred | Failed | NotTried
