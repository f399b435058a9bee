"""The old queue files: `ID-H` with envelope and header, `ID-D` with the body.

1abCDe-0Xy-00
MF:<ann@home.example>        the sender
RT: <bob@isp.example>        a recipient: a blank for one that waits, X delivered, F failed
TR:1041379200                when it was received; other lines mean nothing here

HD:Subject: hello            the header; continuation lines stand as they are
"""

from masqmail.frozen import frozen
from masqmail.mail.address import AddressError, Mailbox, parse_mailbox


class BadSpoolFile(ValueError):
    """A queue file that cannot be used; the text says why."""


@frozen
class OldEnvelope:
    """What an -H file says. Without a sender it is the null one. `unusable` are recipients that are no address."""

    id: str
    sender: Mailbox | None
    waiting: tuple[Mailbox, ...]
    delivered: tuple[str, ...]
    failed: tuple[str, ...]
    unusable: tuple[str, ...]
    received_at: int
    header: bytes


def parse_envelope(data: bytes) -> OldEnvelope:
    """Reads an -H file. Raises `BadSpoolFile`."""
    head, blank, header = data.partition(b"\n\n")
    first, *lines = head.decode("utf-8", "replace").split("\n")
    if not first or not blank:
        raise BadSpoolFile("it has no envelope and header")
    sender: Mailbox | None = None
    has_sender = False
    received_at = 0
    states: dict[str, list[str]] = {" ": [], "X": [], "F": []}
    for line in lines:
        tag, _, value = line.partition(":")
        if tag == "MF":
            sender, has_sender = _sender(value), True
        elif tag == "RT":
            state, address = (value[0], value[1:]) if value[:1] in states and value else (" ", value)
            states[state].append(address.strip())
        elif tag == "TR" and value.strip().isascii() and value.strip().isdigit():
            received_at = int(value.strip()[:18])
    if not has_sender:
        raise BadSpoolFile("it names no sender")
    waiting, unusable = _mailboxes(states[" "])
    return OldEnvelope(
        first.strip(), sender, waiting, tuple(states["X"]), tuple(states["F"]), unusable, received_at, _header(header)
    )


def body_offset(data: bytes, queue_id: str) -> int:
    """Where the body begins in a -D file, whose first line is the ID. Raises `BadSpoolFile`."""
    line, newline, _ = data.partition(b"\n")
    if not newline or line.strip() != queue_id.encode(errors="replace"):
        raise BadSpoolFile("its body belongs to another message")
    return len(line) + 1


def _sender(value: str) -> Mailbox | None:
    text = _bare(value)
    if not text:
        return None
    try:
        return parse_mailbox(text)
    except AddressError as error:
        raise BadSpoolFile(f"its sender is no address: {error}") from None


def _mailboxes(addresses: list[str]) -> tuple[tuple[Mailbox, ...], tuple[str, ...]]:
    found: dict[Mailbox, None] = {}
    unusable = []
    for address in addresses:
        try:
            if address.startswith("|"):  # a program of an alias, whose name could also be a local-part
                raise AddressError("no address")
            found[parse_mailbox(_bare(address))] = None
        except AddressError:
            unusable.append(address)
    return tuple(found), tuple(unusable)


def _bare(text: str) -> str:
    return text.strip().removeprefix("<").removesuffix(">")


def _header(text: bytes) -> bytes:
    """The header without the tags; every other byte as it is."""
    lines = text.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    return b"".join(line.removeprefix(b"HD:") + b"\n" for line in lines)
