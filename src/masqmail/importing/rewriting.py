"""The address maps of old routes as [routes.NAME.rewrite].

Up to 0.3.5 keys matched the local part in any domain, and the null sender too; here only local addresses change.
"""

from collections.abc import Mapping

from masqmail.config.values import KINDS, BadValue
from masqmail.importing.dialect import Dialect
from masqmail.importing.document import Section
from masqmail.importing.migration import Migration, Option, Options
from masqmail.importing.report import Weight
from masqmail.importing.values import BadOldValue, split_pair
from masqmail.routing.route import AddressMap

#: Our key, the old map and, up to 0.3.5, the old domain for all that the map does not name.
_MAPS = (
    ("return_path", "map_return_path_addresses", "set_return_path_domain"),
    ("from", "map_h_from_addresses", "set_h_from_domain"),
    ("reply_to", "map_h_reply_to_addresses", "set_h_reply_to_domain"),
    ("mail_followup_to", "map_h_mail_followup_to_addresses", ""),
    ("sender", "map_h_sender_addresses", ""),
    ("all", "map_outgoing_addresses", ""),
)
#: They do nothing on pipe routes.
NAMES = (
    *(name for _, *names in _MAPS for name in names if name),
    "expand_h_sender_domain",
    "expand_h_sender_address",
)

_SENDER = "Sender was set to the envelope sender on every route; now it stays as it was written"


class Rewriting:
    """Reads the rewriting of one route."""

    def __init__(self, migration: Migration, options: Options, route: Section) -> None:
        self._migration = migration
        self._options = options
        self._section = migration.document.section(*route.path, "rewrite")
        self._found: list[Option] = []

    def read(self) -> None:
        for key, map_name, domain_name in _MAPS:
            option = self._options.take(map_name)
            domain = self._options.take(domain_name) if domain_name else None
            if entries := self._entries(key, option, domain):
                self._section[key] = entries
        self._sender()
        if self._found and self._migration.dialect.is_old:
            self._migration.changed(
                self._found[0],
                "the keys matched any domain and the null sender; now only local addresses are rewritten",
            )

    def _entries(self, key: str, option: Option | None, domain: Option | None) -> dict[str, str]:
        found: dict[str, str] = {}
        self._found += [setting for setting in (option, domain) if setting]
        for item in self._migration.items(option, is_map=True):
            assert option is not None
            for pattern, value in self._pair(key, item, option, domain):
                found.setdefault(pattern, value)
        if domain is None:
            return found
        if found and key != "return_path":
            self._migration.lose(self._section, domain, f"{option.name if option else 'the map'} is used instead")
        elif self._is_good("*", f"*@{domain.value}"):
            found.setdefault("*", f"*@{domain.value}")
        else:
            self._migration.wrong(self._section, domain, "no domain")
        return found

    def _pair(self, key: str, item: str, option: Option, domain: Option | None) -> list[tuple[str, str]]:
        """One item of a map, as one or more of ours."""
        try:
            glob, value = split_pair(item)
        except BadOldValue as error:
            self._migration.wrong(self._section, option, str(error))
            return []
        if "@" in glob:
            self._migration.changed(
                option, f'the key "{glob}" has a domain, and never matched; its local part is used'
            )
            glob = glob.partition("@")[0] or "*"
        patterns = self._migration.spread(glob, option)
        address = self._address(key, value, option, domain)
        if all(self._is_good(pattern, address) for pattern in patterns):
            return [(pattern, address) for pattern in patterns]
        self._migration.wrong(self._section, option, f'"{item}" is no local part with an address')
        return []

    def _address(self, key: str, value: str, option: Option, domain: Option | None) -> str:
        """The new address with a domain, and with a name only where there can be one."""
        name, _, address = value[:-1].rpartition("<") if value.endswith(">") else ("", "", value)
        address = address.strip()
        if "@" not in address:
            added = domain.value if domain else self._migration.host_name or "localhost"
            self._migration.check(option, f'"{address}" had no domain, and got "{added}"')
            address = f"{address}@{added}"
        if key == "return_path" or not name.strip():
            return address
        if self._migration.dialect.is_old:
            self._migration.changed(
                option, "the name in the map took the place of the message's own, which stays now"
            )
        return f"{name.strip()} <{address}>"

    def _sender(self) -> None:
        """Sender followed the envelope sender up to 0.3.5, unless that was switched off."""
        by_address = self._options.take("expand_h_sender_address")
        by_domain = self._options.take("expand_h_sender_domain")
        is_on = self._migration.flag(by_address, self._section, default=self._migration.dialect.is_old)
        if by_domain and not is_on and self._migration.flag(by_domain, self._section):
            is_on = True
            self._migration.changed(by_domain, "Sender is rewritten like the envelope sender")
        elif by_domain:
            self._migration.lose(self._section, by_domain, "it did nothing beside expand_h_sender_address, or is off")
        if not is_on:
            if by_address:
                self._migration.report.add(Weight.KNOWN, "that is how it is here", str(by_address), by_address.place)
            return
        if "return_path" in self._section and "sender" not in self._section:
            self._section["sender"] = self._section["return_path"]
            self._section.comment("Sender is rewritten like the return path, as the old program did by itself")
        if by_address:
            self._migration.changed(by_address, _SENDER + ", or is rewritten like the return path")
        elif self._migration.dialect is not Dialect.V10:
            self._migration.report.add(
                Weight.CHANGED, _SENDER + ", or is rewritten like the return path", "expand_h_sender_address"
            )

    @staticmethod
    def _is_good(glob: str, address: str) -> bool:
        entries: Mapping[str, str] = {glob: address}
        try:
            KINDS[AddressMap].read(dict(entries))
        except BadValue:
            return False
        return True
