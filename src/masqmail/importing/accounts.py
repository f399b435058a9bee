"""The fetch accounts of an old configuration: those with names, those of connections, those a route logs in to."""

from masqmail.importing.document import Section
from masqmail.importing.getfile import GetFile
from masqmail.importing.links import Links
from masqmail.importing.migration import Migration, Option, Options, free_name, good_name
from masqmail.importing.oldfile import base_name, options_of


class Accounts:
    """Gathers the accounts, then reads their files."""

    def __init__(self, migration: Migration, options: Options, links: Links) -> None:
        self._migration = migration
        self._paths: dict[str, str] = {}  # the file of each account
        self._links: dict[str, list[str]] = {}
        self._options: dict[str, Option] = {}
        for option in options.take_all(("get.",)):
            self._add(option.name.partition(".")[2], option)
        for option in options.take_all(("online_gets.",)):
            link = links.name_of(option.name.partition(".")[2], option)
            for item in migration.items(option, include=False):
                if name := self.name_of(item, option):
                    self._links[name] = list(dict.fromkeys((*self._links.get(name, ()), link)))

    def name_of(self, item: str, option: Option) -> str:
        """The account that a name or path means; empty when there is none."""
        if not item.startswith("/"):
            if good_name(item) in self._paths:
                return good_name(item)
            self._migration.wrong(self._notes, option, f"there is no get.{item}")
            return ""
        for name, path in self._paths.items():
            if path == item:
                return name
        name = free_name(base_name(item), self._paths.__contains__)
        self._paths[name], self._options[name] = item, option
        return name

    def read(self) -> None:
        for name, path in self._paths.items():
            option = self._options[name]
            text = self._migration.files.read(path)
            if text is None:
                self._migration.wrong(self._notes, option, f"{path} cannot be read")
                continue
            links = self._links.get(name, ())
            GetFile(self._migration, options_of(self._migration, path, text), name).read(links)
            if not links:
                self._migration.changed(option, "no connection names it, so it is fetched when you say so, as before")

    @property
    def _notes(self) -> Section:
        return self._migration.document.section("fetch")

    def _add(self, text: str, option: Option) -> None:
        name = good_name(text)
        if name in self._paths:
            self._migration.changed(option, "an account of this name stands above it, and counts")
            return
        if name != text:
            self._migration.check(option, f'the account is called "{name}"')
        self._paths[name], self._options[name] = option.value, option
