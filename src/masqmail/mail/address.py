"""Mailboxes as the envelope writes them: RFC 5321 §4.1.2, with UTF-8 per RFC 6531 §3.3."""

import re

from masqmail.frozen import frozen

MAX_LOCAL_PART_BYTES = 64  # RFC 5321 §4.5.3.1.1
MAX_DOMAIN_BYTES = 255  # RFC 5321 §4.5.3.1.2
MAX_PATH_BYTES = 256  # RFC 5321 §4.5.3.1.3, with the brackets

# Sets of what may not stand there take a hundredth of the time to compile; all above ASCII may (RFC 6531 §3.3).
_ATOM = r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f]+'
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_QUOTED = re.compile(r'"((?:[^\x00-\x1f"\\\x7f]|\\[\x20-\x7e])*)"')
_LABEL = r"[^\x00-/:-@\[-`{-\x7f](?:[^\x00-,./:-@\[-^`{-\x7f]*[^\x00-/:-@\[-`{-\x7f])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# RFC 5321 §4.1.3; what the brackets hold is judged by whoever connects to it
_LITERAL = re.compile(
    r"\[(?:\d{1,3}(?:\.\d{1,3}){3}|IPv6:[0-9A-Fa-f:.]{2,45}|[A-Za-z0-9-]*[A-Za-z0-9]:[!-Z^-~]+)\]", re.ASCII
)


class AddressError(ValueError):
    """Text that is no mailbox; the message says what is wrong with it."""


@frozen
class Mailbox:
    """A local-part and a domain; the domain is empty for a bare local-part such as `postmaster`.

    `local_part` is without quotes and escapes; `str()` puts back what is needed. The domain keeps the
    spelling it came in; compare with `domain_key`, which is folded. Made by `parse_mailbox` from text of
    others, directly from parts that are known to be good.
    """

    local_part: str
    domain: str = ""

    @property
    def domain_key(self) -> str:
        """The domain in lower case: domains are compared without case, RFC 5321 §2.4."""
        return self.domain.lower()

    @property
    def needs_smtputf8(self) -> bool:
        """Whether the mailbox can only be written where SMTPUTF8 is offered (RFC 6531 §3.3)."""
        return not (self.local_part.isascii() and self.domain.isascii())

    def with_domain(self, domain: str) -> "Mailbox":
        """The same local-part elsewhere."""
        return Mailbox(self.local_part, domain)

    def __str__(self) -> str:
        local_part = self.local_part
        if not (local_part.isalnum() or _DOT_STRING.fullmatch(local_part)):
            escaped = local_part.replace("\\", "\\\\").replace('"', '\\"')
            local_part = f'"{escaped}"'
        return f"{local_part}@{self.domain}" if self.domain else local_part


def show_path(mailbox: Mailbox | None) -> str:
    """A reverse-path for people and JSON: the address, or `<>` for the null reverse-path."""
    return "<>" if mailbox is None else str(mailbox)


def address_literal(address: str) -> str:
    """An IP address as it stands in the place of a domain, RFC 5321 §4.1.3."""
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def parse_mailbox(text: str) -> Mailbox:
    """Reads `local-part@domain` or a bare local-part, without angle brackets.

    Strict: no comments, no white space, no source route. Raises `AddressError` with what is wrong.
    """
    mailbox, end = scan_mailbox(text, 0)
    if end != len(text):
        raise AddressError(f"{text[end]!r} cannot stand at this place in {text!r}")
    return mailbox


def scan_mailbox(text: str, start: int) -> tuple[Mailbox, int]:
    """Reads a mailbox that begins at `start` and returns it with the index behind it.

    Raises `AddressError` when none begins there or one of its parts is too long (RFC 5321 §4.5.3.1).
    """
    if match := _QUOTED.match(text, start):
        local_part = re.sub(r"\\(.)", r"\1", match[1])
    elif match := _DOT_STRING.match(text, start):
        local_part = match[0]
    else:
        raise AddressError(f"no local-part in {text[start:]!r}" if text[start:] else "the address is empty")
    if _size_bytes(local_part) > MAX_LOCAL_PART_BYTES:
        raise AddressError(f"the local-part is longer than {MAX_LOCAL_PART_BYTES} bytes")
    end = match.end()
    if not text.startswith("@", end):
        return Mailbox(local_part), end
    domain = _LITERAL.match(text, end + 1) or _DOMAIN.match(text, end + 1)
    if domain is None:
        raise AddressError(f"no valid domain after the @ in {text[start:]!r}")
    if _size_bytes(domain[0]) > MAX_DOMAIN_BYTES:
        raise AddressError(f"the domain is longer than {MAX_DOMAIN_BYTES} bytes")
    return Mailbox(local_part, domain[0]), domain.end()


def _size_bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:  # a surrogate stands for an octet that is no UTF-8
        raise AddressError(f"{text!r} is no UTF-8") from None
