"""The route lists of an old configuration as one list: those of the LAN, permanent ones, those of connections.

In the old program recipients in `local_nets` took the routes of the LAN and no others, so all others leave them out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from masqmail.importing.accounts import Accounts
from masqmail.importing.document import Section
from masqmail.importing.links import Links
from masqmail.importing.migration import Migration, Option, Options, free_name, good_name
from masqmail.importing.oldfile import base_name, options_of
from masqmail.importing.report import Weight
from masqmail.importing.routefile import RouteFile
from masqmail.routing.link import ALWAYS
from masqmail.routing.route import LOCAL_ROUTE
from masqmail.settings import Pattern

LISTS = ("online_routes.", "connect_route.", "query_routes.")
_BUILT_IN = "lan"


@dataclass(slots=True)
class Planned:
    """One route to be: its file, the setting that named it, its links, and whether it is for the LAN's domains."""

    path: str
    option: Option
    links: list[str] = field(default_factory=list)
    is_lan: bool = False


class Routes:
    """Reads all routes, in the order in which the old program would have tried them."""

    def __init__(
        self, migration: Migration, options: Options, links: Links, accounts: Accounts, default_port: int
    ) -> None:
        self._migration = migration
        self._options = options
        self._links = links
        self._accounts = accounts
        self._default_port = default_port
        self._names = {LOCAL_ROUTE}

    def read(self) -> None:
        nets = self._options.take("local_nets")
        lan: list[str] = []
        if nets:
            items = self._migration.items(nets)
            patterns = [f"*@{domain}" for item in items for domain in self._migration.spread(item, nets)]
            lan = self._migration.good(self._notes, Pattern, patterns, nets)
        planned = self._always("local_net_route", is_lan=True)
        if nets and lan and not planned:
            self._built_in(lan)
            self._migration.changed(nets, "the built-in route for the LAN stands in the file now")
        elif planned and not lan:
            self._migration.wrong(self._notes, planned[0].option, "there are no local_nets, so it was never used")
            planned = []
        planned += self._always("permanent_routes", is_lan=False)
        always = {plan.path for plan in planned}
        for plan in self._online():
            if plan.path in always:
                self._migration.changed(
                    plan.option, f"{plan.path} is a route without a link already, and is tried once"
                )
            else:
                planned.append(plan)
        for plan in planned:
            self._route(plan, lan)
        if not self._migration.document.names("routes"):
            self._migration.report.add(Weight.CHECK, "there is no route, so mail for other hosts waits for ever")

    @property
    def _notes(self) -> Section:
        return self._migration.document.section("routes")

    def _always(self, name: str, *, is_lan: bool) -> list[Planned]:
        option = self._options.take(name)
        paths = self._migration.items(option, include=False)
        return [Planned(path, option, [ALWAYS], is_lan) for path in paths if option]

    def _online(self) -> list[Planned]:
        """The lists of all connections as one, in which each of them keeps its order."""
        lists: dict[str, list[tuple[str, Option]]] = {}
        for option in self._options.take_all(LISTS):
            connection = option.name.partition(".")[2]
            if connection in lists:
                self._migration.changed(
                    option, "only the first list of a connection counted; this one is added to it"
                )
            entries = lists.setdefault(connection, [])
            entries += [(path, option) for path in self._migration.items(option, include=False)]
        merged: list[Planned] = []
        for connection, entries in lists.items():
            if entries:
                merge(merged, entries, self._links.name_of(connection, entries[0][1]))
        return merged

    def _built_in(self, lan: Sequence[str]) -> None:
        """What the old program did for the LAN without a route file."""
        name = self._name(_BUILT_IN)
        section = self._migration.document.section("routes", name)
        section["links"] = [ALWAYS]
        section["deliver"] = "direct"
        section["resolve"] = ["hosts"]
        section["pipelining"] = False
        section["bounce_on_connect_error"] = True
        section["recipients"] = list(lan)

    def _route(self, plan: Planned, lan: Sequence[str]) -> None:
        text = self._migration.files.read(plan.path)
        if text is None:
            self._migration.wrong(self._notes, plan.option, f"{plan.path} cannot be read")
            return
        name = self._name(base_name(plan.path))
        options = options_of(self._migration, plan.path, text)
        route = RouteFile(self._migration, options, name, self._default_port)
        pop_login = route.pop_login()
        only, never = (lan, ()) if plan.is_lan else ((), lan)
        route.read(plan.links, only, never, is_lan=plan.is_lan)
        if pop_login:
            self._log_in_first(self._migration.document.section("routes", name), pop_login)

    def _log_in_first(self, section: Section, option: Option) -> None:
        account = self._accounts.name_of(option.value, option)
        if account and "deliver" in section:
            self._migration.lose(section, option, "nobody asks for a login where mail is delivered directly")
        elif account:
            section["pop_before_smtp"] = account
            self._migration.check(
                option, "hardly a provider wants POP before SMTP any more; a login to the smarthost is better"
            )

    def _name(self, wanted: str) -> str:
        name = good_name(free_name(wanted, self._names.__contains__))
        self._names.add(name)
        return name


def merge(merged: list[Planned], entries: Sequence[tuple[str, Option]], link: str) -> None:
    """Adds the routes of a link to those there are; one whose place would break the order comes a second time."""
    position = -1
    for index, (path, option) in enumerate(entries):
        behind = {plan.path: place for place, plan in enumerate(merged) if place > position}
        if path in behind:
            position = behind[path]
            merged[position].links.append(link)
            continue
        later = [behind[other] for other, _ in entries[index + 1 :] if other in behind]
        position = min(later) if later else len(merged)
        merged.insert(position, Planned(path, option, [link]))
