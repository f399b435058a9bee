"""The fetching half of the daemon in memory: servers, links and a clock that are what the test says."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio

from masqmail.config.fetch import FetchProtocol, FetchSection
from masqmail.daemon.fetch.accounts import Secrets
from masqmail.daemon.fetch.fetcher import Fetcher
from masqmail.daemon.fetch.inbox import FetchInbox
from masqmail.daemon.fetch.notices import FetchNotices
from masqmail.daemon.fetch.replies import FetchReplies, Orders
from masqmail.daemon.fetch.tools import Tools
from masqmail.daemon.fetch.visit import Visitor
from masqmail.daemon.secrets import SecretSource
from masqmail.mail.outcome import Culprit
from masqmail.proto.sasl import Secret
from masqmail.retrieval.account import Account, FetchFailure, Found, Inbox, Order, Retriever
from masqmail.routing.link import LinkState
from masqmail.spool.api import FetchFate, FetchMark, Uid
from support.assembly import Assembly, rules
from support.configuration import configuration

HEADER = b"From: Bob <bob@far.example>\r\nSubject: Holiday pictures\r\nDate: Sat, 21 Nov 2026 10:00:00 +0100\r\n"

ACCOUNT = """
[fetch.{name}]
protocol = "{protocol}"
server = "pop.{name}.example"
username = "ann"
password_file = "/secret/{name}"
links = ["{link}"]
"""


def account(name: str = "isp", *settings: str, link: str = "dsl", protocol: str = "pop3") -> str:
    """The text of one account."""
    return "\n".join((ACCOUNT.format(name=name, link=link, protocol=protocol), *settings)) + "\n"


def sections(*accounts: str) -> Mapping[str, FetchSection]:
    """Accounts as the configuration has them."""
    links = "".join(f'[links.{name}]\ndetect = "manual"\n' for name in ("dsl", "wifi"))
    return configuration(links + "".join(accounts)).fetch


@dataclass
class FakeServer:
    """A server of one account. Mail is there by UID with its size; `gate` holds up every fetch."""

    mail: dict[str, int] = field(default_factory=dict)
    failure: Exception | None = None
    password: str = "sesame 1"
    gate: anyio.Event | None = None
    news: anyio.Event = field(default_factory=anyio.Event)  # for `wait_for_mail`
    orders: list[Order] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    stubborn: set[str] = field(default_factory=set)  # what it lists and does not hand out
    cancelled: int = 0
    waits: int = 0
    wait_failure: Exception | None = None

    def announce(self) -> None:
        """Says that there is mail."""
        self.news.set()
        self.news = anyio.Event()


class FakeRetriever:
    """Takes what the server of an account has and is not marked."""

    def __init__(self, servers: Mapping[str, FakeServer]) -> None:
        self._servers = servers
        self.is_closed = False

    async def fetch(self, account: Account, inbox: Inbox, order: Order) -> None:
        server = self._servers[account.name]
        server.orders.append(order)
        server.accounts.append(account)
        marks = await inbox.marks()
        wanted = [uid for uid in order.uids or server.mail if order.uids or Uid("", uid) not in marks]
        inbox.tally.expected = len(wanted)
        try:
            if server.gate:
                await server.gate.wait()
            await anyio.lowlevel.checkpoint()
        except anyio.get_cancelled_exc_class():
            server.cancelled += 1
            raise
        if server.failure:
            raise server.failure
        for uid in wanted:
            if inbox.is_closing:
                return
            if uid in server.stubborn:
                raise FetchFailure(f"the server refused {uid}")
            if uid in server.mail:
                await self._take(account, inbox, Found(Uid("", uid), server.mail[uid]), is_asked=bool(order.uids))
        if missing := [uid for uid in order.uids if uid not in server.mail]:
            raise FetchFailure(f"the server has no message {missing[0]}", Culprit.MESSAGE)

    async def _take(self, account: Account, inbox: Inbox, found: Found, *, is_asked: bool) -> None:
        if account.max_size is not None and found.size_bytes > account.max_size and not is_asked:
            inbox.tally.left += 1
            await inbox.leave(found, HEADER)
            return
        parcel = inbox.open(found)
        parcel.write(b"x" * min(found.size_bytes, 1000))
        await parcel.finish()
        inbox.tally.taken += 1
        inbox.tally.taken_bytes += found.size_bytes
        inbox.progress()

    async def wait_for_mail(self, account: Account) -> None:
        server = self._servers[account.name]
        server.waits += 1
        if server.wait_failure:
            raise server.wait_failure
        await server.news.wait()

    async def aclose(self) -> None:
        self.is_closed = True


class Room(Assembly):
    """An `Assembly` that fetches. Mail that was taken is in `taken`, by account and UID."""

    def __init__(self, *accounts: str, up: Collection[str] = ("dsl",), down: Collection[str] = ()) -> None:
        super().__init__(rules(), up=up, down=down)
        self.sections = sections(*accounts)
        self.servers: dict[str, FakeServer] = {name: FakeServer() for name in self.sections}
        self.retrievers: list[FakeRetriever] = []
        self.taken: list[tuple[str, str]] = []
        self.passwords: dict[str, str | Exception] = {}
        self.passwords_read = 0
        self.broken: list[BaseException] = []
        self.prepared: list[str] = []
        self.unprepared: Exception | None = None
        self.replies = FetchReplies(self.spool)
        self.notices = FetchNotices(self.desk, self.reporter, self.clock, lambda: self.sections, self.replies)
        self._slots: dict[str, anyio.Semaphore] = {}

    @property
    def server(self) -> FakeServer:
        """The only one."""
        (server,) = self.servers.values()
        return server

    @asynccontextmanager
    async def fetching(self) -> AsyncIterator["Room"]:
        """With all accounts being watched."""
        async with self.running(), anyio.create_task_group() as tasks:
            await self.replies.load()
            self.fetcher = Fetcher(tasks, self.tools())
            self.directory.replies = Orders(self.replies, self.fetcher, tasks, lambda: self.sections)
            self.fetcher.watch(self.sections)
            await self.settle()
            yield self
            tasks.cancel_scope.cancel()

    def tools(self) -> Tools:
        return Tools(
            spool=self.spool,
            visitor=Visitor(Secrets(self._read_password), self.clock, self.broken.append),
            prepare=self._prepare,
            make_retriever=self._make_retriever,
            make_inbox=self._make_inbox,
            verdicts=self.board.verdicts,
            slot=lambda link: self._slots.setdefault(link, anyio.Semaphore(4)),
            tell_of_failure=self.notices.tell_of_failure,
            tell_of_gone=self.notices.tell_of_gone,
        )

    async def change(self, *accounts: str) -> None:
        """A reload."""
        self.sections = sections(*accounts)
        for name in self.sections:
            self.servers.setdefault(name, FakeServer())
        self.fetcher.watch(self.sections)
        await self.settle()

    async def link(self, name: str, state: LinkState) -> None:
        self.board.states[name] = state
        self.fetcher.link_changed(self.board.verdicts()[name])
        await super().link(name, state)

    async def suspend(self, time: timedelta) -> None:
        """The lid is closed for so long."""
        self.clock.suspend(time)
        await self.settle()

    async def fetch(self, *names: str, messages: Collection[str] = ()) -> list[Any]:
        """What somebody sees who says fetch."""
        found = self.fetcher.names(names)
        return [document async for document in self.fetcher.fetch(found, tuple(messages))]

    async def ended(self, *names: str, messages: Collection[str] = ()) -> dict[str, tuple[str, str]]:
        """How that ends for each account: state and reason."""
        documents = await self.fetch(*names, messages=messages)
        return {
            document["account"]: (document["state"], document["reason"])
            for document in documents
            if document["state"] in ("done", "failed")
        }

    def status(self, name: str = "isp") -> Any:
        """What the status says of an account."""
        return next(one for one in self.fetcher.documents() if one["name"] == name)

    def state(self, name: str = "isp") -> tuple[str, str]:
        found = self.status(name)
        return found["state"], found["reason"]

    # --- the tools

    async def _read_password(self, source: SecretSource) -> Secret:
        self.passwords_read += 1
        found = self.passwords.get(source.file.name if source.file else "command", "sesame 1")
        if isinstance(found, Exception):
            raise found
        return Secret(found)

    async def _prepare(self, account: str) -> None:
        self.prepared.append(account)
        if self.unprepared:
            raise self.unprepared

    def _make_retriever(self, protocol: FetchProtocol) -> Retriever:
        self.retrievers.append(FakeRetriever(self.servers))
        return self.retrievers[-1]

    def _make_inbox(self, section: FetchSection) -> FetchInbox:
        def taken(found: Found) -> None:
            self.taken.append((section.name, found.uid.uid))

        async def mark(found: Found) -> None:
            mark = FetchMark(section.name, found.uid, FetchFate.TAKEN, self.clock.now(), found.size_bytes)
            await self.spool.mark_fetched([mark])
            taken(found)

        return FetchInbox(section.name, self.spool, self.clock, self.notices, lambda found: _Parcel(found, mark))


class _Parcel:
    """One message on its way into the list of those that were taken."""

    def __init__(self, found: Found, finished: Callable[[Found], Any]) -> None:
        self._found = found
        self._finished = finished

    def write(self, data: bytes) -> None:
        pass

    async def finish(self) -> str:
        await self._finished(self._found)
        return "id"

    def discard(self) -> None:
        pass
