"""ATRN and ETRN: a client asks for the mail that waits for its domains. RFC 2645, RFC 1985.

>>> read_domains("example.org,example.com")
('example.org', 'example.com')
>>> atrn_command(("example.org", "example.com"))
b'ATRN example.org,example.com\\r\\n'
"""

from collections.abc import Sequence

from masqmail.mail.address import AddressError, parse_mailbox
from masqmail.mail.status import BAD_ARGUMENTS, Status
from masqmail.proto.errors import PeerError

MAX_COMMAND_BYTES = 512  # RFC 5321 §4.5.3.1.4, with the CRLF

# What a server answers to ATRN, RFC 2645 §7.
TURNING = Status(250, "2.0.0", "OK now reversing the connection")
TURN_REFUSED = Status(450, "4.7.1", "ATRN request refused: you may not have the mail of all these domains")
TURN_IMPOSSIBLE = Status(451, "4.3.0", "Unable to process ATRN request now")
TURN_TWICE = Status(451, "4.3.2", "Your mail is being sent to you over another connection")
NO_MAIL = Status(453, "4.2.0", "You have no mail")

NO_SUCH_QUEUE = Status(459, "4.5.4", "Queues have no names here, write a domain")


def read_domains(arguments: str) -> tuple[str, ...]:
    """The domains behind ATRN; none of them stands for all. Raises `PeerError` (501)."""
    if not arguments.strip(" "):
        return ()
    return tuple(_read_domain(word.strip(" ")) for word in arguments.split(","))


def read_node(arguments: str) -> tuple[str, bool]:
    """The domain behind ETRN, and whether all below it are meant as well (RFC 1985 §5.3). Raises `PeerError`."""
    if arguments.startswith("#"):
        raise PeerError(NO_SUCH_QUEUE)
    return _read_domain(arguments.removeprefix("@")), arguments.startswith("@")


def _read_domain(text: str) -> str:
    """A domain, which is what may stand behind the @ of a mailbox, but no address in brackets."""
    try:
        domain = parse_mailbox(f"x@{text}").domain
    except AddressError:
        domain = ""
    if not domain or domain.startswith("["):
        raise PeerError(BAD_ARGUMENTS.with_text("That is not a domain"))
    return domain


def atrn_command(domains: Sequence[str]) -> bytes:
    """The command that asks for the mail of these domains. Raises `ValueError` when they are too many for a line."""
    command = f"ATRN {','.join(domains)}".rstrip(" ").encode("ascii") + b"\r\n"
    if len(command) > MAX_COMMAND_BYTES:
        raise ValueError(f"{len(domains)} domains are too many for one ATRN, which has {MAX_COMMAND_BYTES} bytes")
    return command


def etrn_command(domain: str) -> bytes:
    """The command that asks a server to send now what it has for a domain."""
    return f"ETRN {domain}\r\n".encode("ascii")
