"""One account while the daemon runs: when it is fetched, over which link, and what is known of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from logging import WARNING

import anyio

from masqmail.config.fetch import FetchProtocol, FetchSection, Trigger
from masqmail.daemon.fetchinbox import FetchInbox
from masqmail.daemon.fetchrequest import End, Request, summary
from masqmail.daemon.fetchschedule import wait_after
from masqmail.daemon.fetchstanding import Standing, recall, remember
from masqmail.daemon.fetchvisit import ConnectionDead, LinkNews, Visitor
from masqmail.mail.outcome import Culprit
from masqmail.retrieval.account import Account, FetchFailure, Order, Retriever, Tally
from masqmail.routing.link import LinkState, Verdict
from masqmail.spool.api import Spool
from masqmail.system.events import FETCH_FAILED, MAIL_FETCHED, emit

#: How long a retriever may take to close its connection.
CLOSE_SECONDS = 3.0

#: A server that announces mail at once each time, and never has any, is asked so often.
IDLE_GAP = timedelta(seconds=10)

NEVER = float("inf")

#: How long to wait after a fault of ours.
FAULT_SECONDS = 60.0

#: How often one request is begun anew because its connection died over a suspend.
MAX_RESTARTS = 3


_BROKEN_OFF = End(reason="it was broken off: the program ends, or the account has changed")


@dataclass(frozen=True, slots=True)
class Tools:
    """What the tasks of all accounts work with."""

    spool: Spool
    visitor: Visitor
    prepare: Callable[[str], Awaitable[None]]  # what comes before the first fetch of an account
    make_retriever: Callable[[FetchProtocol], Retriever]
    make_inbox: Callable[[FetchSection], FetchInbox]
    verdicts: Callable[[], Mapping[str, Verdict]]
    slot: Callable[[str], anyio.Semaphore]  # of a link
    tell_of_failure: Callable[[FetchSection, Standing], Awaitable[bool]]
    tell_of_gone: Callable[[FetchSection, str], Awaitable[None]]


class AccountTask:
    """Fetches one account for as long as it is configured as it is."""

    def __init__(self, section: FetchSection, tools: Tools) -> None:
        self.section = section
        self.standing = Standing()
        self.scope = anyio.CancelScope()
        self.is_started = False
        self.current: Request | None = None  # the one that is being answered
        self.inbox: FetchInbox | None = None  # of the fetch that runs
        self.is_queued = False  # behind others over the same link
        self.link = ""  # of the fetch that runs, or waits for its turn
        self._tools = tools
        self._clock = tools.visitor.clock
        self._retriever: Retriever | None = None
        self._requests: list[Request] = []
        self._due = self._clock.boottime()
        self._wake = anyio.Event()
        self._news = LinkNews()

    # --- what others tell and ask it

    def ask(self, order: Order) -> Request:
        """Has it fetched now, whatever it waits for; one request for all who ask before it begins."""
        for request in self._requests:
            if request.order == order:
                return request
        request = Request(order)
        self._requests.append(request)
        self._wake.set()
        return request

    async def want(self, uid: str) -> None:
        """Has one message fetched as soon as it can be, remembered until then."""
        if uid not in self.standing.wanted:
            self.standing.wanted.append(uid)
            await self._remember()
        self._wake.set()

    def link_changed(self, verdict: Verdict) -> None:
        """One of its links did. When it came up mail is fetched at once, unless the password is the trouble."""
        if verdict.is_up:
            self.standing.failing_since = self._clock.monotonic()
            if not self.standing.is_refused:
                self._due = self._clock.boottime()
        self._news.tell()
        self._wake.set()

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
        if self.is_manual or self.is_running or self.is_waiting_for_mail or self.up_link() is None:
            return None
        return self._clock.now() + timedelta(seconds=max(0.0, self._due - self._clock.boottime()))

    def links_in_words(self) -> str:
        """Why no link of it can be used."""
        verdicts = self._tools.verdicts()
        found = [verdicts[name] for name in self.section.links if name in verdicts]
        return "; ".join(f"link {one.link} is {one.state.value}: {one.reason}" for one in found) or "it has no link"

    # --- the task

    async def run(self) -> None:
        """Goes on until its scope is cancelled."""
        with self.scope:
            try:
                await self._without_fault(self._prepare)
                while True:
                    await self._without_fault(self._fetch_next)
            finally:
                for request in self._requests:
                    request.finish(_BROKEN_OFF)
                self._requests.clear()
                with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                    if self._retriever is not None:
                        await self._retriever.aclose()

    async def _prepare(self) -> None:
        """What comes before the first fetch."""
        self.standing = await recall(self._tools.spool, self.section.name, self._clock.monotonic())
        await self._tools.prepare(self.section.name)

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
            self._wake = anyio.Event()
            is_possible = (not self.is_manual or bool(self.standing.wanted)) and self.up_link() is not None
            is_due = self._due <= self._clock.boottime()
            if is_possible and self.standing.wanted and (is_due or not self.standing.failures):
                return self.ask(Order((self.standing.wanted[0],)))
            if is_possible and is_due:
                return self.ask(Order())
            if is_possible and self._due == NEVER:
                await self._or_wake(self._wait_for_mail)
            elif is_possible:
                await self._or_wake(self._sleep)
            else:
                await self._wake.wait()
        return self._requests[0]

    async def _or_wake(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Waits so, or until there is news."""
        async with anyio.create_task_group() as group:

            async def end_with_news() -> None:
                await self._wake.wait()
                group.cancel_scope.cancel()

            group.start_soon(end_with_news)
            await wait()
            group.cancel_scope.cancel()

    async def _sleep(self) -> None:
        await self._clock.sleep(self._due - self._clock.boottime())

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
            await self._failed(failure, Tally())
            return
        now, gap = self._clock.boottime(), IDLE_GAP.total_seconds()
        self._due = now if now - began >= gap else now + gap

    async def _fetch(self, request: Request) -> None:
        """Answers one request, when it is its turn; begins anew when the connection dies over a suspend."""
        for _ in range(MAX_RESTARTS):
            link = self._link_for_request()
            if not link:
                request.finish(End(reason=self.links_in_words(), culprit=Culprit.LINK))
                break
            self.link, self.is_queued = link, True
            try:
                async with self._tools.slot(link):
                    self.is_queued = False
                    if request in self._requests:
                        self._requests.remove(request)
                    if await self._attempt(request):
                        break
            finally:
                self.is_queued, self.link = False, ""
        else:
            await self._end(request, FetchFailure("the connection died again and again"), Tally())

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

        async def fetch(account: Account) -> None:
            await self._get_retriever().fetch(account, inbox, request.order)

        failure: FetchFailure | None = None
        try:
            await self._visit(fetch, lambda: inbox.signs)
        except ConnectionDead:
            if self.up_link() is not None:
                return False
            failure = FetchFailure("the link went down", Culprit.LINK)
        except FetchFailure as error:
            failure = error
        finally:
            self.inbox = None
            inbox.close()
        await self._end(request, failure, inbox.tally)
        return True

    async def _visit(self, work: Callable[[Account], Awaitable[None]], signs: Callable[[], int]) -> None:
        await self._tools.visitor.visit(
            self.section, work, signs=signs, has_link=lambda: not self._is_down, link_news=self._news
        )

    def _get_retriever(self) -> Retriever:
        """Made when it is first needed: what is missing for it is a failure of the fetch."""
        if self._retriever is None:
            self._retriever = self._tools.make_retriever(self.section.protocol)
        return self._retriever

    # --- how it ended

    async def _end(self, request: Request, failure: FetchFailure | None, tally: Tally) -> None:
        if failure is None and request.order.uids and not (tally.taken or tally.refused):
            failure = FetchFailure(f"the server has no message {', '.join(request.order.uids)}", Culprit.MESSAGE)
        is_about_message = failure is not None and failure.culprit is Culprit.MESSAGE and bool(request.order.uids)
        if failure is None or is_about_message:
            await self._is_no_more_wanted(request.order, is_gone=failure is not None)
        if failure is None:
            await self._succeeded(tally, is_all=not request.order.uids)
            request.finish(End(tally))
            return
        if not is_about_message:
            await self._failed(failure, tally)
        request.finish(End(tally, failure.reason, failure.culprit))

    async def _is_no_more_wanted(self, order: Order, *, is_gone: bool) -> None:
        """Somebody had asked for this message by a reply: it was fetched, or there is no such message any more."""
        uids = [uid for uid in order.uids if uid in self.standing.wanted]
        if uids:
            self.standing.wanted = [uid for uid in self.standing.wanted if uid not in uids]
            await self._remember()
            if is_gone:
                await self._tools.tell_of_gone(self.section, uids[0])

    async def _succeeded(self, tally: Tally, *, is_all: bool) -> None:
        is_news = bool(self.standing.failures or tally.taken)
        if is_news or tally.deleted:
            emit(
                MAIL_FETCHED,
                account=self.section.name,
                taken=tally.taken,
                size_bytes=tally.taken_bytes,
                left=tally.left or None,
                refused=tally.refused or None,
                deleted=tally.deleted or None,
            )
        if is_all:
            interval = self.section.interval
            wait = interval.total_seconds() if isinstance(interval, timedelta) else NEVER
            self._due = self._clock.boottime() + wait
        self.standing.note_success(summary(End(tally)), self._clock.now())
        if is_news:
            await self._remember()

    async def _failed(self, failure: FetchFailure, tally: Tally) -> None:
        """The next attempt waits for its time, or for a link if there is none: then nothing else has failed."""
        standing = self.standing
        if self._is_down and failure.culprit is not Culprit.LOGIN:
            standing.reason = failure.reason
            self._due = self._clock.boottime()
            return
        standing.note_failure(
            failure.reason,
            failure.culprit,
            got_on=bool(tally.taken),
            monotonic=self._clock.monotonic(),
            now=self._clock.now(),
        )
        wait = wait_after(standing.failures, failure.culprit, self.section.interval)
        self._due = self._clock.boottime() + wait.total_seconds()
        emit(
            FETCH_FAILED,
            level=WARNING,
            account=self.section.name,
            culprit=failure.culprit.value,
            reason=failure.reason,
            taken=tally.taken,
        )
        if not standing.is_told and await self._tools.tell_of_failure(self.section, standing):
            standing.is_told = True
        await self._remember()

    @property
    def _is_down(self) -> bool:
        """Whether every link of it is known to be down."""
        verdicts = self._tools.verdicts()
        states = [verdicts[name].state for name in self.section.links if name in verdicts]
        return all(state is LinkState.DOWN for state in states)

    async def _remember(self) -> None:
        await remember(self._tools.spool, self.section.name, self.standing)
