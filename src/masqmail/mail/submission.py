"""What a submission agent may mend in the header of a new message: RFC 6409 §8, RFC 5322 §3.6.

Missing fields are added, blind copies are taken out, addresses get the domain they lack; every other byte stays as
its author wrote it.
"""

import base64
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from masqmail.mail.address import Mailbox
from masqmail.mail.addresslist import parse_address_list
from masqmail.mail.date import format_date
from masqmail.mail.envelope import Notify, Recipient
from masqmail.mail.header import Field, field_names, join_fields, make_field, split_fields, values

#: Never leave this host with a submitted message: RFC 5322 §3.6.3, and RFC 5321 §4.4 for Return-Path.
REMOVED = frozenset({b"bcc", b"resent-bcc", b"return-path"})

#: The fields in which an address without a domain means one of this host.
QUALIFIED = frozenset(
    f"{prefix}{name}" for prefix in ("", "resent-") for name in ("from", "sender", "reply-to", "to", "cc")
)

_ADDRESSES = re.compile(
    rb"\n(?:resent-)?(?:from|sender|reply-to|to|cc)[ \t]*+:((?>[^\n]*+(?:\n[ \t][^\n]*+)*))"
)  # what stands in those fields
_BARE_ANGLE = re.compile(rb"<[^@>]*+>")

#: What a message has that lacks nothing.
_USUAL = frozenset({b"date", b"from", b"message-id"})

_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\- ]+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_MAX_SHOWN_BYTES = 200
_ENCODED_WORD_CHARACTERS = 10  # at most 4 bytes each: 40 bytes make 56 of base64, under the 75 of RFC 2047 §2


class Submission(NamedTuple):
    """What is needed to make the fields that a message may lack.

    `originator` is whose address a missing From gets; None when nobody is known (a null reverse-path without
    a local user), and then none is added. `unique` is the left part of a Message-ID.
    """

    originator: Mailbox | None
    full_name: str
    submitted_at: datetime
    unique: str
    host_name: str


def fix_header(header: bytes, submission: Submission, names: Iterable[bytes] | None = None) -> bytes:
    """The header section with what it lacks and without what must not leave.

    Date, Message-ID and From are added at its end, in a resent message (RFC 5322 §3.6.6) the same fields with
    Resent- at the front of its newest block. All Bcc, Resent-Bcc and Return-Path fields go. `names` are its
    `field_names`, from a caller who has them.
    """
    found = set(field_names(header) if names is None else names)
    if is_complete(found):
        return header
    if not found.isdisjoint(REMOVED):
        header = join_fields(field for field in split_fields(header) if field.name.encode() not in REMOVED)
        found -= REMOVED
    if b"\nresent-" in b"\n".join((b"", *found)):
        header = _fix_resent_block(header, submission)
    if found >= _USUAL:
        return header
    return header + join_fields(_missing(found, "", submission))


def is_complete(names: Collection[bytes]) -> bool:
    """Whether `fix_header` would change nothing in a header section with these fields, as nearly always."""
    return _USUAL.issubset(names) and REMOVED.isdisjoint(names) and b"\nresent-" not in b"\n".join((b"", *names))


def qualify_addresses(header: bytes, host_name: str) -> bytes:
    """The header section with `@host_name` behind each address that is a name alone: the very same object if none is.

    `From: root (Cron Daemon)` names a user of this host, and would name one of any other host it comes to. What
    is quoted or no address stays as it is. RFC 6409 §8 lets us do this, RFC 5322 §3.4.1 asks for a domain.
    """
    if not any(map(_may_be_bare, _ADDRESSES.findall(b"\n" + header.lower()))):
        return header
    return join_fields(
        _with_domains(field, host_name) if field.name in QUALIFIED else field for field in split_fields(header)
    )


def header_recipients(header: bytes) -> tuple[tuple[Mailbox, ...], tuple[str, ...]]:
    """The mailboxes in To, Cc and Bcc, and what stands there without being an address (for `sendmail -t`).

    In a resent message they are those of its newest Resent- block alone.
    """
    fields = split_fields(header)
    start, end = _resent_block(fields)
    prefix, fields = ("resent-", fields[start:end]) if start < end else ("", fields)
    mailboxes: list[Mailbox] = []
    faults: list[str] = []
    for field in fields:
        if field.name in (f"{prefix}to", f"{prefix}cc", f"{prefix}bcc"):
            value = field.value
            listed = parse_address_list(value)
            mailboxes.extend(listed.mailboxes)
            faults.extend(_shown(value[fault.span.start : fault.span.end]) for fault in listed.faults)
    return tuple(mailboxes), tuple(faults)


