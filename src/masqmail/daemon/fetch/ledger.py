"""What is known of one account: how its fetches ended, when it is due by that, and who hears of it."""

from collections.abc import Callable
from datetime import timedelta
from logging import WARNING

import anyio

from masqmail.config.fetch import FetchSection, Trigger
from masqmail.daemon.fetch.request import End, summary
from masqmail.daemon.fetch.schedule import wait_after
from masqmail.daemon.fetch.standing import Standing, recall, remember
from masqmail.daemon.fetch.tools import Tools
from masqmail.mail.outcome import Culprit
from masqmail.retrieval.account import FetchFailure, Order, Tally
from masqmail.system.events import FETCH_FAILED, MAIL_FETCHED, emit

NEVER = float("inf")

#: A link that comes up so soon after a fetch that went well needs no other at once: it may be flapping.
CALM_SECONDS = 30.0


class Ledger:
    """The standing of an account, and its times in seconds of BOOTTIME.

    `due` is when it is fetched next, `wanted_due` when a single message that somebody wants may be tried: one that
    cannot be had keeps nothing else waiting.
    """

    def __init__(self, section: FetchSection, tools: Tools, is_down: Callable[[], bool]) -> None:
        self.standing = Standing()
        self._section = section
        self._tools = tools
        self._clock = tools.visitor.clock
        self._is_down = is_down
        self.due = self.wanted_due = self._clock.boottime()
        self._succeeded_at = -CALM_SECONDS
        self._wanted_failures = 0
        self._is_recalled = anyio.Event()

    async def recall(self) -> None:
        """Reads what an earlier daemon has kept."""
        try:
            self.standing = await recall(self._tools.spool, self._section.name, self._clock.monotonic())
        finally:
            self._is_recalled.set()

    async def want(self, uid: str) -> None:
        """Notes that somebody wants this message."""
        await self._is_recalled.wait()
        if uid not in self.standing.wanted:
            self.standing.wanted.append(uid)
            await self.remember()

    def link_came_up(self) -> None:
        """It is due at once, unless the password is the trouble or it was fetched just now."""
        self.standing.failing_since = self._clock.monotonic()
        if not self.standing.is_refused:
            self.wanted_due = self._clock.boottime()
            self.due = min(self.due, max(self.wanted_due, self._succeeded_at + CALM_SECONDS))

    def reloaded(self) -> None:
        """It is due at once if its last fetch failed: the reason may be gone."""
        if self.standing.failures:
            self.due = self._clock.boottime()

    # --- what is next

    def next_order(self) -> Order | None:
        """What is to be fetched now, if there is a link: first of all what somebody wants, unless that has failed."""
        now, standing = self._clock.boottime(), self.standing
        is_due = self.due <= now
        everything = Order() if is_due and not self._is_manual else None
        if everything is not None and self._wanted_failures:
            return everything
        if standing.wanted and self.wanted_due <= now and (is_due or not standing.failures):
            return Order((standing.wanted[0],))
        return everything

    def next_time(self) -> float:
        """When there is something to be fetched next, as far as that depends on the time alone."""
        due = NEVER if self._is_manual else self.due
        if not self.standing.wanted:
            return due
        return min(due, max(self.wanted_due, self.due) if self.standing.failures else self.wanted_due)

    @property
    def _is_manual(self) -> bool:
        return self._section.interval is Trigger.MANUAL

    # --- how it ended

    async def ended(self, order: Order, failure: FetchFailure | None, tally: Tally) -> End:
        """Notes the end of a fetch."""
        if failure is None and order.uids and not (tally.taken or tally.refused):
            missing = ", ".join(order.uids)
            failure = FetchFailure(f"{missing} is not on the server, or is here already", Culprit.MESSAGE)
        is_about_message = failure is not None and failure.culprit is Culprit.MESSAGE and bool(order.uids)
        if failure is None or is_about_message:
            await self._is_no_more_wanted(order, is_gone=failure is not None)
        if failure is None:
            await self._succeeded(tally, is_all=not order.uids)
            return End(tally)
        if not is_about_message:
            self._put_off(order, failure)
            await self.failed(failure, tally)
        return End(tally, failure.reason, failure.culprit)

    async def failed(self, failure: FetchFailure, tally: Tally) -> None:
        """The next attempt waits for its time, or for a link if there is none: then nothing else has failed."""
        standing = self.standing
        if self._is_down() and failure.culprit is not Culprit.LOGIN:
            standing.reason = failure.reason
            self.due = self._clock.boottime()
            return
        standing.note_failure(
            failure.reason,
            failure.culprit,
            got_on=bool(tally.taken),
            monotonic=self._clock.monotonic(),
            now=self._clock.now(),
        )
        wait = wait_after(standing.failures, failure.culprit, self._section.interval)
        self.due = self._clock.boottime() + wait.total_seconds()
        emit(
            FETCH_FAILED,
            level=WARNING,
            account=self._section.name,
            culprit=failure.culprit.value,
            reason=failure.reason,
            taken=tally.taken,
        )
        if not standing.is_told and await self._tools.tell_of_failure(self._section, standing):
            standing.is_told = True
        await self.remember()

    def note_taken(self, tally: Tally) -> None:
        """Has the log say what was fetched."""
        emit(
            MAIL_FETCHED,
            account=self._section.name,
            taken=tally.taken,
            size_bytes=tally.taken_bytes,
            left=tally.left or None,
            refused=tally.refused or None,
            deleted=tally.deleted or None,
            moved=tally.moved or None,
        )

    async def remember(self) -> None:
        """Keeps it for the next daemon."""
        await remember(self._tools.spool, self._section.name, self.standing)

    async def _succeeded(self, tally: Tally, *, is_all: bool) -> None:
        is_news = bool(self.standing.failures or tally.taken)
        if is_news or tally.deleted or tally.moved:
            self.note_taken(tally)
        if is_all:
            interval = self._section.interval
            wait = interval.total_seconds() if isinstance(interval, timedelta) else NEVER
            self._succeeded_at = self._clock.boottime()
            self.due = self._succeeded_at + wait
        self.standing.note_success(summary(End(tally)), self._clock.now())
        if is_news:
            await self.remember()

    async def _is_no_more_wanted(self, order: Order, *, is_gone: bool) -> None:
        """Somebody had asked for this message by a reply: it was fetched, or there is no such message any more."""
        uids = [uid for uid in order.uids if uid in self.standing.wanted]
        if uids:
            self.standing.wanted = [uid for uid in self.standing.wanted if uid not in uids]
            self._wanted_failures, self.wanted_due = 0, self._clock.boottime()
            await self.remember()
            if is_gone:
                await self._tools.tell_of_gone(self._section, uids[0])

    def _put_off(self, order: Order, failure: FetchFailure) -> None:
        """A message that somebody wants could not be had now: others are next, and it is tried again later."""
        wanted = self.standing.wanted
        if self._is_down() or not wanted or wanted[0] not in order.uids:
            return
        wanted.append(wanted.pop(0))
        self._wanted_failures += 1
        wait = wait_after(self._wanted_failures, failure.culprit, self._section.interval)
        self.wanted_due = self._clock.boottime() + wait.total_seconds()
