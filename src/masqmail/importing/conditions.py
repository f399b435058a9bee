"""The conditions of old routes: which senders and recipients they allow and deny.

Where the old program asked two questions (`allowed_mail_locals` and `allowed_return_paths`, or the domains of the LAN
and those of the route) both had to hold; the patterns here are those that fit both.
"""

from collections.abc import Callable, Iterable, Sequence

from masqmail.importing.dialect import Dialect
from masqmail.importing.document import Section
from masqmail.importing.globs import TooMany, common_pattern
from masqmail.importing.migration import Migration, Option, Options
from masqmail.settings import Pattern


class Conditions:
    """Reads the conditions of one route."""

    def __init__(self, migration: Migration, options: Options, section: Section) -> None:
        self._migration = migration
        self._options = options
        self._section = section

    def read(self, only: Sequence[str] = (), never: Sequence[str] = ()) -> None:
        """Takes them over. `only` are recipients that the route is for, whatever it says, `never` those it is not."""
        locals_ = self._patterns("allowed_mail_locals", self._exact)
        paths = self._patterns("allowed_return_paths", self._path)
        senders = self._patterns("allowed_senders", self._address)
        self._allow("senders", [locals_, paths, senders])
        denied = [self._patterns(name, self._exact) for name in ("not_allowed_mail_locals",)]
        denied += [self._patterns(name, self._path) for name in ("not_allowed_return_paths",)]
        denied += [self._patterns("denied_senders", self._address)]
        self._deny("not_senders", denied)
        domains = self._patterns("allowed_rcpt_domains", self._domain)
        recipients = self._patterns("allowed_recipients", self._address)
        self._allow("recipients", [list(only) or None, domains, recipients])
        denied = [self._patterns("not_allowed_rcpt_domains", self._domain)]
        denied += [self._patterns("denied_recipients", self._address), list(never)]
        self._deny("not_recipients", denied)
        originators = self._patterns("allowed_from_hdrs", self._address)
        self._allow("from_headers", [originators])
        not_originators = self._patterns("denied_from_hdrs", self._address)
        self._deny("not_from_headers", [not_originators])

    def _allow(self, key: str, lists: Iterable[list[str] | None]) -> None:
        """What fits all the lists that there are; the route is left out when nothing does."""
        found: list[str] | None = None
        for patterns in lists:
            if patterns is None:
                continue
            found = patterns if found is None else self._both(found, patterns)
        if found is None:
            return
        if not found:
            self._section.disabled = f"nothing fits its conditions for {key.replace('_', ' ')}, so it was never taken"
        else:
            self._section[key] = found

    def _both(self, first: list[str], second: list[str]) -> list[str]:
        try:
            found = [pattern for one in first for other in second for pattern in common_pattern(one, other)]
        except TooMany:
            self._section.disabled = "its conditions are too many to be written as one list of patterns"
            return first
        return list(dict.fromkeys(found))

    def _deny(self, key: str, lists: Iterable[list[str] | None]) -> None:
        if found := list(dict.fromkeys(pattern for patterns in lists for pattern in patterns or ())):
            self._section[key] = found

    def _patterns(self, name: str, convert: Callable[[str, Option], Iterable[str]]) -> list[str] | None:
        """A list's patterns; None when the setting is not there or empty, which allows everything."""
        option = self._options.take(name)
        items = self._migration.items(option)
        if option is None or not items:
            if option is not None:
                self._migration.lose(self._section, option, "an empty list asks for nothing")
            return None
        if name == "allowed_from_hdrs":
            self._migration.changed(option, "a message without From was let through, and is not any more")
        patterns = [pattern for item in items for pattern in convert(item, option)]
        return self._migration.good(self._section, Pattern, patterns, option)

    def _exact(self, item: str, option: Option) -> Iterable[str]:
        """A local part without globs, in any domain."""
        if "*" in item or "?" in item:
            self._migration.changed(option, f'"{item}" was no glob, but is one here')
        return (item,)

    def _domain(self, item: str, option: Option) -> Iterable[str]:
        return tuple(f"*@{domain}" for domain in self._migration.spread(item, option))

    def _address(self, item: str, option: Option) -> Iterable[str]:
        if item == "<>" and self._migration.dialect is Dialect.V10 and "sender" in option.name:
            self._migration.changed(option, 'in 1.0.0 the item "<>" never matched; here it is the null sender')
        return self._migration.spread(item if item == "<>" else item.removeprefix("<").removesuffix(">"), option)

    def _path(self, item: str, option: Option) -> Iterable[str]:
        """An address glob of the old kind, whose domain never was one."""
        text = item if item == "<>" else item.removeprefix("<").removesuffix(">")
        local, at, domain = text.rpartition("@")
        if at and any(char in domain for char in "*?["):
            self._migration.changed(option, f'"{item}" never matched, as its domain is a glob; here it does')
        elif not at and text != "<>":
            self._migration.changed(
                option, f'"{local or text}" without a domain crashed the old program; here it is any domain'
            )
        return self._migration.spread(text, option)
