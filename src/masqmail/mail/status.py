"""Reply codes with their enhanced status codes and text: RFC 5321 §4.2, RFC 2034, RFC 3463."""

import re
from functools import lru_cache

from masqmail.frozen import frozen

_ENHANCED = re.compile(r"[245]\.(?:0|[1-9]\d{0,2})\.(?:0|[1-9]\d{0,2})", re.ASCII)


@frozen
class Status:
    """One verdict: a three digit code, an enhanced code that agrees with it, and a text for people.

    `enhanced` is empty where the peer sent none, and always for 3yz (RFC 2034 §4). A text of several
    lines has them separated by a line feed. Raises `ValueError` when the parts disagree.
    """

    code: int
    enhanced: str
    text: str

    def __post_init__(self) -> None:
        _check_codes(self.code, self.enhanced)

    @property
    def is_success(self) -> bool:
        """2yz: the command was carried out."""
        return self.code // 100 == 2

    @property
    def is_intermediate(self) -> bool:
        """3yz: the peer waits for more of the same command."""
        return self.code // 100 == 3

    @property
    def is_temporary(self) -> bool:
        """4yz: the same may succeed later."""
        return self.code // 100 == 4

    @property
    def is_permanent(self) -> bool:
        """5yz: the same will fail again."""
        return self.code // 100 == 5

    @property
    def dsn_code(self) -> str:
        """The enhanced code for a report's Status field, made from the class when there is none , RFC 3464 §2.3.4."""
        return self.enhanced or f"{self.code // 100}.0.0"

    def with_text(self, text: str) -> "Status":
        """The same verdict in other words."""
        return Status(self.code, self.enhanced, text)

    def __str__(self) -> str:
        text = " ".join(self.text.splitlines())
        return " ".join(part for part in (str(self.code), self.enhanced, text) if part)


@lru_cache(256)  # the same few come again and again
def _check_codes(code: int, enhanced: str) -> None:
    """Raises `ValueError` when the two disagree or one is none."""
    if not 200 <= code <= 599:
        raise ValueError(f"a reply code is between 200 and 599, not {code}")
    if enhanced:
        if not _ENHANCED.fullmatch(enhanced):
            raise ValueError(f"{enhanced!r} is not an enhanced status code, RFC 3463 §2")
        if int(enhanced[0]) != code // 100:  # RFC 2034 §4
            raise ValueError(f"{enhanced} does not belong to a {code} reply")


# Common verdicts; a bare number in the code is a sign that a name is missing here.
OK = Status(250, "2.0.0", "OK")
SENDER_OK = Status(250, "2.1.0", "Sender OK")
RECIPIENT_OK = Status(250, "2.1.5", "Recipient OK")
CLOSING = Status(221, "2.0.0", "Goodbye")
START_INPUT = Status(354, "", "End data with <CR><LF>.<CR><LF>")
SHUTTING_DOWN = Status(421, "4.3.2", "Service is shutting down, try again later")
TIMED_OUT = Status(421, "4.4.2", "Waited too long for you, closing")
LOCAL_ERROR = Status(451, "4.3.0", "Local error, try again later")
STORAGE_FULL = Status(452, "4.3.1", "Not enough storage, try again later")
TOO_MANY_RECIPIENTS = Status(452, "4.5.3", "Too many recipients, send the rest in another transaction")
MAILBOX_FULL = Status(452, "4.2.2", "Mailbox full")
SYNTAX_ERROR = Status(500, "5.5.2", "Syntax error, command not recognized")
BAD_ARGUMENTS = Status(501, "5.5.4", "Syntax error in the arguments")
NOT_IMPLEMENTED = Status(502, "5.5.1", "Command not implemented")
OUT_OF_SEQUENCE = Status(503, "5.5.1", "Bad sequence of commands")
MAILBOX_UNKNOWN = Status(550, "5.1.1", "No such mailbox here")
RELAYING_DENIED = Status(550, "5.7.1", "Relaying denied: log in, or ask for your network to be allowed")
MESSAGE_TOO_BIG = Status(552, "5.3.4", "Message too big")
MAIL_LOOP = Status(554, "5.4.6", "Too many hops, this message is in a loop")
LIFETIME_EXPIRED = Status(554, "5.4.7", "Could not be delivered in time")
