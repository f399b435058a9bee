"""Whom a fetched message is for, and who sent it, when only its header section can say so.

A mailbox on a server may hold the mail of several people (multidrop). Its server writes the envelope into the header
section: into a field of its own, or behind `for` in its Received. To and Cc are never asked: what an author wrote
there says nothing about whose copy this is.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox
from masqmail.mail.addresslist import comment_end, parse_address_list
from masqmail.mail.header import Field, split_fields, values
from masqmail.routing.local import POSTMASTER

#: More recipients than this are not taken out of one header field; `deliver_to` gets a copy for the rest.
MAX_RECIPIENTS = 100

_MAX_READ_BYTES = 64 * 1024  # of one field
_MAX_FORS = 10  # in one Received; there should be one

_RECEIVED = "received"
_FINAL_DOT = re.compile(rb"(@[^\s@,;<>()\"]++)(?<=\.)(?=[\s,;>(]|$)")  # of a domain that is written up to the root
_QUOTED = rb'"(?>(?:[^"\\]|\\.)*)"'
_QUOTED_OR_COMMENT = re.compile(rb'"(?>(?:[^"\\]|\\.)*)(?:"|\\?\Z)|\(', re.DOTALL)  # also a quote that is not closed
_FOR = re.compile(rb"(?<![^\s;])for\s+(<(?:[^<>\"]|%b)*>|(?:[^\s;<>\"]|%b)+)" % (_QUOTED, _QUOTED), re.I | re.DOTALL)


@frozen
class MultidropRules:
    """What an account says about the recipients of its mail.

    `deliver_to` gets what is for nobody else. Without an `envelope_header`, the name of the field that tells, that is
    everything. Only addresses in `domains` are taken from it, `strip` is removed from the front of each.
    """

    deliver_to: Mailbox
    envelope_header: str = ""
    strip: str = ""
    domains: tuple[str, ...] = ()


class Drop(NamedTuple):
    """Who gets a message, each mailbox once, and why, in words that follow "because".

    `has_envelope` says that the field was there and named somebody, whether or not of our domains.
    """

    recipients: tuple[Mailbox, ...]
    reason: str
    has_envelope: bool


def recipients_of(header: bytes, rules: MultidropRules) -> Drop:
    """Whom a message with this header section is for; there is always somebody. Never raises."""
    name = rules.envelope_header
    if not name:
        return Drop((rules.deliver_to,), "all mail of this account is for one address", False)
    fields = split_fields(header)
    ours = {_domain_key(domain): domain for domain in rules.domains}
    if name.lower() == _RECEIVED:
        named = _named_in_received(fields, rules, ours)
        missing = 'no Received says "for" whom it is'
    else:
        value = next(values(fields, name.lower()), None)
        named = [] if value is None else list(_mailboxes(value, rules.strip))
        missing = f"it has no {name}" if value is None else f"its {name} names no address"
    if not named:
        return Drop((rules.deliver_to,), missing, False)
    return _drop(named, rules, ours)


def return_path_of(header: bytes, setting: Mailbox | None) -> Mailbox | None:
    """The envelope sender of a fetched message; None is the null reverse-path. Never raises.

    It is the account's setting; else the message's topmost Return-Path, which its server wrote; else its Sender or
    From; else the postmaster.
    """
    if setting is not None:
        return setting
    fields = split_fields(header)
    for name in ("return-path", "sender", "from"):
        value = next(values(fields, name), b"")[:_MAX_READ_BYTES]
        if name == "return-path" and b"".join(_without_comments(value).split()) == b"<>":
            return None
        if found := next(_mailboxes(value), None):
            return found
    return Mailbox(POSTMASTER)


def _drop(named: list[Mailbox], rules: MultidropRules, ours: dict[str, str]) -> Drop:
    """Who gets a message whose envelope named these. Somebody elsewhere is not ours to write to: `deliver_to` is."""
    found = dict.fromkeys(
        mailbox.with_domain(domain)
        for mailbox in named
        if (domain := ours.get(_domain_key(mailbox.domain))) is not None
    )
    strangers = [mailbox for mailbox in named if _domain_key(mailbox.domain) not in ours]
    recipients = list(found)[:MAX_RECIPIENTS]
    reasons = [f"its {rules.envelope_header} names {_shown(list(found) or strangers)}"]
    if found and strangers:
        reasons.append(f"and {_shown(strangers)}")
    if strangers:
        reasons.append("outside of multidrop_domains")
    if len(found) > MAX_RECIPIENTS:
        reasons.append("too many for one message")
    if (strangers or len(found) > MAX_RECIPIENTS) and rules.deliver_to not in found:
        recipients.append(rules.deliver_to)
    return Drop(tuple(recipients), ", ".join(reasons), True)


def _named_in_received(fields: list[Field], rules: MultidropRules, ours: dict[str, str]) -> list[Mailbox]:
    """Who stands behind `for` in the topmost Received that names somebody of ours, or else anybody.

    Above it may be hops inside of the provider, who names the account there.
    """
    anybody: list[Mailbox] = []
    for value in values(fields, _RECEIVED):
        text = _without_comments(value[:_MAX_READ_BYTES])
        matches = islice(_FOR.finditer(text), _MAX_FORS)
        named = [found for match in matches for found in _mailboxes(match[1], rules.strip)]
        if any(_domain_key(mailbox.domain) in ours for mailbox in named):
            return named
        anybody = anybody or named
    return anybody


def _mailboxes(value: bytes, strip: str = "") -> Iterator[Mailbox]:
    """The addresses with a domain in a value, `strip` taken from their front."""
    for mailbox in parse_address_list(
        _FINAL_DOT.sub(lambda match: match[1].removesuffix(b"."), value[:_MAX_READ_BYTES])
    ).mailboxes:
        local_part = mailbox.local_part
        if strip and local_part.lower().startswith(strip.lower()):
            local_part = local_part[len(strip) :]
        if local_part and mailbox.domain:
            yield Mailbox(local_part, mailbox.domain)


def _domain_key(domain: str) -> str:
    """The same text for all spellings of a domain: in lower case, A-labels as what they stand for."""
    labels = domain.lower().split(".")
    return ".".join(_u_label(label) if label.startswith("xn--") else label for label in labels)


def _u_label(label: str) -> str:
    try:
        return label.removeprefix("xn--").encode("ascii").decode("punycode")
    except UnicodeError:
        return label


def _without_comments(value: bytes) -> bytes:
    """The value with a blank in the place of each comment, RFC 5322 §3.2.2."""
    kept, start, position = [], 0, 0
    while match := _QUOTED_OR_COMMENT.search(value, position):
        position = match.end()
        if match[0] == b"(":
            kept.append(value[start : match.start()])
            start = position = comment_end(value, match.start()) or len(value)
    return b" ".join((*kept, value[start:]))


def _shown(mailboxes: list[Mailbox]) -> str:
    """Some addresses for people."""
    text = ", ".join(map(str, mailboxes[:3]))
    return f"{text} and {len(mailboxes) - 3} more" if len(mailboxes) > 3 else text
