"""The middle of the daemon in memory: scheduler, lanes and desk over a `MemorySpool`, links and peers of the test.

Nothing waits for real time: `settle` returns when every task waits, and `advance` lets time pass.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio

from masqmail.config.routes import RouteSection
from masqmail.daemon.aliasfiles import AliasFiles
from masqmail.daemon.desk import Desk
from masqmail.daemon.directory import LOCAL_CLASS, Directory
from masqmail.daemon.housekeeping import Housekeeper
from masqmail.daemon.lanes import Lanes
from masqmail.daemon.pauses import Pauses
from masqmail.daemon.reports import Reporter
from masqmail.daemon.resolver import Resolver
from masqmail.daemon.rules import Rules
from masqmail.daemon.scheduler import Scheduler
from masqmail.daemon.secrets import SecretSource
from masqmail.daemon.transport import Transports
from masqmail.delivery.connect import Memory, Options
from masqmail.delivery.job import Content, Feed, LocalJob, Transaction
from masqmail.delivery.smtp import SessionEnd
from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, NotTried, Outcome
from masqmail.mail.status import OK, Status
from masqmail.net.fake import FakeResolver
from masqmail.proto.sasl import Secret
from masqmail.routing.decide import MessageFacts, classify
from masqmail.routing.link import ALWAYS, LinkState, Verdict
from masqmail.routing.local import LocalDomains
from masqmail.routing.route import Route, Way
from masqmail.routing.schedule import Lifetime, RetrySchedule
from masqmail.settings import HostPort
from masqmail.spool.api import Lease, NewMessage, NewRecipient, StoredRecipient, TargetKind
from masqmail.spool.memory import MemorySpool
from masqmail.spool.queueid import QueueIds
from masqmail.spool.states import State
from masqmail.system.accounts import Account
from masqmail.system.clock import FakeClock

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
RETRY = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 30, 60))
HOP = HostPort("mail.isp.example", 587)
BACKUP_HOP = HostPort("backup.isp.example", 587)
GREYLISTED = Status(450, "4.7.1", "Come back later")
NO_SUCH_USER = Status(550, "5.1.1", "No such user")


def smarthost(name: str = "isp", links: Sequence[str] = ("dsl",), **changes: Any) -> Route:
    return replace(Route(name, tuple(links), Way.SMARTHOST), **changes)


def direct(name: str = "mx", links: Sequence[str] = ("dsl",), **changes: Any) -> Route:
    return replace(Route(name, tuple(links), Way.DIRECT), **changes)


def rules(*routes: Route, hops: Sequence[HostPort] = (HOP,), **changes: Any) -> Rules:
    """Rules of a host with the users root and ann, whose routes go to the same next hops."""
    values: dict[str, Any] = {
        "host_name": "gw.home.example",
        "routes": routes,
        "next_hops": {route.name: tuple(hops) for route in routes if route.way is Way.SMARTHOST},
        "local": LocalDomains("gw.home.example", ("localhost", "home.example", "gw.home.example")),
        "schedule": RetrySchedule(RETRY),
        "lifetime": Lifetime((4 * HOUR, DAY), 5 * DAY),
        "postmaster": Mailbox("root"),
        "generation": "1",
    }
    return Rules(**{**values, **changes})


#: Rounds of the event loop in which everything a test starts must have come to rest.
MOST_STEPS = 20_000


class FakeBoard:
    """Links that are what the test says."""

    def __init__(self, clock: FakeClock, up: Collection[str], down: Collection[str]) -> None:
        self._clock = clock
        self.states = {ALWAYS: LinkState.UP, **dict.fromkeys(up, LinkState.UP), **dict.fromkeys(down, LinkState.DOWN)}

    def verdicts(self) -> dict[str, Verdict]:
        now = self._clock.now()
        return {name: Verdict(name, state, f"it is {state.value}", now) for name, state in self.states.items()}


class FakeAccounts:
    """A few users. With `failure` nobody can be looked up."""

    only_name = ""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.failure: OSError | None = None

    def find(self, name: str) -> Account | None:
        if self.failure:
            raise self.failure
        return Account(name, 1000, 1000, f"/home/{name}", "/bin/sh") if name in self.names else None

    def by_uid(self, uid: int) -> Account | None:
        return None


class CountingSpool(MemorySpool):
    """Counts how often somebody asked for work."""

    leases_asked = 0

    def lease(self, *args: Any, **kwargs: Any) -> Any:
        self.leases_asked += 1
        return super().lease(*args, **kwargs)


#: What a peer says to one recipient of a transaction.
Answer = Callable[[Transaction, str], Outcome]


def takes_all(transaction: Transaction, address: str) -> Outcome:
    return Delivered(OK, "mail.isp.example", Handover.RELAYED)


def says(status: Status, culprit: Culprit = Culprit.RECIPIENT) -> Answer:
    """A peer that answers every recipient the same."""

    def answer(transaction: Transaction, address: str) -> Outcome:
        kind = Deferred if status.is_temporary else Failed
        reason = f"mail.isp.example refused the recipient: {status}"
        return kind(status, culprit, reason, "mail.isp.example", said_by_peer=True)

    return answer


class FakePeers:
    """Stands for `delivery.smtp.send`. `ends` has what connections to a host come to that takes no mail."""

    def __init__(self) -> None:
        self.answer: Answer = takes_all
        self.ends: dict[str, SessionEnd | Exception] = {}
        self.calls: list[str] = []
        self.taken: list[tuple[str, str]] = []  # queue ID and recipient, of all that was delivered
        self.gate: anyio.Event | None = None  # every transaction waits for it …
        self.begins_late = False  # … before its last byte has left, not for its answer
        self.options: list[Options] = []
        self.feeds: list[Feed] = []

    async def send(self, next_hop: HostPort, options: Options, feed: Feed, memory: Memory) -> SessionEnd:
        self.calls.append(next_hop.host)
        self.options.append(options)
        self.feeds.append(feed)
        end = self.ends.get(next_hop.host)
        if isinstance(end, Exception):
            raise end
        if end is not None:
            return end
        while transactions := await feed.take(max_transactions=8, max_bytes=1 << 20):
            await self._handle(feed, transactions)
        return SessionEnd(progress=True)

    async def _handle(self, feed: Feed, transactions: Sequence[Transaction]) -> None:
        left = list(transactions)
        try:
            if not self.begins_late:
                await feed.begin(transactions)
            if self.gate:
                await self.gate.wait()
            if self.begins_late:
                await feed.begin(transactions)
            while left:
                transaction = left.pop(0)
                addresses = [str(recipient.mailbox) for recipient in transaction.envelope.recipients]
                outcomes = [self.answer(transaction, address) for address in addresses]
                for address, outcome in zip(addresses, outcomes, strict=True):
                    if isinstance(outcome, Delivered):
                        self.taken.append((transaction.queue_id, address))
                feed.settle(transaction, outcomes)
        finally:
            for transaction in left:
                stopped = NotTried(Culprit.LINK, "sending was stopped")
                feed.settle(transaction, [stopped] * len(transaction.envelope.recipients))


class FakeAgent:
    """Delivers into a list; `answer` may wait or raise."""

    def __init__(self) -> None:
        self.jobs: list[LocalJob] = []
        self.contents: list[Content] = []
        self.answer: Callable[[LocalJob], Any] | None = None

    async def deliver(self, job: LocalJob, content: Content) -> Outcome:
        if self.answer:
            outcome = await self.answer(job)
            if outcome is not None:
                return outcome  # type: ignore[no-any-return]
        self.jobs.append(job)
        self.contents.append(content)
        return Delivered(OK, handover=Handover.MAILBOX)


class Assembly:
    """Everything, put together as `daemon.wiring` does it. Use `running` to start the scheduler."""

    def __init__(
        self,
        the_rules: Rules,
        *,
        up: Collection[str] = ("dsl",),
        down: Collection[str] = (),
        aliases: Sequence[Path] = (),
        spool: MemorySpool | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        self.clock = clock or FakeClock()
        self.spool = spool or CountingSpool(self.clock.now)
        self.board = FakeBoard(self.clock, up, down)
        self.accounts = FakeAccounts("root", "ann", "joe")
        self.directory = Directory(the_rules, AliasFiles(aliases), self.accounts)
        self.queue_ids = QueueIds()
        self.reporter = Reporter(self.directory, self.clock, self.queue_ids)
        self.troubles: list[BaseException] = []
        self.desk = Desk(self.directory, self.reporter, self.spool, self.clock, self.troubles.append)
        self.pauses = Pauses(self.clock, the_rules.schedule)
        self.scheduler = Scheduler(the_rules, self.spool, self.board, self.pauses, self.clock)  # type: ignore[arg-type]
        self.desk.ways = self.scheduler
        self.resolver = Resolver(self.directory, self.reporter, self.scheduler.note_classes)
        self.housekeeper = Housekeeper(self.scheduler, self.pauses, self.desk, self.spool, self.clock)
        self.peers, self.agent, self.names = FakePeers(), FakeAgent(), FakeResolver()
        self.secret: Secret | Exception = Secret("sesame")
        self.secrets_read = 0
        self.lanes = Lanes(
            self.spool,
            self.desk,
            self.pauses,
            self.transports(),
            self.agent,
            self.names,
            send=self.peers.send,
        )

    def transports(self, **sections: Any) -> Transports:
        """Transports for all routes; `sections` are settings that all of them have."""
        routes = self.directory.rules.routes
        values = {route.name: RouteSection(name=route.name, smarthost=(HOP,), **sections) for route in routes}
        return Transports(values, "gw.home.example", self._read_secret)

    async def _read_secret(self, source: SecretSource) -> Secret:
        self.secrets_read += 1
        if isinstance(self.secret, Exception):
            raise self.secret
        return self.secret

    @property
    def rules(self) -> Rules:
        return self.directory.rules

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Assembly"]:
        """With the scheduler at work; what is left at the end is given back."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.scheduler.run, self.lanes.run, self.desk.end_runs)
            await self.settle()
            yield self
            tasks.cancel_scope.cancel()
        await self.desk.finish()
        assert State.LEASED not in self.states(), "something stayed leased"
        assert self.troubles == []

    async def settle(self) -> None:
        """Returns when every task waits for something outside. What spins is a failure."""
        loop: Any = asyncio.get_running_loop()
        for _ in range(MOST_STEPS):
            await asyncio.sleep(0)
            if not loop._ready:
                return
        raise AssertionError("somebody spins")

    async def advance(self, time: timedelta, step: timedelta = MINUTE) -> None:
        """Lets time pass in steps, as the scheduler would see it."""
        while time > timedelta(0):
            self.clock.advance(min(step, time))
            time -= step
            await self.settle()

    async def link(self, name: str, state: LinkState) -> None:
        self.board.states[name] = state
        self.scheduler.links_changed([name] if state is LinkState.UP else [])
        await self.settle()

    # --- mail

    def remote(self, address: str, *, mark: str = "", **changes: Any) -> NewRecipient:
        """A recipient elsewhere, in the class that the rules give it."""
        mailbox = parse_mailbox(address)
        facts = MessageFacts(Mailbox("ann", "home.example"), (), 100)
        route_class = classify(facts, mailbox, self.rules.routes, self.rules.generation).marked(mark)
        domain = mailbox.domain_key
        return NewRecipient(address, address, TargetKind.REMOTE, route_class, domain, **changes)

    def local(self, target: str, kind: TargetKind = TargetKind.MAILBOX, **changes: Any) -> NewRecipient:
        return NewRecipient(target, f"{target.strip('|/')}@home.example", kind, LOCAL_CLASS, **changes)

    async def accept(
        self, queue_id: str, *recipients: NewRecipient | str, tell: bool = True, **changes: Any
    ) -> NewMessage:
        """Stores a message; bare addresses are remote recipients."""
        found = [self.remote(item) if isinstance(item, str) else item for item in recipients]
        values: dict[str, Any] = {
            "reverse_path": Mailbox("ann", "home.example"),
            "header": b"Subject: hello\r\nMessage-ID: <1@home.example>\r\n",
            "body": b"Hello\r\n",
            "received_at": self.clock.now(),
            "received_from": "ann (uid 1000)",
            "protocol": "local",
        }
        message = NewMessage(queue_id, recipients=found, **{**values, **changes})
        await self.spool.accept([message])
        if tell:
            self.scheduler.note_classes({item.route_class for item in found})
            await self.settle()
        return message

    async def lease_all(self) -> list[Lease]:
        """All that waits, leased by the test."""
        return await self.spool.lease("test", await self.spool.classes(), now=self.clock.now(), max_messages=1000)

    def states(self, queue_id: str = "") -> list[State]:
        return [place.state for place in self.recipients(queue_id)]

    def recipients(self, queue_id: str = "") -> list[StoredRecipient]:
        """Every recipient in the queue, or those of a message."""
        return [
            self.spool._read(place)  # a look without an await
            for name, custody in self.spool._queue.items()
            for place in custody.places.values()
            if queue_id in ("", name)
        ]

    def reports(self) -> list[tuple[str, str]]:
        """The reports and notices among the local deliveries: recipient and text."""
        return [
            (job.target, (content.header + b"\r\n" + bytes(content.body)).decode())
            for job, content in zip(self.agent.jobs, self.agent.contents, strict=True)
            if isinstance(content.body, bytes) and b"mailer-daemon@" in content.header
        ]
