"""Decides when what is sent over which route, and starts a lane for it.

A *lane* is one worker for one next hop: a smarthost route, a domain of a direct route, or the mailboxes of this
host. The scheduler never walks the queue: it asks for each *class* of recipients (there are few) which of its
routes is the choice now, and starts the lanes of those routes. Wakes come from events: a message was accepted, a
link changed, a pause ended, somebody flushed; one timer sleeps until the earliest due time. Nothing polls.
"""

import itertools
import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import anyio
from anyio.abc import TaskGroup

from masqmail.daemon.alarm import Alarm
from masqmail.daemon.company import ONE, Company, Wanted
from masqmail.daemon.lane import Lane, LaneKey
from masqmail.daemon.outlook import Outlook
from masqmail.daemon.pauses import Pauses
from masqmail.daemon.rules import Rules
from masqmail.daemon.stranded import Stranded
from masqmail.daemon.usable import UsableClock
from masqmail.delivery.parallel import Speed
from masqmail.frozen import frozen
from masqmail.links.board import LinkBoard
from masqmail.routing.decide import Choice
from masqmail.routing.route import LOCAL_ROUTE, QUEUE_ONLY, Route, RouteClass, Way
from masqmail.spool.api import Lease, Record, Spool
from masqmail.spool.states import State
from masqmail.system.clock import Clock, epoch

#: Domains of direct routes worked on at the same time.
MAX_DIRECT_LANES = 20

#: The scheduler looks at its clocks at least that often, so that usable time is never far behind.
LONGEST_SLEEP = timedelta(minutes=1)

#: Later than every due time: leases with it take whatever waits.
END_OF_TIME = datetime.max.replace(tzinfo=UTC)

RunLane = Callable[[Lane], Awaitable[None]]
EndRuns = Callable[[Sequence[Lease]], None]

#: What is moved from one class to another at a time.
WINDOW = 200
WINDOW_BYTES = 1 << 24


@frozen
class _Wake:
    """When a route's waits were cancelled, with the `epoch` of the wall clock at that time."""

    at: datetime
    epoch: float

    def by(self, clock: Clock) -> datetime:
        """The same instant by the wall clock of today.

        Had somebody set it back, every attempt since would seem older than the wake, and be repeated at once.
        """
        return self.at + min(timedelta(0), timedelta(seconds=epoch(clock) - self.epoch))