def with_named(
    recipients: tuple[Recipient, ...], named: Iterable[Mailbox], notify: Notify | None
) -> tuple[Recipient, ...]:
    """The recipients of the envelope and those named in the header, each mailbox once."""
    known = {(recipient.mailbox.local_part, recipient.mailbox.domain_key) for recipient in recipients}
    added = []
    for mailbox in named:
        key = (mailbox.local_part, mailbox.domain_key)
        if key not in known:
            known.add(key)
            added.append(Recipient(mailbox, notify))
    return (*recipients, *added)


def from_mailboxes(fields: Iterable[Field]) -> tuple[Mailbox, ...]:
    """The addresses in From; what is no address there is passed over."""
    lists = (parse_address_list(value) for value in values(fields, "from"))
    return tuple(mailbox for listed in lists for mailbox in listed.mailboxes)


def from_value(mailbox: Mailbox, full_name: str) -> str:
    """The value of a From field; the name is quoted or encoded (RFC 2047) as it needs."""
    name = " ".join(_CONTROLS.sub(" ", full_name).split())
    if not name:
        return str(mailbox)
    if not name.isascii():
        name = _encoded_words(name)
    elif not _ATOMS.fullmatch(name):
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        name = f'"{escaped}"'
    return f"{name} <{mailbox}>"


def _may_be_bare(value: bytes) -> bool:
    """Whether an address without a domain may stand in the value of a field; quick, and nearly always no."""
    return value.count(b"@") <= value.count(b",") or _BARE_ANGLE.search(value) is not None


def _with_domains(field: Field, host_name: str) -> Field:
    pieces = []
    position = 0
    for listed in parse_address_list(field.raw, field.value_start).listed:
        if not listed.mailbox.domain and field.raw[listed.spec.start : listed.spec.start + 1] != b'"':
            pieces += [field.raw[position : listed.spec.end], f"@{host_name}".encode()]
            position = listed.spec.end
    return Field(field.name, b"".join((*pieces, field.raw[position:]))) if pieces else field


def _missing(names: Collection[bytes], prefix: str, submission: Submission) -> list[Field]:
    """The fields to add where `names` are there already; `prefix` is empty or "Resent-"."""
    added = []
    key = prefix.lower().encode()
    if key + b"date" not in names:
        added.append(make_field(f"{prefix}Date", format_date(submission.submitted_at)))
    if key + b"from" not in names and submission.originator:
        added.append(make_field(f"{prefix}From", from_value(submission.originator, submission.full_name)))
    if key + b"message-id" not in names:
        added.append(make_field(f"{prefix}Message-ID", f"<{submission.unique}@{submission.host_name}>"))
    return added


def _fix_resent_block(header: bytes, submission: Submission) -> bytes:
    """Completes the newest block of Resent- fields; an earlier one is complete or not ours to mend."""
    fields = split_fields(header)
    start, end = _resent_block(fields)
    names = {field.name.encode() for field in fields[start:end]}
    return join_fields((*fields[:start], *_missing(names, "Resent-", submission), *fields[start:]))


def _resent_block(fields: Sequence[Field]) -> tuple[int, int]:
    """Where the newest block of Resent- fields begins and ends: at the first other field or a name seen before.

    Each name stands once in a block (RFC 5322 §3.6), and new blocks go on top. Without one both are the same.
    """
    start = next((index for index, field in enumerate(fields) if field.name.startswith("resent-")), len(fields))
    names: set[str] = set()
    end = start
    while end < len(fields) and fields[end].name.startswith("resent-") and fields[end].name not in names:
        names.add(fields[end].name)
        end += 1
    return start, end


def _shown(text: bytes) -> str:
    """A part of a field for people, in bounds and on one line."""
    return " ".join(_CONTROLS.sub(" ", text[:_MAX_SHOWN_BYTES].decode(errors="replace")).split())


def _encoded_words(text: str) -> str:
    """The text as encoded words of RFC 2047, each on a line of its own behind the first."""
    parts = (
        text[start : start + _ENCODED_WORD_CHARACTERS] for start in range(0, len(text), _ENCODED_WORD_CHARACTERS)
    )
    return "\r\n ".join(f"=?UTF-8?B?{base64.b64encode(part.encode()).decode()}?=" for part in parts)
