"""What a person can do to the running daemon: see, flush, declare links, hold, release, retry, remove, bounce."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence

import anyio

from masqmail import __version__
from masqmail.config.values import parse_duration
from masqmail.daemon import views
from masqmail.daemon.desk import Desk
from masqmail.daemon.directory import Directory
from masqmail.daemon.http import HttpError, Json
from masqmail.daemon.manual import ManualLinks
from masqmail.daemon.pauses import Pauses
from masqmail.daemon.plan import plan_for
from masqmail.daemon.scheduler import Scheduler
from masqmail.links.board import LinkBoard
from masqmail.routing.link import LinkState
from masqmail.spool.api import Spool
from masqmail.system.clock import Clock
from masqmail.system.events import MESSAGE_HELD, MESSAGE_RELEASED, MESSAGE_REMOVED, emit

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
        self._clock = clock
        self.problems: list[Callable[[], Sequence[str]]] = [directory.alias_files.problems]

    parse_duration = staticmethod(parse_duration)

    # --- see

    async def status(self) -> views.Document:
        """Links, routes and the queue, each with a reason; then whatever somebody should look after."""
        verdicts = self._links.verdicts()
        classes = await self._spool.classes()
        unrouted = sum(count for route_class, count in classes.items() if not route_class.routes)
        problems = [problem for source in self.problems for problem in source()]
        if unrouted:
            problems.append(f"no route's conditions fit {unrouted} recipients; see `masqmail queue`")
        return {
            "version": __version__,
            "host": self.scheduler.rules.host_name,
            "links": [views.link(verdict) for verdict in verdicts.values()],
            "routes": views.routes(self.scheduler, self._pauses, classes, verdicts.get),
            "queue": views.counts(await self._spool.counts()),
            "fetch": [],
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
            raise HttpError(400, str(error)) from error

    # --- links

    async def set_link(self, name: str, state: str) -> views.Document:
        """Declares a link up or down, or gives it back to its detector; remembered until the next reboot."""
        if name not in self._links.verdicts():
            known = ", ".join(self._links.verdicts())
            raise HttpError(404, f"there is no link {name!r}; there are {known}")
        match state:
            case "up":
                await self._manual.declare(name, LinkState.UP)
            case "down":
                await self._manual.declare(name, LinkState.DOWN)
            case "auto":
                await self._manual.give_back(name)
            case _:
                raise HttpError(400, f"a link is declared up, down or auto, not {state!r}")
        return views.link(self._links.verdicts()[name])

    # --- flush

    async def flush(self, routes: Collection[str] | None, *, assume_up: str, wait: bool) -> AsyncIterator[Json]:
        """Tries what can go over these routes (None: all) and tells how far it is; without `wait` once.

        `assume_up` names a link that is taken as up until everything that waits for it was tried once.
        """
        delivered = self._desk.delivered
        await self._links.refresh()
        if assume_up:
            self.scheduler.assume_up(assume_up)
        try:
            await self.scheduler.flush(routes)
            if wait or assume_up:
                async for _ in self._until_idle(routes):
                    yield await self._progress(routes, delivered)
        finally:
            if assume_up:
                self.scheduler.assume_no_more(assume_up)
        yield await self._progress(routes, delivered)

    def routes_meant(self, link: str, route: str) -> set[str] | None:
        """The routes of a link, or one route, or None for all. Raises `HttpError` for what does not exist."""
        rules = self.scheduler.rules
        if route and rules.route(route) is None:
            raise HttpError(404, f"there is no route {route!r}")
        if link and link not in self._links.verdicts():
            raise HttpError(404, f"there is no link {link!r}")
        if not (link or route):
            return None
        return {
            item.name
            for item in rules.routes
            if (not route or item.name == route) and (not link or link in item.links)
        }

    async def _until_idle(self, routes: Collection[str] | None) -> AsyncIterator[None]:
        while True:
            with anyio.move_on_after(PROGRESS_SECONDS):
                await self.scheduler.wait_until_idle(routes)
                return
            yield

    async def _progress(self, routes: Collection[str] | None, delivered_before: int) -> dict[str, object]:
        classes = await self._spool.classes()
        waiting = sum(count for found, count in classes.items() if routes is None or set(found.routes) & set(routes))
        return {"delivered": self._desk.delivered - delivered_before, "waiting": waiting}

    # --- messages

    async def act(self, action: str, queue_ids: Sequence[str], who: str) -> int:
        """Does one thing to these messages and returns to how many."""
        now = self._clock.now()
        match action:
            case "hold":
                await self._spool.hold(queue_ids, f"held by {who}")
                emit(MESSAGE_HELD, queue_ids=",".join(queue_ids), by=who)
            case "release":
                await self._spool.release(queue_ids)
                emit(MESSAGE_RELEASED, queue_ids=",".join(queue_ids), by=who)
            case "retry":
                await self._spool.retry(queue_ids)
            case "remove":
                await self._spool.remove(queue_ids, now, f"removed by {who}")
                emit(MESSAGE_REMOVED, queue_ids=",".join(queue_ids), by=who)
            case "bounce":
                await self._spool.hold(queue_ids, f"to be given back, says {who}")
                for queue_id in queue_ids:
                    if found := await self._spool.find(queue_id):
                        await self._desk.bounce(found, who)
            case _:
                raise HttpError(404, f"messages cannot be {action}ed")
        self.scheduler.note_classes(await self._spool.classes())
        return len(queue_ids)
