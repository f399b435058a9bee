"""What has to be done now and then: classes of an older configuration, old history, wrong clocks, silent trouble."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import datetime, timedelta
from logging import ERROR, WARNING

import anyio

from masqmail.daemon.desk import Desk
from masqmail.daemon.fetch.gone import GoneAccounts
from masqmail.daemon.pauses import Pause, Pauses
from masqmail.daemon.scheduler import Scheduler
from masqmail.mail.wording import Letter, Wording
from masqmail.routing.route import Route, RouteClass
from masqmail.spool.api import Spool, SpoolError, SpoolFull, StoredRecipient
from masqmail.system.clock import Clock, JumpDetector
from masqmail.system.events import CLOCK_SET, INTERNAL_ERROR, SPOOL_LOW, emit

#: How often to look around; more often where the first warning is due sooner.
ROUND = timedelta(minutes=1)
SHORTEST_ROUND = timedelta(seconds=1)
TIDY_EVERY = timedelta(minutes=1)
TRIM_EVERY = timedelta(hours=1)

#: Messages whose classes are computed anew at a time, which takes a millisecond or two, and how much longer than
#: that the rest is that follows: mail that comes and goes has the right of way.
BATCH = 25
REST_SHARE = 2

#: The fact in the spool that says for which configuration the postmaster knows of mail without a route.
TOLD_OF_LOST = "told of mail without a route"


class Housekeeper:
    """Looks around once a minute, and when told to. What it finds for the postmaster it says once."""

    def __init__(self, scheduler: Scheduler, pauses: Pauses, desk: Desk, spool: Spool, clock: Clock) -> None:
        self._scheduler = scheduler
        self._pauses = pauses
        self._desk = desk
        self._spool = spool
        self._clock = clock
        self._jumps = JumpDetector(clock)
        self._trimmed = clock.boottime()
        self._told_of: dict[str, datetime] = {}  # by route: the trouble the postmaster knows of
        self._had_room = True
        self._has_news = anyio.Event()
        self._gone_accounts = GoneAccounts(spool, clock)
        self.keep_history = timedelta(days=30)
        self.fetch_accounts: Collection[str] = ()

    async def run(self) -> None:
        """Goes on until cancelled. An error of ours spoils one round."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_small)
            while True:
                self._has_news = anyio.Event()
                await self._try(self.look_around)
                async with anyio.create_task_group() as resting:
                    resting.start_soon(self._end_rest)
                    await self._has_news.wait()
                    resting.cancel_scope.cancel()

    async def _keep_small(self) -> None:
        """Gives space back. After a long queue that takes a while, and nothing else waits for it."""
        while True:
            await self._clock.sleep(TIDY_EVERY.total_seconds())
            await self._try(self.give_space_back)

    async def _try(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except SpoolFull:
            pass  # the next round may find room; `_tell_of_disk` has said so
        except SpoolError:
            raise
        except Exception as error:
            emit(INTERNAL_ERROR, level=ERROR, exception=error, reason="housekeeping was not finished")

    async def _end_rest(self) -> None:
        first_warning = self._scheduler.rules.lifetime.warn_after[:1]
        await self._clock.sleep(max(SHORTEST_ROUND, min([ROUND, *first_warning])).total_seconds())
        self._has_news.set()

    def look_soon(self) -> None:
        """Looks around as soon as it can: the configuration has changed."""
        self._has_news.set()

    def note_classes(self, classes: Iterable[RouteClass]) -> None:
        """There are new recipients of these classes: looks around at once if no route is meant for some."""
        for route_class in classes:
            if not route_class.routes:
                self._has_news.set()

    async def look_around(self) -> None:
        """One round."""
        self._tell_of_disk()
        await self._mend_clock()
        await self._gone_accounts.look(self.fetch_accounts)
        await self.reclassify()
        await self._tell_postmaster()

    def _tell_of_disk(self) -> None:
        """Once for each time the disk becomes too full for new mail."""
        has_room = self._spool.has_room(0)
        if self._had_room and not has_room:
            emit(SPOOL_LOW, level=WARNING)
        self._had_room = has_room

    async def reclassify(self) -> None:
        """Computes the classes of an older configuration anew, in small batches.

        After each it rests, longer than that took.
        """
        rules = self._scheduler.rules
        while rules is self._scheduler.rules:
            began = self._clock.monotonic()
            batch = await self._spool.stale(rules.generation, BATCH)
            moves = [
                (recipient.id, self._desk.directory.class_of_stored(queued.message, recipient))
                for queued in batch
                for recipient in queued.recipients
                if _is_stale(recipient, rules.generation)
            ]
            if not moves:
                return
            await self._spool.reclass(moves)
            classes = {route_class for _, route_class in moves}
            self._scheduler.note_classes(classes)
            self.note_classes(classes)
            await self._clock.sleep(REST_SHARE * (self._clock.monotonic() - began))

    async def _mend_clock(self) -> None:
        """A wall clock that was set leaves due times that lie too far ahead."""
        if jump := self._jumps.check():
            emit(CLOCK_SET, level=WARNING, by=str(jump))
            await self._spool.clamp_due(self._clock.now(), self._scheduler.rules.schedule.longest)
            self._scheduler.wake()

    async def give_space_back(self) -> None:
        """Old history, and what a crash or a long queue has left."""
        now = self._clock.boottime()
        if now - self._trimmed >= TRIM_EVERY.total_seconds():
            self._trimmed = now
            await self._spool.trim(self._clock.now() - self.keep_history)
        await self._spool.tidy()

    async def _tell_postmaster(self) -> None:
        """Nothing waits unseen: a route that does not work for long, mail that no route is meant for."""
        rules = self._scheduler.rules
        for route in rules.routes if rules.lifetime.warn_after else ():
            await self._tell_of_trouble(route, rules.lifetime.warn_after[0])
        classes = await self._spool.classes()
        lost = sum(count for route_class, count in classes.items() if not route_class.routes)
        await self._tell_of_lost(lost, rules.generation)
        await self._desk.tell_of_held_reports()

    async def _tell_of_trouble(self, route: Route, patience: timedelta) -> None:
        """Once for each time a route stops working."""
        pause = self._pauses.trouble_of(route.name, self._scheduler.rules.next_hop_names(route), patience)
        if pause is None or pause.began_at == self._told_of.get(route.name) or not self._scheduler.has_link(route):
            return
        if await self._desk.post_notice(_about(pause, self._desk.words)):
            self._told_of[route.name] = pause.began_at

    async def _tell_of_lost(self, count: int, generation: str) -> None:
        """Once for each configuration that fits no mail, also over restarts."""
        told = await self._spool.recall(TOLD_OF_LOST)
        if not count and told:
            await self._spool.remember(TOLD_OF_LOST, "")
        if not count or told == generation:
            return
        if await self._desk.post_notice(self._desk.words.without_route.filled(count=count)):
            await self._spool.remember(TOLD_OF_LOST, generation)


def _is_stale(recipient: StoredRecipient, generation: str) -> bool:
    route_class = recipient.route_class
    return not recipient.state.is_ended and not route_class.is_local and route_class.generation != generation


def _about(pause: Pause, words: Wording) -> Letter:
    return words.route_stopped.filled(
        route=pause.route,
        since=f"{pause.began_at:%Y-%m-%d %H:%M}",
        next_hop=pause.next_hop,
        failures=pause.failures,
        reason=pause.reason,
    )
