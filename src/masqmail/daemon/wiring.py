"""Puts the program together. The one place that knows every class.

`Daemon` is made for one configuration and runs until it is told to stop; `reconfigure` gives it another one, whole
or not at all.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from masqmail.config.model import Configuration, Sending
from masqmail.config.routes import RouteSection
from masqmail.daemon import views
from masqmail.daemon.agent import ParentAgent, ThreadAgent
from masqmail.daemon.aliasfiles import AliasFiles
from masqmail.daemon.certificate import load_certificate
from masqmail.daemon.control import Control, Masters
from masqmail.daemon.desk import Desk
from masqmail.daemon.directory import Directory
from masqmail.daemon.groups import groups_of
from masqmail.daemon.housekeeping import Housekeeper
from masqmail.daemon.lanes import Lanes
from masqmail.daemon.listeners import Listeners
from masqmail.daemon.localsettings import local_settings_of, mailstores_of, programs_of
from masqmail.daemon.manual import ManualLinks
from masqmail.daemon.odmrserver import OdmrServer
from masqmail.daemon.operator import Operator
from masqmail.daemon.pauses import Pauses
from masqmail.daemon.policy import LocalUsers, NetworkPolicy, SubmissionPolicy
from masqmail.daemon.reports import Reporter
from masqmail.daemon.resolver import Resolver
from masqmail.daemon.rules import Rules
from masqmail.daemon.scheduler import Scheduler
from masqmail.daemon.secrets import SecretReader
from masqmail.daemon.texts import texts_of
from masqmail.daemon.transport import Transports
from masqmail.links import DETECTORS
from masqmail.links.board import LinkBoard
from masqmail.links.detector import Detector
from masqmail.net.dns import Resolver as NameResolver
from masqmail.net.dns import SystemResolver
from masqmail.net.listen import bind_tcp
from masqmail.net.stream import Stream
from masqmail.reception.pickup import Pickup
from masqmail.reception.smtp import Service
from masqmail.routing.link import Verdict
from masqmail.routing.local import LocalDomains
from masqmail.routing.route import RouteClass
from masqmail.routing.schedule import Lifetime, RetrySchedule
from masqmail.settings import HostPort, Pattern
from masqmail.spool.api import Spool
from masqmail.spool.intake import Intake, IntakeSettings
from masqmail.spool.queueid import QueueIds
from masqmail.spool.sqlite import SqliteSpool
from masqmail.system.accounts import Accounts, SingleAccount, SystemAccounts
from masqmail.system.clock import Clock, SystemClock
from masqmail.system.events import MESSAGE_RECEIVED, SPOOL_BROKEN, SPOOL_RECOVERED, emit, gathering
from masqmail.system.watch import Watcher

if TYPE_CHECKING:
    from masqmail.daemon.fetch.fetcher import Fetcher

#: How long running transactions may take when the program is told to stop.
GRACE_SECONDS = 10.0


def rules_of(configuration: Configuration) -> Rules:
    """The configuration as policy asks it."""
    host, queue, local = configuration.host, configuration.queue, configuration.local
    return Rules(
        host_name=host.name,
        routes=configuration.policies,
        next_hops={name: _next_hops(section) for name, section in configuration.routes.items()},
        local=LocalDomains(
            host_name=host.name,
            domains=host.local_domains,
            local_addresses=tuple(Pattern(str(address)) for address in host.local_addresses),
            not_local_addresses=tuple(Pattern(str(address)) for address in host.not_local_addresses),
            recipient_delimiter=local.recipient_delimiter,
            match_case=local.match_case,
        ),
        schedule=RetrySchedule(queue.retry),
        lifetime=Lifetime(queue.warn_after, queue.give_up_after),
        postmaster=host.postmaster,
        generation=configuration.generation,
        sends_at_once=queue.deliver is Sending.AT_ONCE,
        archive_to=configuration.submission.archive_to,
        saves_envelope_to=local.save_envelope_to,
        connections={name: section.max_connections for name, section in configuration.routes.items()},
        programs=programs_of(configuration),
        forwards=local.forward_files,
        mailbox_of=mailstores_of(configuration),
    )


def _next_hops(section: RouteSection) -> tuple[HostPort, ...]:
    return tuple(HostPort(hop.host, section.port_for(hop)) for hop in section.smarthost)


def directory_of(configuration: Configuration) -> Directory:
    """Who an address is by this configuration, for a dry run without a daemon."""
    accounts = SystemAccounts() if os.geteuid() == 0 else SingleAccount()
    return Directory(rules_of(configuration), _alias_files(configuration), accounts)


def _alias_files(configuration: Configuration) -> AliasFiles:
    return AliasFiles(configuration.local.aliases, configuration.local.glob_aliases)


class Daemon:
    """The running program. `channel` leads to the privileged parent where there is one."""

    def __init__(
        self, configuration: Configuration, channel: socket.socket | None, clock: Clock | None = None
    ) -> None:
        self.configuration = configuration
        self.clock = clock or SystemClock()
        self._channel = channel
        self._broken: BaseException | None = None
        self._stop = anyio.Event()
        self.is_ready = anyio.Event()
        self.fetcher: Fetcher | None = None
        self.accounts: Accounts = SystemAccounts() if channel else SingleAccount()
        self.names: NameResolver = SystemResolver()

    def stop(self) -> None:
        """Ends `run` cleanly."""
        self._stop.set()

    async def run(self, on_ready: Callable[[], None]) -> int:
        """Runs until `stop`; `on_ready` is called when every listener accepts. Returns the exit status."""
        async with AsyncExitStack() as stack:
            stack.enter_context(gathering(asyncio.get_running_loop().call_soon))
            self.spool = await SqliteSpool.open(
                self.configuration.paths.spool, now=self.clock.now, monotonic=self.clock.monotonic
            )
            stack.push_async_callback(self.spool.close)
            await self._recover()
            async with anyio.create_task_group() as tasks:
                await self._assemble(self.spool, tasks)
                await self._start(tasks)
                self.is_ready.set()
                on_ready()
                await self._stop.wait()
                self.scheduler.close_lines()
                await self._let_finish()
                tasks.cancel_scope.cancel()
            await self.desk.finish()
        if self._broken is not None:
            emit(SPOOL_BROKEN, level=logging.CRITICAL, reason=str(self._broken))
            return os.EX_TEMPFAIL
        return os.EX_OK

    async def _let_finish(self) -> None:
        """Takes nothing new, and lets those who are at work finish for a while."""
        end = anyio.current_time() + GRACE_SECONDS
        async with anyio.create_task_group() as closing:
            closing.start_soon(self.listeners.close, GRACE_SECONDS)
            closing.start_soon(self._finish_sending, end)
            if self.fetcher is not None:
                closing.start_soon(self.fetcher.close)
        await self._finish_sending(end)  # what had been given out before and was begun meanwhile

    async def _finish_sending(self, end: float) -> None:
        """What is broken off while the other side may have taken it comes there twice."""
        if self._broken is None:
            with anyio.CancelScope(deadline=end):
                await self.scheduler.finish()

    async def _recover(self) -> None:
        now = self.clock.now()
        in_doubt = await self.spool.recover(now)
        await self.spool.clamp_due(now, max(self.configuration.queue.retry))
        if in_doubt:
            emit(SPOOL_RECOVERED, level=logging.WARNING, in_doubt=in_doubt)

    # --- made once

    async def _assemble(self, spool: Spool, tasks: TaskGroup) -> None:
        """Makes every part and tells each whom it works with."""
        self._tasks = tasks
        configuration, clock = self.configuration, self.clock
        rules = rules_of(configuration)
        self.directory = Directory(rules, _alias_files(configuration), self.accounts)
        queue_ids = QueueIds()
        self.reporter = reporter = Reporter(self.directory, clock, queue_ids)
        reporter.texts = texts_of(configuration.notices)
        self.desk = Desk(self.directory, reporter, spool, clock, self.note_trouble)
        self.board = LinkBoard(tasks, clock, self._link_changed)
        self.manual_links = ManualLinks(self.board, spool)
        self.pauses = Pauses(clock, rules.schedule)
        self.scheduler = Scheduler(rules, spool, self.board, self.pauses, clock)
        self.desk.ways = self.scheduler
        resolver = Resolver(self.directory, reporter, self._classes_accepted)
        told = partial(emit, MESSAGE_RECEIVED)
        self.intake = Intake(spool, resolver.resolve, clock, _intake_settings(configuration), told, queue_ids)
        self.agent = self._make_agent()
        self.secrets = SecretReader(self.agent if isinstance(self.agent, ParentAgent) else None)
        self.lanes = Lanes(spool, self.desk, self.pauses, self._transports(), self.agent, self.names)
        self.odmr = OdmrServer(self.scheduler, self.lanes, spool)
        self.users = LocalUsers(configuration, self.directory, SystemAccounts())
        self.local_service = Service(SubmissionPolicy(self.users), self.intake, clock)
        self.network_service = Service(await self._network_policy(configuration), self.intake, clock)
        self.operator = Operator(
            self.scheduler, spool, self.board, self.manual_links, self.pauses, self.directory, self.desk, clock
        )
        self.operator.fetch_accounts = self._fetch_accounts
        self.operator.problems.append(self._disk_problems)
        self.operator.problems.append(self.directory.forward_problems)
        masters = Masters(os.geteuid(), os.getegid())
        self.control = Control(self.operator, spool, masters, groups_of, clock)
        self.housekeeper = Housekeeper(self.scheduler, self.pauses, self.desk, spool, clock)
        self.housekeeper.keep_history = configuration.log.keep
        self.listeners = Listeners(self._bind, self.network_service, self.local_service, self._serve_control)
        self.operator.problems.append(self.listeners.problems)

    def _make_agent(self) -> ParentAgent | ThreadAgent:
        if self._channel is not None:
            return ParentAgent(self._channel, self.stop)
        return ThreadAgent(local_settings_of(self.configuration), self.accounts.find)

    def _detectors(self) -> dict[str, Detector]:
        links = self.configuration.links
        return {name: DETECTORS[link.detect](name, link.options, self.clock) for name, link in links.items()}

    async def _network_policy(self, configuration: Configuration) -> NetworkPolicy:
        parent = self.agent if isinstance(self.agent, ParentAgent) else None
        certificate = await load_certificate(configuration.smtp, parent)
        return NetworkPolicy(configuration, self.directory, certificate, self.odmr)

    def _transports(self) -> Transports:
        configuration = self.configuration
        return Transports(configuration.routes, configuration.host.name, self.secrets.read, configuration.fetch)

    async def _start(self, tasks: TaskGroup) -> None:
        """Starts whatever runs all the time. Listeners come last: nothing is accepted that nobody would take."""
        self.board.watch(self._detectors())
        await self.manual_links.restore(self.configuration.links)
        await self._watch_accounts()
        tasks.start_soon(self._run_scheduler)
        tasks.start_soon(self.housekeeper.run)
        tasks.start_soon(self._run_pickup)
        await self.listeners.open(self.configuration, tasks)

    async def _watch_accounts(self) -> None:
        """Fetches mail from the accounts of today. What that needs is not in memory where there is none."""
        accounts = self.housekeeper.fetch_accounts = self.configuration.fetch
        if self.fetcher is None and accounts:
            self.fetcher = self.operator.fetcher = await _load_fetching()(self, self._tasks)
        if self.fetcher is not None:
            self.fetcher.watch(accounts)

    def _fetch_accounts(self) -> list[views.Document]:
        found = self.fetcher.documents() if self.fetcher else []
        return views.with_routes(found, self.configuration.routes.values())

    async def _run_scheduler(self) -> None:
        await self.scheduler.run(self.lanes.run, self.desk.end_runs)

    async def _run_pickup(self) -> None:
        folder = self.configuration.paths.pickup
        reporter = self.reporter
        pickup = Pickup(folder, self.intake, self.spool, self.users, self.clock, lambda: reporter.texts.language)
        with Watcher([folder]) as watcher:

            async def wait_for_change(seconds: float | None) -> None:
                with anyio.move_on_after(seconds):
                    await watcher.__anext__()

            await pickup.run(wait_for_change)

    async def _serve_control(self, stream: Stream) -> None:
        from masqmail.daemon.httpserver import serve_http  # h11 comes with the first who asks

        await serve_http(stream, self.control.handle)

    async def _bind(self, address: HostPort) -> Sequence[socket.socket]:
        if isinstance(self.agent, ParentAgent):
            return await self.agent.listen(address)
        return bind_tcp(address)

    def _disk_problems(self) -> Sequence[str]:
        if self.spool.has_room(0):
            return ()
        folder = self.configuration.paths.spool
        return (f"the disk of {folder} is nearly full; new mail is refused until there is room",)

    # --- what may happen

    def _classes_accepted(self, classes: Collection[RouteClass]) -> None:
        self.scheduler.note_classes(classes)
        self.housekeeper.note_classes(classes)

    def _link_changed(self, verdict: Verdict) -> None:
        self.scheduler.links_changed([verdict.link] if verdict.is_up else [])
        if self.fetcher is not None:
            self.fetcher.link_changed(verdict)

    def note_trouble(self, error: BaseException) -> None:
        """A commit failed: nothing may be promised any more, so the program ends and starts anew."""
        self._broken = self._broken or error
        self.stop()

    async def reconfigure(self, configuration: Configuration) -> None:
        """Goes on with another configuration. Raises, and changes nothing, when it cannot be used."""
        if configuration.fetch:
            _load_fetching()
        if isinstance(self.agent, ParentAgent):
            await self.agent.read_configuration()
        network = await self._network_policy(configuration)
        await self.listeners.change(configuration, self._agree)
        changed_routes = _changed_routes(self.configuration, configuration)
        self.configuration = configuration
        rules = rules_of(configuration)
        self.directory.rules = rules
        self.reporter.texts = texts_of(configuration.notices)
        self.directory.alias_files.paths = configuration.local.aliases
        self.directory.alias_files.glob_paths = configuration.local.glob_aliases
        self.users.configuration = configuration
        self.network_service.policy = network
        self.intake.settings = _intake_settings(configuration)
        if isinstance(self.agent, ThreadAgent):
            self.agent.settings = local_settings_of(configuration)
        self.lanes.transports = self._transports()
        self.housekeeper.keep_history = configuration.log.keep
        self.board.watch(self._detectors())
        await self._watch_accounts()
        self.scheduler.reconfigure(rules, changed_routes)
        self.housekeeper.look_soon()

    async def _agree(self) -> None:
        """We can use the configuration: the parent is to go by it from now on, as we do."""
        if isinstance(self.agent, ParentAgent):
            await self.agent.adopt_configuration()


def _load_fetching() -> "Callable[[Daemon, TaskGroup], Awaitable[Fetcher]]":
    """What makes a `Fetcher`. Raises `ValueError` where the program's files are out of the daemon's reach by now."""
    try:
        from masqmail.daemon.fetch.wiring import make_fetcher
    except ImportError as error:
        raise ValueError(f"the first account of [fetch] needs a new start of the daemon ({error})") from error
    return make_fetcher


def _changed_routes(before: Configuration, after: Configuration) -> Collection[str]:
    """The routes over which mail goes otherwise now, the lost ones included."""
    if before.host != after.host:  # whose name a connection begins with, and whose addresses are rewritten
        return before.routes.keys()
    return [name for name, section in before.routes.items() if after.routes.get(name) != section]


def _intake_settings(configuration: Configuration) -> IntakeSettings:
    smtp = configuration.smtp
    return IntakeSettings(configuration.host.name, smtp.max_message_size, smtp.max_hops)
