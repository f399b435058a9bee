"""What could be sent now: today's rules held against the links and pauses of this moment."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from masqmail.daemon.pauses import Pause, Pauses
from masqmail.daemon.rules import Rules
from masqmail.links.board import LinkBoard
from masqmail.routing.decide import Choice, choose, is_usable
from masqmail.routing.link import LinkState, Verdict
from masqmail.routing.route import LOCAL_ROUTE, Route, RouteClass, line_of


class Outlook:
    """Answers by class and by route; keeps the links that somebody wants taken as up, and who fetches his mail."""

    def __init__(self, rules: Rules, links: LinkBoard, pauses: Pauses) -> None:
        self.rules = rules
        self._links = links
        self._pauses = pauses
        self._assumed_up: Counter[str] = Counter()
        self._lines: dict[str, Verdict] = {}

    def assume_up(self, link: str) -> None:
        """Takes a link as up until `assume_no_more` was called as often."""
        self._assumed_up[link] += 1

    def assume_no_more(self, link: str) -> None:
        self._assumed_up[link] -= 1

    def open_line(self, user: str, now: datetime) -> None:
        """From now on a user fetches his mail."""
        line = line_of(user)
        self._lines[line] = Verdict(line, LinkState.UP, f"{user} is fetching it", now)

    def close_line(self, user: str) -> None:
        self._lines.pop(line_of(user), None)

    def close_lines(self) -> None:
        """Nobody gets more than he has been given already."""
        self._lines.clear()

    def choice(self, route_class: RouteClass) -> Choice:
        """Which route a class would take now, and why not the others."""
        return choose(route_class, self.rules.by_name, self._verdicts(), self.paused_routes())

    def is_open(self, route_name: str) -> bool:
        """Whether a route could be used now: a link of it is up and it is not paused."""
        return self.choice(RouteClass((route_name,))).route is not None

    def has_link(self, route: Route) -> bool:
        """Whether a link of the route is up, paused or not."""
        verdicts = self._verdicts()
        return any(name in verdicts and verdicts[name].is_up for name in route.links)

    def paused_routes(self) -> dict[str, str]:
        """The reason for each route all of whose next hops are left alone now."""
        return {name: pause.reason for name, pause in self._pauses_by_route()}

    def next_try(self, route_class: RouteClass) -> datetime | None:
        """When the first pause ends that keeps a class waiting: of a route with a link, not yet tried in this run."""
        remaining = {name for name in route_class.remaining() if self._has_link_by_name(name)}
        ends = [self._pauses.ends_at(pause) for name, pause in self._pauses_by_route() if name in remaining]
        return min(ends, default=None)

    def _has_link_by_name(self, name: str) -> bool:
        route = self.rules.route(name)
        return route is not None and self.has_link(route)

    def _pauses_by_route(self) -> Iterator[tuple[str, Pause]]:
        for route in self.rules.routes:
            if pause := self._pauses.of_route(route.name, self.rules.next_hop_names(route)):
                yield route.name, pause

    def by_route(self, classes: Iterable[RouteClass]) -> dict[str, list[RouteClass]]:
        """For each route that can be used now, the classes whose choice it is."""
        links, paused = self._verdicts(), self.paused_routes()
        found: dict[str, list[RouteClass]] = {}
        for route_class in classes:
            if not self._is_current(route_class):
                continue
            if route_class.is_local:
                found.setdefault(LOCAL_ROUTE, []).append(route_class)
            else:
                choice = choose(route_class, self.rules.by_name, links, paused)
                if choice.route is not None:
                    found.setdefault(choice.route.name, []).append(route_class)
        return found

    def usable(self, classes: Iterable[RouteClass]) -> list[RouteClass]:
        """The classes for whose recipients time counts now: not while they wait for somebody to flush."""
        links, paused = self._verdicts(), self.paused_routes()
        return [
            item for item in classes if self._is_current(item) and is_usable(item, self.rules.by_name, links, paused)
        ]

    def with_ended_runs(self, classes: Iterable[RouteClass]) -> list[RouteClass]:
        """The classes that have used a route in this run and can use none of the others now."""
        return [item for item in classes if item.tried and self._is_current(item) and self.choice(item).route is None]

    def _is_current(self, route_class: RouteClass) -> bool:
        """Whether a class is one of today's rules and nothing else holds it back."""
        is_of_today = route_class.is_local or route_class.generation == self.rules.generation
        return is_of_today and not route_class.mark

    def _verdicts(self) -> dict[str, Verdict]:
        verdicts = {**self._links.verdicts(), **self._lines}
        for link, count in self._assumed_up.items():
            if count > 0 and link in verdicts:
                verdicts[link] = replace(verdicts[link], state=LinkState.UP, reason="taken as up for this flush")
        return verdicts
