"""Decides when what is sent over which route, and starts a lane for it.

A *lane* is one worker for one next hop: a smarthost route, a domain of a direct route, or the mailboxes of this
host. The scheduler never walks the queue: it asks for each *class* of recipients (there are few) which of its
routes is the choice now, and starts the lanes of those routes. Wakes come from events: a message was accepted, a
link changed, a pause ended, somebody flushed; one timer sleeps until the earliest due time. Nothing polls.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import anyio
from anyio.abc import TaskGroup

from masqmail.daemon.pauses import Pauses
from masqmail.daemon.rules import Rules
from masqmail.daemon.usable import UsableClock
from masqmail.links.board import LinkBoard
from masqmail.routing.decide import Choice, choose, is_usable
from masqmail.routing.link import LinkState, Verdict
from masqmail.routing.route import LOCAL_ROUTE, QUEUE_ONLY, Route, RouteClass, Way
from masqmail.spool.api import Lease, Record, Spool
from masqmail.spool.states import State
from masqmail.system.clock import Clock

#: Domains of direct routes worked on at the same time.
MAX_DIRECT_LANES = 20

#: The scheduler looks at its clocks at least that often, so that usable time is never far behind.
LONGEST_SLEEP = timedelta(minutes=1)

#: Later than every due time: leases with it take whatever waits.
END_OF_TIME = datetime.max.replace(tzinfo=UTC)

LaneKey = tuple[str, str]  # route, domain (empty: a smarthost or the local lane)
RunLane = Callable[["Lane"], Awaitable[None]]
EndRuns = Callable[[Sequence[Lease]], None]

#: What is moved from one class to another at a time.
WINDOW = 200
WINDOW_BYTES = 1 << 24


class Lane:
    """One running worker's view of what it may work on; asked anew at each lease."""

    def __init__(self, scheduler: "Scheduler", key: LaneKey) -> None:
        self._scheduler = scheduler
        self.key = key
        self._more = anyio.Event()
        self.did_something = False

    @property
    def route_name(self) -> str:
        return self.key[0]

    @property
    def domain(self) -> str | None:
        return self.key[1] or None

    async def lease(self, *, max_messages: int, max_bytes: int) -> list[Lease]:
        """The next of this lane's work, oldest first."""
        self._more = anyio.Event()
        leases = await self._scheduler.lease(self, max_messages=max_messages, max_bytes=max_bytes)
        self.did_something |= bool(leases)
        return leases

    def nudge(self) -> None:
        """There may be more work."""
        self._more.set()

    @property
    def was_nudged(self) -> bool:
        """Whether more work may have come since the last lease."""
        return self._more.is_set()

    async def wait_for_work(self, timeout_seconds: float) -> bool:
        """Waits until there may be more work; False when none came in time."""
        with anyio.move_on_after(timeout_seconds):
            await self._more.wait()
            return True
        return False


