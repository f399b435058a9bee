"""What a person can ask of the running daemon: see, flush, declare links; for single messages see `actions`."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio

from masqmail import __version__
from masqmail.daemon import views
from masqmail.daemon.actions import Actions
from masqmail.daemon.desk import Desk
from masqmail.daemon.directory import Directory
from masqmail.daemon.http import HttpError
from masqmail.daemon.manual import ManualLinks
from masqmail.daemon.pauses import Pauses
from masqmail.daemon.plan import plan_for
from masqmail.daemon.scheduler import Scheduler
from masqmail.links.board import LinkBoard
from masqmail.routing.link import ALWAYS, LinkState
from masqmail.routing.settle import Next
from masqmail.spool.api import Spool
from masqmail.system.clock import Clock

if TYPE_CHECKING:
    from masqmail.daemon.fetch.fetcher import Fetcher

#: How often the progress of a flush is told.
PROGRESS_SECONDS = 0.25


class Operator:
    """The verbs behind the control socket, and signals that mean the same."""

    def __init__(
        self,
        scheduler: Scheduler,
        spool: Spool,
        links: LinkBoard,
        manual: ManualLinks,
        pauses: Pauses,
        directory: Directory,
        desk: Desk,
        clock: Clock,
    ) -> None:
        self.scheduler = scheduler
        self._spool = spool
        self._links = links
        self._manual = manual
        self._pauses = pauses
        self._directory = directory
        self._desk = desk
        self.act = Actions(scheduler, spool, desk, clock).act
        self.fetcher: Fetcher | None = None  # while there are accounts to fetch
        self.fetch_accounts: Callable[[], Sequence[object]] = tuple
        self.problems: list[Callable[[], Sequence[str]]] = [directory.alias_files.problems]

    # --- see

    async def status(self) -> views.Document:
        """Links, routes and the queue, each with a reason; then whatever somebody should look after."""
        verdicts = self._links.verdicts()
        classes = await self._spool.classes()
        unrouted = sum(count for route_class, count in classes.items() if not route_class.routes)
        problems = [problem for source in self.problems for problem in source()]
        if unrouted:
            what = "recipient" if unrouted == 1 else "recipients"
            problems.append(f"no route is meant for {unrouted} {what} in the queue; see `masqmail queue`")
        return {
            "version": __version__,
            "host": self.scheduler.rules.host_name,
            "links": [views.link(verdict) for verdict in verdicts.values()],
            "routes": views.routes(self.scheduler, self._pauses, classes, verdicts.get),
            "queue": views.counts(await self._spool.counts()),
            "fetch": self.fetch_accounts(),
            "problems": problems,
        }

    def links(self) -> list[object]:
        return [views.link(verdict) for verdict in self._links.verdicts().values()]

    def explain(self, address: str, sender: str) -> views.Document:
        """The plan for an address by the verdicts of this moment. Raises `HttpError` when it is none."""
        verdicts = self._links.verdicts()
        try:
            return plan_for(address, sender, self._directory, verdicts, self.scheduler.paused_routes())
        except ValueError as error:
            raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error

    # --- links

    async def set_link(self, name: str, state: str) -> views.Document:
        """Declares a link up or down, or gives it back to its detector; remembered until the next reboot."""
        self._must_know_link(name)
        match state:
            case "up":
                await self._manual.declare(name, LinkState.UP)
            case "down" if name == ALWAYS:  # routing does not ask for its verdict
                wrong = f"the link {ALWAYS} is up, always; a route that shall wait needs another one in its links"
                raise HttpError(HTTPStatus.BAD_REQUEST, wrong)
            case "down":
                await self._manual.declare(name, LinkState.DOWN)
            case "auto":
                await self._manual.give_back(name)
            case _:
                raise HttpError(HTTPStatus.BAD_REQUEST, f"a link is declared up, down or auto, not {state!r}")
        return views.link(self._links.verdicts()[name])

    # --- fetch

    def accounts_meant(self, wanted: Sequence[str], *, link: str, online: bool) -> list[str]:
        """The accounts with these names, of a link, with a link that is up, or all.

        Raises `HttpError` for what does not exist.
        """
        self._must_know_link(link)
        if self.fetcher is not None:
            return self.fetcher.names(wanted, link=link, online=online)
        if wanted:
            raise HttpError(HTTPStatus.NOT_FOUND, f"there is no fetch account {wanted[0]!r}; there are none")
        return []

    async def fetch(self, accounts: Collection[str], messages: Sequence[str]) -> AsyncGenerator[object, None]:
        """Fetches mail from these accounts, or these messages alone, and tells how far it is."""
        if self.fetcher is None:
            return
        await self._links.refresh()
        async with aclosing(self.fetcher.fetch(accounts, messages)) as series:
            async for document in series:
                yield document

    # --- flush

    async def flush(
        self, routes: Collection[str] | None, *, assume_up: str, wait: bool
    ) -> AsyncGenerator[object, None]:
        """Tries what can go over these routes (None: all) and tells how far it is; without `wait` once.

        `assume_up` names a link that is taken as up until everything that waits for it was tried once.
        """
        before = self._desk.ended.copy()
        await self._links.refresh()
        if assume_up:
            self.scheduler.assume_up(assume_up)
        try:
            await self.scheduler.flush(routes)
            if wait or assume_up:
                progress = await self._progress(routes, before)
                while progress["waiting"] and not await self._is_idle(routes):
                    yield progress
                    progress = await self._progress(routes, before)
        finally:
            if assume_up:
                self.scheduler.assume_no_more(assume_up)
        yield await self._progress(routes, before)

    def routes_meant(self, link: str, route: str) -> set[str] | None:
        """The routes of a link, or one route, or None for all. Raises `HttpError` for what does not exist."""
        rules = self.scheduler.rules
        if route and rules.route(route) is None:
            known = ", ".join(item.name for item in rules.routes) or "none"
            raise HttpError(HTTPStatus.NOT_FOUND, f"there is no route {route!r}; there are {known}")
        self._must_know_link(link)
        if not (link or route):
            return None
        return {
            item.name
            for item in rules.routes
            if (not route or item.name == route) and (not link or link in item.links)
        }

    def _must_know_link(self, name: str) -> None:
        """Raises `HttpError` for a link that does not exist."""
        if name and name not in self._links.verdicts():
            known = ", ".join(self._links.verdicts())
            raise HttpError(HTTPStatus.NOT_FOUND, f"there is no link {name!r}; there are {known}")

    async def _is_idle(self, routes: Collection[str] | None) -> bool:
        """Waits a moment for the end of all work over these routes."""
        with anyio.move_on_after(PROGRESS_SECONDS):
            await self.scheduler.wait_until_idle(routes)
            return True
        return False

    async def _progress(self, routes: Collection[str] | None, before: Counter[tuple[str, Next]]) -> views.Document:
        """How many recipients have ended over these routes since then, and how many still wait for them."""
        ended = self._desk.ended - before
        counts = await self._spool.counts()
        waiting = counts.queued + counts.deferred
        if routes is not None:
            classes = await self._spool.classes()
            meant = sum(count for found, count in classes.items() if not set(found.routes).isdisjoint(routes))
            waiting = min(waiting, meant)  # as close as one gets without a look at each: a class has held ones too
        return {
            "delivered": _sum(ended, routes, Next.DELIVERED),
            "failed": _sum(ended, routes, Next.FAILED),
            "waiting": waiting,
        }


def _sum(ended: Counter[tuple[str, Next]], routes: Collection[str] | None, how: Next) -> int:
    return sum(count for (route, end), count in ended.items() if end is how and (routes is None or route in routes))
