"""Rewriting of local addresses on a route: the reverse-path and four kinds of header fields.

A route may show the outside other addresses than the ones that hold here. Only addresses of local domains and
bare ones change, not `local_addresses`, which the outside knows as they are; the null reverse-path never does.
In a header field only the bytes of the address itself are replaced, and the message's own display name stays;
a configured name is used where the message has none. Every other byte is as it was.
"""

from functools import lru_cache

from masqmail.frozen import frozen
from masqmail.mail.address import AddressError, Mailbox, parse_mailbox, show_path
from masqmail.mail.addresslist import ListedMailbox, parse_address_list, phrase_text
from masqmail.mail.header import Field, join_fields, split_fields
from masqmail.mail.submission import from_value
from masqmail.routing.local import LocalDomains
from masqmail.routing.pattern import glob
from masqmail.routing.route import AddressMap, Rewriting


@frozen
class RewriteValue:
    """What a key of a map leads to. No local-part keeps the address's own (`*@domain`); the name may be empty."""

    domain: str
    local_part: str | None = None
    name: str = ""

    def apply(self, mailbox: Mailbox) -> Mailbox:
        return Mailbox(mailbox.local_part if self.local_part is None else self.local_part, self.domain)


@frozen
class Change:
    """One address that a route changes, for people. `field` is the name of the map in the configuration.

    Where the configured name is added, it stands in `after`: "Bob <bob@isp.example>".
    """

    field: str
    before: str
    after: str


@lru_cache(1024)
def parse_rewrite_value(text: str) -> RewriteValue:
    """Reads `user@domain`, `*@domain` or `Name <user@domain>`. Raises `ValueError` with what to write instead."""
    name, _, address = text[:-1].rpartition("<") if text.endswith(">") else ("", "", text)
    try:
        mailbox = parse_mailbox(address)
    except AddressError as error:
        forms = "`user@domain`, `*@domain` or `Name <user@domain>`"
        raise ValueError(f"{text!r} is not one address ({error}); write {forms}") from None
    if not mailbox.domain:
        raise ValueError(f"{text!r} has no domain; the outside knows addresses with one only")
    if "*" in mailbox.local_part and mailbox.local_part != "*":
        raise ValueError(f"{text!r}: a `*` stands alone before the @, for the local-part as it is")
    local_part = None if mailbox.local_part == "*" else mailbox.local_part
    return RewriteValue(mailbox.domain, local_part, phrase_text(name.encode()))


def rewrite_path(reverse_path: Mailbox | None, rewriting: Rewriting, local: LocalDomains) -> Mailbox | None:
    """The reverse-path as the route shows it; the null reverse-path stays null, RFC 5321 §4.5.5."""
    if reverse_path is None:
        return None
    value = _look_up(reverse_path, rewriting.return_path + rewriting.all, local)
    return value.apply(reverse_path) if value else reverse_path


def rewrite_header(header: bytes, rewriting: Rewriting, local: LocalDomains) -> bytes:
    """The header section as the route shows it: the very same object when nothing changes."""
    maps = _field_maps(rewriting)
    if not any(map_ for _, map_ in maps.values()):
        return header
    fields = split_fields(header)
    rewritten = [_rewrite_field(field, maps, local)[0] for field in fields]
    return header if rewritten == fields else join_fields(rewritten)


def changes(reverse_path: Mailbox | None, header: bytes, rewriting: Rewriting, local: LocalDomains) -> list[Change]:
    """Everything a route changes in a message, for people."""
    found = []
    path = rewrite_path(reverse_path, rewriting, local)
    if path != reverse_path:
        found.append(Change("return_path", show_path(reverse_path), show_path(path)))
    maps = _field_maps(rewriting)
    for field in split_fields(header):
        found += _rewrite_field(field, maps, local)[1]
    return found


def _field_maps(rewriting: Rewriting) -> dict[str, tuple[str, AddressMap]]:
    """For each header field we may change: the setting's name and its map, with `all` behind it."""
    return {
        "from": ("from", rewriting.from_ + rewriting.all),
        "sender": ("sender", rewriting.sender + rewriting.all),
        "reply-to": ("reply_to", rewriting.reply_to + rewriting.all),
        "mail-followup-to": ("mail_followup_to", rewriting.mail_followup_to + rewriting.all),
    }


def _rewrite_field(
    field: Field, maps: dict[str, tuple[str, AddressMap]], local: LocalDomains
) -> tuple[Field, list[Change]]:
    """The field with its local addresses replaced; what cannot be parsed in it stays."""
    setting, address_map = maps.get(field.name, ("", ()))
    if not address_map:
        return field, []
    found = []
    pieces = []
    position = 0
    for listed in parse_address_list(field.raw, field.value_start).listed:
        value = _look_up(listed.mailbox, address_map, local)
        after = value.apply(listed.mailbox) if value else listed.mailbox
        if value is None or (after == listed.mailbox and not _takes_name(listed, value)):
            continue
        start, replacement = _replacement(listed, after, value)
        pieces += [field.raw[position:start], replacement.encode()]
        position = listed.spec.end
        shown = f"{value.name} <{after}>" if _takes_name(listed, value) else str(after)
        found.append(Change(setting, str(listed.mailbox), shown))
    return (Field(field.name, b"".join((*pieces, field.raw[position:]))), found) if found else (field, [])


def _replacement(listed: ListedMailbox, after: Mailbox, value: RewriteValue) -> tuple[int, str]:
    """Where the replacement begins, and its text; it goes up to the end of the old address."""
    if not _takes_name(listed, value):
        return listed.spec.start, str(after)
    named = from_value(after, value.name)
    if listed.angle is None:
        return listed.spec.start, named
    return listed.angle, named.removesuffix(">")  # the closing bracket is there already


def _takes_name(listed: ListedMailbox, value: RewriteValue) -> bool:
    """Whether the configured name is used: the message has none, neither before the address nor in a comment."""
    return bool(value.name) and listed.name is None and not listed.has_comment


def _look_up(mailbox: Mailbox, address_map: AddressMap, local: LocalDomains) -> RewriteValue | None:
    """The value of the first key that matches a local mailbox; addresses of others are not ours to change."""
    if not address_map or not local.is_rewritable(mailbox):
        return None
    name = mailbox.local_part if local.match_case else mailbox.local_part.lower()
    for key, value in address_map:
        if glob(key if local.match_case else key.lower())(name):
            return parse_rewrite_value(value)
    return None