class Scheduler:
    """Starts lanes when there is something they could do. `run_lane` does the work of one."""

    def __init__(self, rules: Rules, spool: Spool, links: LinkBoard, pauses: Pauses, clock: Clock) -> None:
        self.rules = rules
        self._spool = spool
        self._links = links
        self._pauses = pauses
        self._clock = clock
        self._usable = UsableClock(spool, clock)
        self._classes: set[RouteClass] = set()
        self._woken: dict[str, datetime] = {}
        self._assumed_up: set[str] = set()
        self._lanes: dict[LaneKey, Lane] = {}
        self._wake = anyio.Event()
        self._idle = anyio.Event()

    # --- what others tell it

    def note_classes(self, classes: Iterable[RouteClass]) -> None:
        """There are recipients of these classes that may be due."""
        self._classes.update(classes)
        self.wake()

    def wake(self) -> None:
        """Something changed: look again, and tell the running lanes."""
        self._wake.set()
        for lane in self._lanes.values():
            lane.nudge()

    def links_changed(self, came_up: Collection[str]) -> None:
        """Routes over a link that came up start at once, whatever their waits and pauses were."""
        self._wake_routes([route.name for route in self.rules.routes if set(route.links) & set(came_up)])

    async def flush(self, routes: Collection[str] | None = None) -> None:
        """Forgets waits and pauses of these routes (None: of all) so that everything that can go does."""
        names = [route.name for route in self.rules.routes] if routes is None else list(routes)
        for route_class in [item for item in self._classes if item.mark == QUEUE_ONLY]:
            if set(route_class.routes) & set(names):
                await self._unmark(route_class)
        self._wake_routes([*names, LOCAL_ROUTE] if routes is None else names)

    def _wake_routes(self, names: Collection[str]) -> None:
        if names:
            self._pauses.forget(names)
            now = self._clock.now()
            self._woken.update(dict.fromkeys(names, now))
        self.wake()

    def assume_up(self, link: str) -> None:
        """Treats a link as up until `assume_no_more`, as `sendmail -qo` asks."""
        self._assumed_up.add(link)

    def assume_no_more(self, link: str) -> None:
        self._assumed_up.discard(link)
        self.wake()

    def reconfigure(self, rules: Rules) -> None:
        """From now on decides by these rules."""
        self.rules = rules
        self._pauses.schedule = rules.schedule
        self._pauses.forget()
        self.wake()

    # --- what lanes and views ask it

    async def lease(self, lane: Lane, *, max_messages: int, max_bytes: int) -> list[Lease]:
        """What this lane may work on now."""
        classes = self._by_route().get(lane.route_name)
        if not classes:
            return []
        return await self._spool.lease(
            f"{lane.route_name}/{lane.key[1]}",
            classes,
            now=self._clock.now(),
            woken_at=self._woken.get(lane.route_name),
            domain=lane.domain,
            max_messages=max_messages,
            max_bytes=max_bytes,
        )

    def choice(self, route_class: RouteClass) -> Choice:
        """Which route a class would take now, and why not the others."""
        return choose(route_class, self.rules.by_name, self._link_verdicts(), self.paused_routes())

    def is_open(self, route_name: str) -> bool:
        """Whether a route could be used now: a link of it is up and it is not paused."""
        return self.choice(RouteClass((route_name,))).route is not None

    def paused_routes(self) -> dict[str, str]:
        """The reason for each route all of whose next hops are left alone now."""
        paused = {}
        for route in self.rules.routes:
            pause = self._pauses.of_route(route.name, self.rules.next_hop_names(route))
            if pause:
                paused[route.name] = pause.reason
        return paused

    def _link_verdicts(self) -> dict[str, Verdict]:
        verdicts = self._links.verdicts()
        for link in self._assumed_up & verdicts.keys():
            verdicts[link] = replace(verdicts[link], state=LinkState.UP, reason="taken as up for this flush")
        return verdicts

    def is_sending(self, routes: Collection[str] | None = None) -> bool:
        """Whether a lane of one of these routes (None: of any) is at work."""
        return any(routes is None or route in routes for route, _ in self._lanes)

    async def wait_until_idle(self, routes: Collection[str] | None = None) -> None:
        """Returns when no lane of these routes runs and the scheduler has seen the last change."""
        while self._wake.is_set() or self.is_sending(routes):
            await self._idle.wait()

    # --- the loop

    async def run(self, run_lane: RunLane, end_runs: EndRuns) -> None:
        """Runs until cancelled. What a lane does not handle itself ends the daemon."""
        self._classes.update(await self._spool.classes())
        async with anyio.create_task_group() as lanes:
            while True:
                self._wake = anyio.Event()
                await self._turn(lanes, run_lane)
                await self._end_runs(end_runs)
                self._idle.set()
                self._idle = anyio.Event()
                await self._sleep()

    async def _turn(self, tasks: TaskGroup, run_lane: RunLane) -> None:
        by_route = self._by_route()
        await self._usable.advance(self._usable_classes())
        for name, classes in by_route.items():
            route = self.rules.route(name)
            if route is not None and route.way is Way.DIRECT:
                await self._start_domains(tasks, run_lane, route, classes)
            else:
                self._start(tasks, run_lane, (name, ""))

    def _by_route(self) -> dict[str, list[RouteClass]]:
        """For each route that can be used now, the classes whose choice it is."""
        links, paused = self._link_verdicts(), self.paused_routes()
        found: dict[str, list[RouteClass]] = {}
        for route_class in self._classes:
            if route_class.is_local:
                found.setdefault(LOCAL_ROUTE, []).append(route_class)
            elif route_class.generation == self.rules.generation and not route_class.mark:
                choice = choose(route_class, self.rules.by_name, links, paused)
                if choice.route is not None:
                    found.setdefault(choice.route.name, []).append(route_class)
        return found

    def _usable_classes(self) -> list[RouteClass]:
        links, paused = self._link_verdicts(), self.paused_routes()
        return [item for item in self._classes if is_usable(item, self.rules.by_name, links, paused)]

    async def _start_domains(
        self, tasks: TaskGroup, run_lane: RunLane, route: Route, classes: Collection[RouteClass]
    ) -> None:
        domains = await self._spool.waiting_domains(
            classes, now=self._clock.now(), woken_at=self._woken.get(route.name), limit=2 * MAX_DIRECT_LANES
        )
        running = sum(name == route.name for name, _ in self._lanes)
        for domain in domains[: max(0, MAX_DIRECT_LANES - running)]:
            self._start(tasks, run_lane, (route.name, domain))

    def _start(self, tasks: TaskGroup, run_lane: RunLane, key: LaneKey) -> None:
        if key not in self._lanes:
            lane = Lane(self, key)
            self._lanes[key] = lane
            tasks.start_soon(self._run, run_lane, lane, name=f"lane {key[0]} {key[1]}".rstrip())

    async def _run(self, run_lane: RunLane, lane: Lane) -> None:
        try:
            await run_lane(lane)
        finally:
            del self._lanes[lane.key]
            if lane.did_something or lane.was_nudged:
                self.wake()
            else:
                self._idle.set()

    async def _end_runs(self, end_runs: EndRuns) -> None:
        """A run over several routes whose rest became unusable is over: the wait from `retry` starts."""
        for route_class in [item for item in self._classes if item.tried and not item.mark]:
            if self.choice(route_class).route is None:
                self._classes.discard(route_class)
                while leases := await self._lease_all(route_class):
                    end_runs(leases)

    async def _unmark(self, marked: RouteClass) -> None:
        """Lets the recipients of a class go that waited for somebody to flush."""
        self._classes.discard(marked)
        free = marked.unmarked()
        self._classes.add(free)
        while leases := await self._lease_all(marked):
            recipients = [recipient for lease in leases for recipient in lease.recipients]
            await self._spool.record(
                [Record(item.id, State.QUEUED, item.reason, free, item.last_status) for item in recipients]
            )

    async def _lease_all(self, route_class: RouteClass) -> list[Lease]:
        """A window of all that waits in a class, due or not."""
        return await self._spool.lease(
            "scheduler", [route_class], now=END_OF_TIME, max_messages=WINDOW, max_bytes=WINDOW_BYTES
        )

    async def _sleep(self) -> None:
        """Until somebody wakes us, something becomes due, or a pause ends."""
        seconds = LONGEST_SLEEP.total_seconds()
        now = self._clock.now()
        usable = self._usable_classes()
        due = await self._spool.next_due(usable, after=now) if usable else None
        if due is not None:
            seconds = min(seconds, (due - now).total_seconds())
        pause_ends = self._pauses.next_end()
        if pause_ends is not None:
            seconds = min(seconds, pause_ends - self._clock.boottime())
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(self._wake_after, max(0.0, seconds))
            await self._wake.wait()
            waiting.cancel_scope.cancel()

    async def _wake_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._wake.set()
