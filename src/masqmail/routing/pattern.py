"""Patterns over addresses: globs with `*` (any run of characters) and `?` (any one), nothing else.

| pattern          | matches                                                                   |
|------------------|---------------------------------------------------------------------------|
| `*`              | everything, the null reverse-path too: bounces are let through             |
| `<>`             | the null reverse-path alone                                                |
| `root`           | this local-part in any domain                                              |
| `*@home.example` | this domain; never the null reverse-path                                   |
| `*@*`            | every mailbox; never the null reverse-path                                 |

Domains are compared without case, RFC 5321 §2.4; local-parts with case, unless the caller says otherwise.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from masqmail.mail.address import Mailbox
from masqmail.settings import Pattern

EVERYTHING = Pattern("*")
NULL = Pattern("<>")

_CACHED = 4096


def matches(pattern: Pattern, mailbox: Mailbox | None, *, match_case: bool = True) -> bool:
    """Whether a mailbox, or None for the null reverse-path, is one the pattern means."""
    if mailbox is None or pattern == NULL:
        return mailbox is None and pattern in (NULL, EVERYTHING)
    return _test_of(pattern, match_case)(mailbox)


def first_match(patterns: Iterable[Pattern], mailbox: Mailbox | None, *, match_case: bool = True) -> Pattern | None:
    """The first of these patterns that matches."""
    for pattern in patterns:
        if matches(pattern, mailbox, match_case=match_case):
            return pattern
    return None


def is_about_domains(patterns: Iterable[Pattern]) -> bool:
    """Whether none of these patterns tells two mailboxes of a domain apart."""
    return all(pattern == NULL or _halves(pattern)[0] == "*" for pattern in patterns)


def name_domain(patterns: Iterable[Pattern], domain: str) -> bool:
    """Whether one of these patterns is about this domain, and not about any."""
    halves = (_halves(pattern)[1].lower() for pattern in patterns if pattern != NULL)
    return any(half.strip("*?.") and glob(half)(domain.lower()) for half in halves)


def check_pattern(text: str) -> Pattern:
    """The text as a pattern. Raises `ValueError` with what is wrong when it could never match."""
    if text != NULL:
        if not text:
            raise ValueError("a pattern is not empty; `<>` is the null sender")
        if any(character.isspace() or character in "<>" for character in text):
            raise ValueError(f"{text!r} is no pattern: write the bare address, without blanks and brackets")
        local_part, domain = _halves(Pattern(text))
        if not local_part or not domain:
            raise ValueError(f"{text!r} is no pattern: one side of the @ is empty; write `*` for anything")
    return Pattern(text)


@lru_cache(_CACHED)
def _test_of(pattern: Pattern, match_case: bool) -> Callable[[Mailbox], bool]:
    """What a pattern asks of a mailbox; a half that is `*` asks nothing."""
    local_part, domain = _halves(pattern)
    fits_local_part = glob(local_part if match_case else local_part.lower())
    fits_domain = glob(domain.lower())

    def test(mailbox: Mailbox) -> bool:
        if domain != "*" and not fits_domain(mailbox.domain_key):
            return False
        if local_part == "*":
            return True
        return bool(fits_local_part(mailbox.local_part if match_case else mailbox.local_part.lower()))

    return test


@lru_cache(_CACHED)
def glob(text: str) -> Callable[[str], object]:
    """A test for whole strings that is true where the glob matches. Takes linear time per part of the glob."""
    head, *parts = text.split("*")
    if not parts:
        return text.__eq__ if "?" not in text else re.compile(_literal(text), re.DOTALL).fullmatch
    *middle, tail = parts
    # The leftmost place is right for each part, so a group never has to be tried again: it is atomic.
    inner = "".join(f"(?>.*?{_literal(part)})" for part in middle if part)
    return re.compile(f"{_literal(head)}{inner}.*{_literal(tail)}", re.DOTALL).fullmatch


def _literal(text: str) -> str:
    """A part without stars as a regular expression."""
    return re.escape(text).replace(r"\?", ".")


@lru_cache(_CACHED)
def _halves(pattern: Pattern) -> tuple[str, str]:
    """The globs of local-part and domain; without an `@` the local-part in any domain."""
    local_part, at, domain = pattern.rpartition("@")
    return (local_part, domain) if at else (pattern, "*")
