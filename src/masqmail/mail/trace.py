"""The fields a message collects on its way: Received, Return-Path, Delivered-To, Envelope-To.

RFC 5321 §4.4. They go on top of the header section; what is there already keeps its bytes.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address

from masqmail import __version__
from masqmail.mail.address import AddressError, Mailbox, address_literal, parse_mailbox
from masqmail.mail.date import format_date
from masqmail.mail.header import Field, join_fields, make_field, split_fields

_UNSAFE = re.compile(r"[\x00-\x20()\\\x7f-\xa0]+")  # blanks, controls, ( ) and \
_IDENT = " ident="
_MAX_TOKEN = 255  # a HELO name is a domain, RFC 5321 §4.5.3.1.2

#: Protocols that may stand behind "with", RFC 3848 and RFC 6531 §4.3, and the two that mail is fetched with. Others,
#: such as "local", are left out.
_NAMED = re.compile(r"SMTP|ESMTPS?A?|LMTPS?A?|UTF8SMTPS?A?|UTF8LMTPS?A?|POP3|IMAP")


def protocol_keyword(
    *, extended: bool = True, lmtp: bool = False, smtputf8: bool = False, tls: bool = False, login: bool = False
) -> str:
    """How a session's transmission type is called, RFC 3848 §1: "SMTP", "ESMTPSA", "UTF8SMTPS" …"""
    if not (extended or lmtp):
        return "SMTP"
    base = ("UTF8LMTP" if lmtp else "UTF8SMTP") if smtputf8 else ("LMTP" if lmtp else "ESMTP")
    return base + "S" * tls + "A" * login


def client_clause(helo: str, address: str, host: str = "", ident: str = "") -> str:
    """The `from` clause of a message that came over a network, RFC 5321 §4.4.

    `helo` is what the client called itself, `address` its IP address, `host` its name in the DNS if known, `ident`
    the user that its host names.
    """
    literal = address_literal(address)
    seen = f"{_token(host)} {literal}" if host else literal
    comment = f" (ident={_token(ident)})" if ident else ""
    return f"from {_token(helo) or literal} ({seen}){comment}"


def fetched_clause(server: str, account: str) -> str:
    """The `from` clause of a message that we fetched from an account of ours. `server` is a name or an IP address."""
    try:
        host = address_literal(str(ip_address(server)))
    except ValueError:
        host = _token(server)
    return f"from {host} (account {_token(account)})".encode("ascii", "replace").decode()


def describe_fetched(server: str, account: str) -> str:
    """The same for people, and for `read_client`."""
    return f"{_token(server)} (account {account})"


def describe_client(address: str, *, helo: str = "", user: str = "", ident: str = "") -> str:
    """Who handed a message in over a network, for people; `user` has logged in. `read_client` understands it."""
    login = f"{user} at " if user else ""
    return f"{login}{address}{_IDENT * bool(ident)}{_token(ident)}{f' ({helo})' if helo else ''}"


def read_client(protocol: str, description: str) -> tuple[str, str]:
    """The host and the user there, for `${received_host}` and `${ident}`; both may be empty.

    For mail of this host (the protocol "local") there is no host, and the user is the one who handed it in.
    """
    name = description.partition(" (")[0]
    if protocol == "local":
        return "", "" if name.startswith("uid ") else name
    host, _, ident = name.rpartition(" at ")[2].partition(_IDENT)
    return host.partition(" ")[0], ident


def local_clause(user: str, uid: int) -> str:
    """The comment that stands for a `from` clause when a user of this host handed the message in."""
    return f"(from user {_token(user)}, uid {uid})" if user else f"(from uid {uid})"


def received_field(
    *,
    clause: str,
    host_name: str,
    protocol: str,
    queue_id: str,
    received_at: datetime,
    recipient: Mailbox | None = None,
) -> bytes:
    """Our own trace field, folded, with its CRLF.

    `clause` comes from `client_clause`, `local_clause` or `fetched_clause`. `recipient` is given only when it is the
    only one: naming one of several would tell others about a blind copy (RFC 5321 §7.2). One with UTF-8 in it is not
    named: a server without SMTPUTF8 could not take the header any more, though it might take an A-label (RFC 6531
    §3.7.3).
    """
    address = str(recipient) if recipient else ""
    forward_path = f"\r\n\tfor <{address}>" if address and address.isascii() else ""
    return (
        f"{_hosts(clause, host_name, protocol)}\tid {queue_id}{forward_path};\r\n\t{format_date(received_at)}\r\n"
    ).encode()


@lru_cache(64)
def _hosts(clause: str, host_name: str, protocol: str) -> str:
    """The first lines of the field: the same for all messages of a session."""
    start = f"{clause}\r\n\tby" if clause else "by"
    transmission = f" with {protocol}" if _NAMED.fullmatch(protocol) else ""
    return f"Received: {start} {host_name} (MasqMail {__version__}){transmission}\r\n"


def count_hops(names: Sequence[bytes]) -> int:
    """How many of a header section's `field_names` are Received: each stands for one host, RFC 5321 §6.3."""
    return names.count(b"received")


def for_mailbox(
    header: bytes, *, reverse_path: Mailbox | None, mailbox: Mailbox, envelope_to: str, save_envelope_to: bool = False
) -> bytes:
    """The header section of a copy that goes into a mailbox: the final delivery of RFC 5321 §4.4.

    Return-Path, Delivered-To (`mailbox`) and Envelope-To (the address that was asked for) go on top. A
    Return-Path that somebody else wrote is removed, and so is an Envelope-To, unless `save_envelope_to` keeps
    it as X-Orig-Envelope-To.
    """
    ours = (
        make_field("Return-Path", f"<{reverse_path or ''}>"),
        make_field("Delivered-To", str(mailbox)),
        make_field("Envelope-To", envelope_to),
    )
    kept = []
    for field in split_fields(header):
        if field.name == "envelope-to" and save_envelope_to:
            kept.append(_renamed(field, "X-Orig-Envelope-To"))
        elif field.name not in ("return-path", "envelope-to"):
            kept.append(field)
    return join_fields((*ours, *kept))


def was_delivered_to(fields: Iterable[Field], mailbox: Mailbox) -> bool:
    """Whether a Delivered-To already names this mailbox: the message goes in a circle."""
    ours = (mailbox.local_part, mailbox.domain_key)
    for field in fields:
        if field.name != "delivered-to":
            continue
        try:
            named = parse_mailbox(field.value.decode().strip("<>"))
        except (AddressError, UnicodeDecodeError):
            continue
        if (named.local_part, named.domain_key) == ours:
            return True
    return False


def _token(text: str) -> str:
    """What others told us, made harmless inside a trace field: no blank, control, bracket or backslash."""
    return _UNSAFE.sub("?", text)[:_MAX_TOKEN]


def _renamed(field: Field, name: str) -> Field:
    """The field under another name; every byte from the colon on stays."""
    return Field(name.lower(), name.encode() + b":" + field.raw[field.value_start :])