class Scheduler:
    """Starts lanes when there is something they could do."""

    def __init__(self, rules: Rules, spool: Spool, links: LinkBoard, pauses: Pauses, clock: Clock) -> None:
        self._outlook = Outlook(rules, links, pauses)
        self._spool = spool
        self._pauses = pauses
        self._clock = clock
        self._usable = UsableClock(spool, clock)
        self._classes: set[RouteClass] = set()
        self._unable: set[RouteClass] = set()  # those of them that could not go when asked, until something changes …
        self._unable_until = math.inf  # … or a pause ends
        self._woken: dict[str, _Wake] = {}
        self._lanes: dict[LaneKey, Lane] = {}
        self._stranded = Stranded(clock)
        self._crowded: set[str] = set()  # direct routes with more domains than lanes
        self._company = Company()
        self._wake = anyio.Event()
        self._alarm = Alarm(clock, self.wake)
        self._is_resting = False
        self._is_finishing = False
        self._news = anyio.Event()  # for `wait_until_idle`

    @property
    def rules(self) -> Rules:
        return self._outlook.rules

    # --- what others tell it

    def note_classes(self, classes: Collection[RouteClass]) -> None:
        """There are recipients of these classes that may be due, or they come in now."""
        if not self._lanes and self._unable.issuperset(classes) and self._clock.boottime() < self._unable_until:
            return  # as always while we are offline
        self._usable.book()
        noted = set(classes)
        is_known = noted <= self._classes
        self._classes |= noted
        if self._clock.boottime() >= self._unable_until:
            self._unable.clear()
        if self._lanes:
            routes = {route for route_class in noted for route in route_class.routes}
            self._nudge(routes)
            if is_known and routes and all(map(self._is_served, routes)):
                return  # whichever is the choice: its lane was told, and we look when that ends
        elif noted <= self._unable:
            return  # nor can they now
        if self._wake.is_set():
            return  # it looks soon
        if is_known and not any(one.tried for one in noted):
            chosen = self._outlook.by_route(noted)
            if not chosen:
                self._unable |= noted  # none of them can go now; whatever changes that wakes us
                self._unable_until = self._pauses.next_end() or math.inf
                return
            if all(map(self._is_served, chosen)):
                return  # as above; the other routes are there for when this one fails
        self._wake.set()

    def _is_served(self, route: str) -> bool:
        """Whether a lane is at work that takes whatever comes for a route: then there is nothing to decide."""
        lanes = self._lanes_of(route)
        return any(lane.is_working and not lane.is_shared and not self._stranded.is_hanging(lane) for lane in lanes)

    def wake(self) -> None:
        """Something changed: look again, and tell the running lanes."""
        self._unable.clear()
        self._nudge()
        self._wake.set()

    def _nudge(self, routes: Collection[str] | None = None) -> None:
        for lane in self._lanes.values():
            if routes is None or lane.route_name in routes:
                lane.nudge()

    def links_changed(self, came_up: Collection[str]) -> None:
        """Routes over a link that came up start at once, whatever their waits and pauses were."""
        names = [route.name for route in self.rules.routes if set(route.links) & set(came_up)]
        if names:
            self._pauses.forget(names)
        self._wake_routes(names)

    async def flush(self, routes: Collection[str] | None = None) -> None:
        """Forgets waits and pauses of these routes (None: of all) so that everything that can go over them does."""
        names = [*self.rules.by_name, LOCAL_ROUTE] if routes is None else list(routes)
        self._pauses.end(names)
        self._classes |= (await self._spool.classes()).keys()
        for route_class in [item for item in self._classes if item.mark == QUEUE_ONLY]:
            chosen = self._outlook.choice(route_class.unmarked()).route
            likely = route_class.routes if chosen is None else [chosen.name]
            if not set(likely).isdisjoint(names):
                await self._unmark(route_class)
        self._wake_routes(names)

    def _wake_routes(self, names: Collection[str]) -> None:
        self._woken.update(dict.fromkeys(names, _Wake(self._clock.now(), epoch(self._clock))))
        self.wake()

    def assume_up(self, link: str) -> None:
        """Takes a link as up until `assume_no_more`, as `sendmail -qo` asks."""
        self._unable.clear()
        self._outlook.assume_up(link)

    def assume_no_more(self, link: str) -> None:
        self._outlook.assume_no_more(link)
        self.wake()

    def reconfigure(self, rules: Rules, changed_routes: Collection[str] = ()) -> None:
        """From now on decides by these rules. Recipients of older classes wait until they are computed anew.

        What is at work for a route that is another now begins nothing more, and is broken off where it has begun
        nothing: the next lane does as the new one says.
        """
        self._outlook.rules = rules
        self._pauses.schedule = rules.schedule
        self._pauses.forget()
        self._company.forget()
        self._classes = {item for item in self._classes if item.is_local or item.generation == rules.generation}
        for lane in self._lanes.values():
            if lane.route_name in changed_routes:
                lane.close()
                if lane.in_hand and not lane.is_in_doubt:  # it may hang
                    lane.stop()
        self.wake()

    # --- who fetches his mail

    async def open_line(self, route: Route, domains: Collection[str] = ()) -> Lane | None:
        """A lane for what waits for a user who has come for it, until `close_line`; None when he has one already.

        It has all that waits for his route, due or not; with `domains` only what is for these.
        """
        key = LaneKey(route.name)
        if key in self._lanes:
            return None
        give = partial(self._lease_for_domains, [domain.lower() for domain in domains]) if domains else self._lease
        lane = self._lanes[key] = Lane(key, give)
        lane.is_closed = self._is_finishing
        try:
            self._outlook.open_line(route.user, self._clock.now())
            await self.flush([route.name])
        except BaseException:
            self.close_line(route, lane)
            raise
        return lane

    def close_line(self, route: Route, lane: Lane) -> None:
        """He has got what there was, or has gone."""
        self._outlook.close_line(route.user)
        del self._lanes[lane.key]
        self._tell_news()
        self.wake()

    def close_lines(self) -> None:
        """Lets those who fetch their mail have what they have been given, and no more: the program ends."""
        self._outlook.close_lines()

    async def _lease_for_domains(
        self, domains: Collection[str], lane: Lane, max_messages: int, max_bytes: int
    ) -> list[Lease]:
        leases: list[Lease] = []
        for domain in domains:
            if len(leases) < max_messages:
                leases += await self._lease(lane, max_messages - len(leases), max_bytes, domain)
        return leases

    async def finish(self) -> None:
        """Begins nothing more; returns when it is known of all that was begun what became of it."""
        self._is_finishing = True
        async with anyio.create_task_group() as finishing:
            for lane in self._lanes.values():
                finishing.start_soon(lane.finish)

    # --- what lanes and views ask it

    def choice(self, route_class: RouteClass) -> Choice:
        """Which route a class would take now, and why not the others."""
        return self._outlook.choice(route_class)

    def is_open(self, route: str) -> bool:
        """Whether a route could be used now: a link of it is up and it is not paused."""
        return self._outlook.is_open(route)

    def has_link(self, route: Route) -> bool:
        """Whether a link of the route is up, paused or not."""
        return self._outlook.has_link(route)

    def paused_routes(self) -> dict[str, str]:
        """The reason for each route all of whose next hops are left alone now."""
        return self._outlook.paused_routes()

    def next_try(self, route_class: RouteClass) -> datetime | None:
        """When the first pause ends that keeps a class waiting."""
        return self._outlook.next_try(route_class)

    def is_sending(self, routes: Collection[str] | None = None) -> bool:
        """Whether a lane of one of these routes (None: of any) is at work."""
        return any(routes is None or lane.route_name in routes for lane in self._lanes.values())

    async def wait_until_idle(self, routes: Collection[str] | None = None) -> None:
        """Returns when no lane of these routes runs and the scheduler has seen the last change."""
        while not self._is_resting or self._wake.is_set() or self.is_sending(routes):
            await self._news.wait()

    def _tell_news(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def _lease(self, lane: Lane, max_messages: int, max_bytes: int, domain: str | None = None) -> list[Lease]:
        """What a lane may work on now."""
        classes = self._outlook.by_route(self._classes).get(lane.route_name)
        if not classes:
            return []
        leases = await self._spool.lease(
            str(lane.key),
            classes,
            now=self._clock.now(),
            woken_at=self._woken_at(lane.route_name),
            domain=domain or lane.domain,
            max_messages=max_messages,
            max_bytes=max_bytes,
        )
        if not leases and lane.is_shared:
            for other in self._lanes_of(lane.route_name):
                other.share()
        return leases

    def _woken_at(self, route: str) -> datetime | None:
        woken = self._woken.get(route)
        return woken.by(self._clock) if woken else None

    # --- the loop

    async def run(self, run_lane: RunLane, end_runs: EndRuns) -> None:
        """Runs until cancelled; `run_lane` does the work of one lane. What it does not handle ends the daemon."""
        self._classes |= (await self._spool.classes()).keys()
        async with anyio.create_task_group() as tasks:
            while True:
                self._wake = anyio.Event()
                self._unable.clear()
                looked_at = self._clock.now()
                await self._turn(tasks, run_lane)
                await self._end_runs(end_runs)
                self._alarm.set(tasks, await self._next_look(looked_at))
                await self._rest()

    async def _turn(self, tasks: TaskGroup, run_lane: RunLane) -> None:
        if self._is_finishing:
            return
        self._stranded.look(self._lanes.values(), self._lane_has_link)
        by_route = self._outlook.by_route(self._classes)
        await self._usable.advance(self._outlook.usable(self._classes))
        for name, classes in by_route.items():
            route = self.rules.route(name)
            if route is not None and route.way is Way.ODMR:
                continue  # its user has opened a line, and waits for what comes
            if route is not None and route.way is Way.DIRECT:
                await self._start_domains(tasks, run_lane, route, classes)
            else:
                self._start(tasks, run_lane, name, wanted=await self._wanted_lanes(name, classes))

    async def _wanted_lanes(self, route: str, classes: Collection[RouteClass]) -> Wanted:
        """How many lanes pay for what waits, by what was measured last; one while nothing is known."""
        most = self.rules.max_connections(route)
        if most == 1:
            return ONE
        counts = await self._spool.classes()
        waiting = sum(counts.get(route_class, 0) for route_class in classes)
        lanes = self._lanes_of(route)
        in_hand = sum(lane.in_hand for lane in lanes)
        return self._company.wanted(route, max(0, waiting - in_hand), most, lanes)

    def _lanes_of(self, route: str, domain: str = "") -> list[Lane]:
        return [lane for key, lane in self._lanes.items() if key.route == route and key.domain == domain]

    def hear_speed(self, lane: Lane, speed: Speed) -> None:
        """Looks again when the speed of a next hop is not what it was taken for."""
        if self._company.hear_speed(lane.route_name, speed, self._lanes_of(lane.route_name)):
            self._wake.set()

    def hear_round_trip(self, lane: Lane, seconds: float) -> None:
        """Looks again when a lane has connected to a next hop that is far away."""
        if self._company.hear_round_trip(lane.route_name, seconds):
            self._wake.set()

    def hear_failure(self, lane: Lane, *, may_go_on: bool) -> bool:
        """A lane achieved nothing. True when others are at work: then that is taken for a wish for fewer of them.

        Where none is connected to the same next hop that may be dead: each goes on to the one after it, if it may.
        """
        others = [other for other in self._lanes_of(lane.route_name, lane.key.domain) if other is not lane]
        if may_go_on:
            others = [other for other in others if other.is_connected and other.next_hop == lane.next_hop]
        if not any(other.is_working for other in others):
            return False
        self._company.limit(lane.route_name, len(others))
        return True

    def _lane_has_link(self, lane: Lane) -> bool:
        """Local delivery needs none; a program that runs, or a route that was just lost, is left to end by itself."""
        route = self.rules.route(lane.route_name)
        return route is None or route.way is Way.PIPE or self.has_link(route)

    async def _start_domains(
        self, tasks: TaskGroup, run_lane: RunLane, route: Route, classes: Collection[RouteClass]
    ) -> None:
        waiting = await self._spool.waiting_domains(
            classes, now=self._clock.now(), woken_at=self._woken_at(route.name), limit=2 * MAX_DIRECT_LANES
        )
        running = {key.domain for key in self._lanes if key.route == route.name}
        domains = [domain for domain in waiting if domain not in running]
        room = MAX_DIRECT_LANES - len(running)
        for domain in domains[:room]:
            self._start(tasks, run_lane, route.name, domain)
        if len(domains) > room:
            self._crowded.add(route.name)
        else:
            self._crowded.discard(route.name)

    def _start(
        self, tasks: TaskGroup, run_lane: RunLane, route: str, domain: str = "", *, wanted: Wanted = ONE
    ) -> None:
        """Makes sure that so many lanes work for a next hop, and wait in reserve, beside those that hang."""
        lanes = [lane for lane in self._lanes_of(route, domain) if not self._stranded.is_hanging(lane)]
        reserve = [lane for lane in lanes if lane.is_waiting]
        working = len(lanes) - len(reserve)
        while reserve and working < wanted.working:
            reserve.pop(0).call(self._company.known_speed(route))
            working += 1
        for number in range(working, max(wanted.working, wanted.in_all - len(reserve))):
            self._start_lane(tasks, run_lane, route, domain, is_reserve=number >= wanted.working)
        if not wanted.may_wait:
            for lane in reserve:
                lane.dismiss()

    def _start_lane(self, tasks: TaskGroup, run_lane: RunLane, route: str, domain: str, *, is_reserve: bool) -> None:
        keys = (LaneKey(route, domain, number) for number in itertools.count())
        key = next(key for key in keys if key not in self._lanes)
        is_shared = not domain and self.rules.max_connections(route) > 1
        speed = self._company.known_speed(route) if is_shared else None
        lane = Lane(key, self._lease, is_shared=is_shared, is_reserve=is_reserve, known_speed=speed, ear=self)
        lane.is_closed = self._is_finishing  # we may have been told so in the midst of this turn
        self._lanes[key] = lane
        tasks.start_soon(self._run, run_lane, lane, name=f"lane {key}")

    async def _run(self, run_lane: RunLane, lane: Lane) -> None:
        """Runs a lane. At its end the scheduler looks again, but no other lane does: they would wake each other."""
        try:
            with lane.scope:
                await run_lane(lane)
        finally:
            del self._lanes[lane.key]
            self._unable.clear()
            rest = self._lanes_of(lane.route_name, lane.key.domain)
            if not any(other.is_working for other in rest):
                for other in rest:
                    other.dismiss()  # there is nobody left whom it could help
            has_left_some = lane.is_dismissed or lane.is_closed or lane.route_name in self._crowded
            if has_left_some or lane.did_something or lane.was_nudged:
                self._wake.set()
            self._tell_news()

    async def _end_runs(self, end_runs: EndRuns) -> None:
        """A run over several routes whose rest became unusable is over: the wait from `retry` starts."""
        for route_class in self._outlook.with_ended_runs(self._classes):
            self._classes.discard(route_class)
            with anyio.CancelScope(shield=True):
                while leases := await self._lease_all(route_class):
                    end_runs(leases)

    async def _unmark(self, marked: RouteClass) -> None:
        """Lets the recipients of a class go that waited for somebody to flush."""
        self._classes.discard(marked)
        self._unable.discard(marked)
        free = marked.unmarked()
        self._classes.add(free)
        with anyio.CancelScope(shield=True):
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

    async def _next_look(self, looked_at: datetime) -> float:
        """The `boottime` when something becomes due (or did since `looked_at`), a pause or a silence ends."""
        now = self._clock.boottime()
        looks = [now + LONGEST_SLEEP.total_seconds(), self._pauses.next_end(), self._stranded.next_look()]
        usable = self._outlook.usable(self._classes)
        due = await self._spool.next_due(usable, after=looked_at) if usable else None
        if due is not None:
            looks.append(now + (due - self._clock.now()).total_seconds())
        return min(look for look in looks if look is not None)

    async def _rest(self) -> None:
        """Until somebody wakes us, or the alarm does."""
        self._is_resting = True
        self._tell_news()
        await self._wake.wait()
        self._is_resting = False
