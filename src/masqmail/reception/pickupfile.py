"""The files in the pickup folder: what `sendmail` leaves there while no daemon runs.

A file is a few envelope lines, an empty line, the message, and a trailer of fixed length that says how many
bytes stand before it. Without the trailer the file is still being written, or never will be complete.

    MasqMail-Pickup: 1
    Body: 8BITMIME
    Sender: <bob@example.org>          absent: the submitter's own address; <>: the null reverse-path
    Recipient: <ann@example.org>       any number of them; a bare local part is a user of this host
    Header-Recipients: yes             those in To, Cc and Bcc are recipients, too
    Queue-Only: yes                    keep it until somebody flushes the queue
    Full-Name: Bob                     for a From field that is missing
    Notify: SUCCESS,FAILURE            these three as in RFC 3461
    Ret: HDRS
    Envelope-ID: 4711

    (the message; LF, CRLF and a lone CR end a line)
    MasqMail-End: 000000000000000815

Lines of the envelope end in LF. Unknown names make the file a bad one: they would ask for something that we do
not do. The submitter is the owner of the file, whatever it says.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from masqmail.mail.address import AddressError, Mailbox, parse_mailbox
from masqmail.mail.crlf import LineEnds
from masqmail.mail.envelope import Body, Envelope, Notify, Recipient, Ret

FIRST_LINE = "MasqMail-Pickup: 1"
MAX_ENVELOPE_BYTES = 4 << 20  # more than 10,000 of the longest recipients
TRAILER_BYTES = len(b"MasqMail-End: %018d\n" % 0)

_TRAILER = re.compile(rb"MasqMail-End: (\d{18})\n")


class BadFile(Exception):
    """The file is no message in our format; the text says what is wrong with it."""


@dataclass(slots=True)
class Ticket:
    """What the envelope lines ask for."""

    has_sender: bool = False
    sender: Mailbox | None = None
    recipients: tuple[Mailbox, ...] = ()
    header_recipients: bool = False
    queue_only: bool = False
    full_name: str = ""
    notify: Notify | None = None
    ret: Ret | None = None
    envid: str = ""
    body: Body = Body.EIGHT_BIT

    def envelope(self, reverse_path: Mailbox | None) -> Envelope:
        """The envelope with this reverse-path, which depends on who the submitter is."""
        return Envelope(
            reverse_path,
            tuple(Recipient(mailbox, self.notify) for mailbox in self.recipients),
            ret=self.ret,
            envid=self.envid,
            body=self.body,
        )


def content_length(end: bytes, size: int) -> int | None:
    """How many bytes stand before the trailer of a file of that size; None when it has no trailer that fits.

    `end` are the last TRAILER_BYTES of the file.
    """
    match = _TRAILER.fullmatch(end)
    length = size - TRAILER_BYTES
    return length if match and int(match[1]) == length else None


def parse_ticket(lines: bytes) -> Ticket:
    """Reads the envelope, without the empty line behind it. Raises `BadFile`."""
    try:
        first, *others = lines.decode().split("\n")
    except UnicodeDecodeError:
        raise BadFile("the envelope is not UTF-8") from None
    if first != FIRST_LINE:
        raise BadFile(f"it does not begin with {FIRST_LINE!r}")
    ticket = Ticket()
    recipients: list[Mailbox] = []
    for line in others:
        name, _, value = line.partition(": ")
        try:
            _read_line(ticket, recipients, name, value)
        except ValueError as error:  # AddressError is one, and so is a value that an Enum does not know
            raise BadFile(f"{line[:100]!r}: {error}") from None
    ticket.recipients = tuple(recipients)
    if not recipients and not ticket.header_recipients:
        raise BadFile("it names no recipients")
    return ticket


def crlf_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same text with CRLF where a line ends. Raises `BadFile` for a NUL byte, which SMTP does not take either."""
    ends = LineEnds()
    for block in blocks:
        if b"\0" in block:
            raise BadFile("the message has a NUL byte in it, which mail cannot carry")
        if text := ends.feed(block):
            yield text
    if rest := ends.finish():
        yield rest


def _read_line(ticket: Ticket, recipients: list[Mailbox], name: str, value: str) -> None:
    """Reads one line of the envelope. Raises `ValueError`."""
    match name:
        case "Body":
            ticket.body = Body(value)
        case "Sender":
            ticket.has_sender = True
            ticket.sender = None if value == "<>" else _path(value)
        case "Recipient":
            recipients.append(_path(value))
        case "Header-Recipients":
            ticket.header_recipients = True
        case "Queue-Only":
            ticket.queue_only = True
        case "Full-Name":
            ticket.full_name = value
        case "Notify":
            ticket.notify = _notify(value)
        case "Ret":
            ticket.ret = Ret(value)
        case "Envelope-ID":
            ticket.envid = _envelope_id(value)
        case _:
            raise ValueError("nothing of this name is known")


def _path(value: str) -> Mailbox:
    if not (value.startswith("<") and value.endswith(">")):
        raise AddressError("an address stands between < and >")
    return parse_mailbox(value[1:-1])


def _notify(value: str) -> Notify:
    notify = Notify.NEVER
    for word in value.split(",") if value != "NEVER" else ():
        if word not in ("SUCCESS", "FAILURE", "DELAY"):
            raise ValueError("that is not NEVER, or any of SUCCESS, FAILURE and DELAY")
        notify |= Notify[word]
    return notify


def _envelope_id(value: str) -> str:
    if not (value.isascii() and value.isprintable() and len(value) <= 100):  # RFC 3461 §4.4
        raise ValueError("at most 100 printable characters of ASCII can stand there")
    return value
