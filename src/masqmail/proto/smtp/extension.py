"""SMTP service extensions: their keywords, and what a server offers in its EHLO reply. RFC 5321 §4.1.1.1."""

import re
from collections.abc import Iterable

from masqmail.frozen import frozen

SIZE = "SIZE"  # RFC 1870
PIPELINING = "PIPELINING"  # RFC 2920
CHUNKING = "CHUNKING"  # RFC 3030
EIGHT_BIT_MIME = "8BITMIME"  # RFC 6152
SMTPUTF8 = "SMTPUTF8"  # RFC 6531
DSN = "DSN"  # RFC 3461
ENHANCED_STATUS_CODES = "ENHANCEDSTATUSCODES"  # RFC 2034
STARTTLS = "STARTTLS"  # RFC 3207
AUTH = "AUTH"  # RFC 4954
LIMITS = "LIMITS"  # RFC 9422
ATRN = "ATRN"  # RFC 2645
ETRN = "ETRN"  # RFC 1985
HELP = "HELP"  # RFC 5321 §4.1.1.8
XSUBMIT = "XSUBMIT"  # ours, see `xsubmit`

MAX_LIMIT = 999_999  # RFC 9422 §4.1 gives a number six digits

_NUMBER = re.compile(r"\d{1,20}", re.ASCII)
_LIMIT = re.compile(r"([A-Z0-9][A-Z0-9-]*)=(\d{1,6})", re.ASCII | re.IGNORECASE)  # RFC 9422 §4.1


@frozen
class Limits:
    """What a server allows per session and transaction, RFC 9422 §4; None where it names no number."""

    mail_max: int | None = None  # transactions in one session
    rcpt_max: int | None = None  # recipients in one transaction
    rcpt_domain_max: int | None = None  # different domains in one transaction


@frozen
class Extensions:
    """What a server offers. Unknown keywords and bad arguments are passed over, as if not offered.

    `size_bytes` is the biggest message it takes: None without SIZE, 0 when it names no limit. `auth` are its
    mechanisms in upper case, in its order.
    """

    server_name: str = ""
    size_bytes: int | None = None
    pipelining: bool = False
    chunking: bool = False
    eight_bit_mime: bool = False
    smtputf8: bool = False
    dsn: bool = False
    enhanced_status_codes: bool = False
    starttls: bool = False
    auth: tuple[str, ...] = ()
    limits: Limits = Limits()

    @property
    def max_message_bytes(self) -> int | None:
        """The biggest message the server says it takes, or None when it says nothing about that."""
        return self.size_bytes or None


def parse_ehlo(text: str) -> Extensions:
    """Reads the text of a 250 reply to EHLO: a line with the server's name, then one keyword per line."""
    greeting, *lines = text.split("\n")
    offered = _keywords(lines)
    return Extensions(
        server_name=greeting.split(" ", 1)[0],
        size_bytes=_parse_size(offered.get(SIZE)),
        pipelining=PIPELINING in offered,
        chunking=CHUNKING in offered,
        eight_bit_mime=EIGHT_BIT_MIME in offered,
        smtputf8=SMTPUTF8 in offered,
        dsn=DSN in offered,
        enhanced_status_codes=ENHANCED_STATUS_CODES in offered,
        starttls=STARTTLS in offered,
        auth=tuple(dict.fromkeys(mechanism.upper() for mechanism in offered.get(AUTH, ()))),
        limits=_parse_limits(offered.get(LIMITS, ())),
    )


def _keywords(lines: Iterable[str]) -> dict[str, list[str]]:
    """Keywords in upper case with their arguments; those of a repeated keyword are joined.

    `AUTH=LOGIN` is how servers from before RFC 2554 offer AUTH.
    """
    offered: dict[str, list[str]] = {}
    for line in lines:
        if line.upper().startswith("AUTH="):
            line = line.replace("=", " ", 1)
        if words := line.split():
            offered.setdefault(words[0].upper(), []).extend(words[1:])
    return offered


def _parse_size(arguments: list[str] | None) -> int | None:
    if arguments is None:
        return None
    return int(arguments[0]) if arguments and _NUMBER.fullmatch(arguments[0]) else 0


def _parse_limits(arguments: Iterable[str]) -> Limits:
    named = {match[1].upper(): int(match[2]) for word in arguments if (match := _LIMIT.fullmatch(word))}
    # A limit of zero would allow nothing at all; RFC 9422 §4.1 lets no value begin with a zero.
    return Limits(named.get("MAILMAX") or None, named.get("RCPTMAX") or None, named.get("RCPTDOMAINMAX") or None)
