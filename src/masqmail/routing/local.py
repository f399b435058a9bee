"""Which addresses are delivered on this host, and which user is meant by one."""

from collections.abc import Callable
from dataclasses import field
from functools import lru_cache

from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox
from masqmail.routing.pattern import first_match, glob
from masqmail.settings import Pattern

POSTMASTER = "postmaster"
_REMEMBERED = 1024  # domains


@frozen
class LocalDomains:
    """The local domains (globs), and the addresses that are an exception to them (patterns).

    `recipient_delimiter` separates a user's name from a detail (`john+lists`); empty for none. `match_case`
    is about local-parts; domains have no case.
    """

    host_name: str
    domains: tuple[str, ...]
    local_addresses: tuple[Pattern, ...] = ()
    not_local_addresses: tuple[Pattern, ...] = ()
    recipient_delimiter: str = ""
    match_case: bool = False

    _names: frozenset[str] = field(init=False, repr=False, compare=False)  # the local domains without stars
    _globs: tuple[Callable[[str], object], ...] = field(init=False, repr=False, compare=False)  # the others
    _has: Callable[[str], bool] = field(init=False, repr=False, compare=False)  # `_fits`, remembered

    def __post_init__(self) -> None:
        domains = [domain.lower() for domain in self.domains]
        names = frozenset(domain for domain in domains if not set(domain) & {"*", "?"})
        object.__setattr__(self, "_names", names)
        object.__setattr__(self, "_globs", tuple(glob(domain) for domain in domains if domain not in names))
        object.__setattr__(self, "_has", lru_cache(_REMEMBERED)(self._fits))

    def qualify(self, mailbox: Mailbox) -> Mailbox:
        """The mailbox with a domain: a bare local-part gets the name of this host."""
        return mailbox if mailbox.domain else mailbox.with_domain(self.host_name)

    def is_local(self, mailbox: Mailbox) -> bool:
        """Whether the mailbox is on this host. Bare local-parts are; an address named as not local never is."""
        if self.not_local_addresses and self._is_among(self.not_local_addresses, mailbox):
            return False
        if not mailbox.domain or self._has(mailbox.domain):
            return True
        return bool(self.local_addresses) and self._is_among(self.local_addresses, mailbox)

    def is_rewritable(self, mailbox: Mailbox) -> bool:
        """Whether routes may show another address instead: it is of this host by its domain, or bare.

        One of `local_addresses` is not, since the outside knows it as it is.
        """
        return self.is_local(mailbox) and (not mailbox.domain or self._has(mailbox.domain))

    def is_postmaster(self, mailbox: Mailbox) -> bool:
        """Whether this is the postmaster of this host, who must always be reached: RFC 5321 §4.5.1."""
        return mailbox.local_part.lower() == POSTMASTER and self.is_local(mailbox)

    def names_of(self, mailbox: Mailbox) -> tuple[str, ...]:
        """The names a local mailbox may go by, the most exact first: whole, then without its detail."""
        whole = mailbox.local_part
        has_detail = self.recipient_delimiter and self.recipient_delimiter in whole
        if not has_detail and (self.match_case or whole == whole.lower()):
            return (whole,)  # as nearly always
        names = [whole]
        if has_detail:
            user = whole.partition(self.recipient_delimiter)[0]
            if user:
                names.append(user)
        if not self.match_case:
            names = [spelling for name in names for spelling in (name, name.lower())]
        return tuple(dict.fromkeys(names))

    def user_of(self, mailbox: Mailbox, is_user: Callable[[str], bool]) -> str | None:
        """The user whose mailbox this is, or None when there is no such user."""
        return next((name for name in self.names_of(mailbox) if is_user(name)), None)

    def _fits(self, domain: str) -> bool:
        """Whether a domain, however it is spelt, is a local one."""
        domain = domain.lower()
        return domain in self._names or any(fits(domain) for fits in self._globs)

    def _is_among(self, patterns: tuple[Pattern, ...], mailbox: Mailbox) -> bool:
        """Whether one of these patterns means the mailbox, with our name where it has no domain."""
        return first_match(patterns, self.qualify(mailbox), match_case=self.match_case) is not None


def detail_of(local_part: str, user: str, delimiter: str) -> str:
    """What stands behind the user's name in a local-part, with its delimiter; empty when it is another name."""
    if not delimiter:
        return ""
    name, found, detail = local_part.partition(delimiter)
    return f"{found}{detail}" if name.lower() == user.lower() else ""
