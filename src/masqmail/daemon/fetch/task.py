"""One account while the daemon runs: when it is fetched, and over which link."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import anyio

from masqmail.config.fetch import FetchSection, Trigger
from masqmail.daemon.fetch.inbox import FetchInbox
from masqmail.daemon.fetch.ledger import NEVER, Ledger
from masqmail.daemon.fetch.request import End, Request, joined
from masqmail.daemon.fetch.standing import Standing
from masqmail.daemon.fetch.tools import Tools
from masqmail.daemon.fetch.visit import ConnectionDead, LinkNews
from masqmail.daemon.fetch.waits import Wait, first_of, within
from masqmail.mail.outcome import Culprit
from masqmail.retrieval.account import Account, FetchFailure, Order, Retriever, Tally
from masqmail.routing.link import LinkState, Verdict

#: How long a retriever may take to close its connection.
CLOSE_SECONDS = 3.0

#: A server that announces mail again and again, and never has any, is asked so often ...
IDLE_GAP = timedelta(seconds=10)
#: ... after so many times.
MAX_VAIN = 3

#: How long to wait after a fault of ours.
FAULT_SECONDS = 60.0

#: How often one request is begun anew because its connection died over a suspend.
MAX_RESTARTS = 3

#: How long to wait for those who are fetched over the same link. They may take for ever.
PATIENCE_SECONDS = 60.0

_BROKEN_OFF = End(reason="it was broken off: the program ends, or the account has changed")


class AccountTask:
    """Fetches one account for as long as it is configured as it is, when its `predecessor` has ended."""

    def __init__(self, section: FetchSection, tools: Tools, predecessor: "AccountTask | None" = None) -> None:
        self.section = section
        self.scope = anyio.CancelScope()
        self.is_started = False
        self.has_ended = anyio.Event()
        self.current: Request | None = None  # the one that is being answered
        self.inbox: FetchInbox | None = None  # of the fetch that runs
        self.is_queued = False  # behind others over the same link
        self.link = ""  # of the fetch that runs, or waits for its turn
        self._tools = tools
        self._clock = tools.visitor.clock
        self._ledger = Ledger(section, tools, lambda: self._is_down)
        self._predecessor = predecessor
        self._retriever: Retriever | None = None
        self._requests: list[Request] = []
        self._is_prepared = False
        self._is_ending = False
        self._vain = 0  # announcements in a row, soon after each other, behind which there was no mail
        self._wake = anyio.Event()
        self._news = LinkNews()

    # --- what others tell and ask it

    def ask(self, order: Order) -> Request:
        """Has it fetched now, whatever it waits for; one request for all who ask before it begins."""
        for request in self._requests:
            if request.order == order:
                return request
        request = Request(order)
        if self.has_ended.is_set():
            request.finish(_BROKEN_OFF)
            return request
        self._requests.append(request)
        self._wake.set()
        return request

    async def want(self, uid: str) -> None:
        """Has one message fetched as soon as it can be, remembered until then."""
        await self._ledger.want(uid)
        self._wake.set()

    def reloaded(self) -> None:
        """Somebody has changed something, and be it the password: after a failure it is fetched at once."""
        self._ledger.reloaded()
        self._wake.set()

    def link_changed(self, verdict: Verdict) -> None:
        """One of its links did. When it came up mail is fetched at once, unless the password is the trouble."""
        if verdict.is_up:
            self._ledger.link_came_up()
        self._news.tell()
        self._wake.set()

    def end(self) -> None:
        """Ends it, when a fetch that runs has said goodbye to its server."""
        self._is_ending = True
        if self.inbox is None:
            self.scope.cancel()
        else:
            self.inbox.is_closing = True

    @property
    def standing(self) -> Standing:
        return self._ledger.standing

    @property
    def is_manual(self) -> bool:
        return self.section.interval is Trigger.MANUAL

    @property
    def is_waiting_for_mail(self) -> bool:
        """Whether the server is to say when there is something."""
        return self.section.interval is Trigger.IDLE and not self.standing.failures

    @property
    def is_running(self) -> bool:
        return self.inbox is not None

    def up_link(self) -> str | None:
        """The first of its links that is up."""
        verdicts = self._tools.verdicts()
        return next((name for name in self.section.links if name in verdicts and verdicts[name].is_up), None)

    def next_at(self) -> datetime | None:
        """When it will be fetched by itself, as far as that depends on the time alone."""
        if self.is_running or self.is_waiting_for_mail or self.up_link() is None:
            return None
        due = self._ledger.next_time()
        return None if due == NEVER else self._clock.now() + timedelta(seconds=max(0.0, due - self._clock.boottime()))

    def links_in_words(self) -> str:
        """Why no link of it can be used."""
        verdicts = self._tools.verdicts()
        found = [verdicts[name] for name in self.section.links if name in verdicts]
        return "; ".join(f"link {one.link} is {one.state.value}: {one.reason}" for one in found) or "it has no link"

    # --- the task

    async def run(self) -> None:
        """Goes on until it is to end, or its scope is cancelled."""
        if self._predecessor is not None:  # also when this one is over before it begins: it may have a successor
            await self._predecessor.has_ended.wait()
            self._predecessor = None
        with self.scope:
            try:
                await self._without_fault(self._ledger.recall)
                while not self._is_ending:
                    await self._without_fault(self._fetch_next)
            finally:
                with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                    if self._retriever is not None:
                        await self._retriever.aclose()
                self.has_ended.set()
                for request in self._requests:
                    request.finish(_BROKEN_OFF)
                self._requests.clear()

    async def _without_fault(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does something; a fault of ours costs a while, and never the daemon."""
        try:
            await work()
        except Exception as error:
            self._tools.visitor.meaning_of(error)
            await self._clock.sleep(FAULT_SECONDS)

    async def _fetch_next(self) -> None:
        self.current = request = await self._next()
        try:
            await self._fetch(request)
        finally:
            self.current = None
            request.finish(_BROKEN_OFF)  # unless it has ended
            if request in self._requests:
                self._requests.remove(request)

    async def _next(self) -> Request:
        """Waits until it is to be fetched."""
        while not self._requests:
            self._wake = wake = anyio.Event()
            if self.up_link() is None:
                await wake.wait()
                continue
            if (order := self._ledger.next_order()) is not None:
                return self.ask(order)
            waits: list[Wait] = [wake.wait]
            if (due := self._ledger.next_time()) != NEVER:
                waits.append(partial(self._clock.sleep, due - self._clock.boottime()))
            if self.section.interval is Trigger.IDLE and self._ledger.due == NEVER:
                waits.append(self._wait_for_mail)
            await first_of(*waits)
        return self._requests[0]

    async def _wait_for_mail(self) -> None:
        """Until the server has mail; then, and when the connection is lost, it is to be fetched at once."""

        async def wait(account: Account) -> None:
            await self._get_retriever().wait_for_mail(account)

        began = self._clock.boottime()
        try:
            await self._visit(wait, lambda: 0)
        except ConnectionDead:
            pass
        except FetchFailure as failure:
            await self._ledger.failed(failure, Tally())
            return
        now, gap = self._clock.boottime(), IDLE_GAP.total_seconds()
        self._vain = self._vain + 1 if now - began < gap else 0
        self._ledger.due = now if self._vain <= MAX_VAIN else now + gap

    async def _fetch(self, request: Request) -> None:
        """Answers one request, when it is its turn; begins anew when the connection dies over a suspend."""
        for _ in range(MAX_RESTARTS):
            link = self._link_for_request()
            if not link:
                request.finish(End(reason=self.links_in_words(), culprit=Culprit.LINK))
                return
            async with self._turn(link):
                if request in self._requests:
                    self._requests.remove(request)
                if await self._attempt(request) or self._is_ending:
                    return
        failure = FetchFailure("the connection died again and again")
        request.finish(await self._ledger.ended(request.order, failure, request.before))

    @asynccontextmanager
    async def _turn(self, link: str) -> AsyncIterator[None]:
        """Waits until there are few who are fetched over this link, but not for ever."""
        slot, has_slot = self._tools.slot(link), False

        async def acquire() -> None:
            nonlocal has_slot
            await slot.acquire()
            has_slot = True

        self.link, self.is_queued = link, True
        try:
            await within(self._clock, PATIENCE_SECONDS, acquire)
            self.is_queued = False
            yield
        finally:
            self.is_queued, self.link = False, ""
            if has_slot:
                slot.release()

    def _link_for_request(self) -> str | None:
        """A link that is up; else one of which nobody knows, since somebody asks for it."""
        verdicts = self._tools.verdicts()
        known = [verdicts[name] for name in self.section.links if name in verdicts]
        for state in (LinkState.UP, LinkState.UNKNOWN):
            for verdict in known:
                if verdict.state is state:
                    return verdict.link
        return None

    async def _attempt(self, request: Request) -> bool:
        """Fetches; False when the connection died while there is a link, so that it should be begun anew."""
        self.inbox = inbox = self._tools.make_inbox(self.section)
        failure: FetchFailure | None = None
        try:
            await self._visit(lambda account: self._work(account, inbox, request.order), lambda: inbox.signs)
        except ConnectionDead:
            if self.up_link() is not None:
                request.before = joined(request.before, inbox.tally)
                return False
            failure = FetchFailure("the link went down", Culprit.LINK)
        except FetchFailure as error:
            failure = error
        finally:
            self.inbox = None
            inbox.close()
        tally = joined(request.before, inbox.tally)
        if inbox.is_closing:
            if tally.taken:
                self._ledger.note_taken(tally)
            request.finish(replace(_BROKEN_OFF, tally=tally))
            return True
        self._vain = 0 if tally.taken else self._vain
        request.finish(await self._ledger.ended(request.order, failure, tally))
        return True

    async def _work(self, account: Account, inbox: FetchInbox, order: Order) -> None:
        if not self._is_prepared:
            await self._tools.prepare(self.section.name)
            self._is_prepared = True
        if not self._tools.spool.has_room(0):
            raise FetchFailure("there is no room for more mail: the disk of the queue is nearly full", Culprit.LOCAL)
        if not inbox.is_closing:
            await self._get_retriever().fetch(account, inbox, order)

    async def _visit(self, work: Callable[[Account], Awaitable[None]], signs: Callable[[], int]) -> None:
        await self._tools.visitor.visit(
            self.section, work, signs=signs, has_link=lambda: not self._is_down, link_news=self._news
        )

    def _get_retriever(self) -> Retriever:
        """Made when it is first needed: what is missing for it is a failure of the fetch."""
        if self._retriever is None:
            self._retriever = self._tools.make_retriever(self.section.protocol)
        return self._retriever

    @property
    def _is_down(self) -> bool:
        """Whether every link of it is known to be down."""
        verdicts = self._tools.verdicts()
        states = [verdicts[name].state for name in self.section.links if name in verdicts]
        return all(state is LinkState.DOWN for state in states)
