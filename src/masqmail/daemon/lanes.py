"""What a lane does: over a smarthost, directly to a domain, or into the mailboxes of this host."""

import anyio

from masqmail.daemon.desk import Desk
from masqmail.daemon.feed import LaneFeed, our_fault
from masqmail.daemon.pauses import Pauses
from masqmail.daemon.scheduler import Lane
from masqmail.daemon.secrets import SecretError
from masqmail.daemon.transport import Transports
from masqmail.delivery.direct import send_direct
from masqmail.delivery.job import Content, LocalAgent, LocalJob
from masqmail.delivery.smtp import SessionEnd, send
from masqmail.delivery.variables import variables_of
from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.mail.header import split_fields
from masqmail.mail.outcome import Culprit, Failed, NotTried, Outcome
from masqmail.mail.status import MAIL_LOOP
from masqmail.mail.trace import for_mailbox, was_delivered_to
from masqmail.net.dns import Resolver
from masqmail.routing.route import LOCAL_ROUTE, Route, Way
from masqmail.settings import HostPort
from masqmail.spool.api import Lease, Spool, SpoolError, StoredMessage, StoredRecipient, TargetKind
from masqmail.system.events import INTERNAL_ERROR, NEXT_HOP_PAUSED, NEXT_HOP_RESUMED, emit

LOCAL_WINDOW = 32
LOCAL_WINDOW_BYTES = 8 << 20
#: Local deliveries at the same time.
LOCAL_WORKERS = 4


class Lanes:
    """Runs lanes; an exception that is ours pauses the next hop and gives the work back, it never fails a message."""

    def __init__(
        self,
        spool: Spool,
        desk: Desk,
        pauses: Pauses,
        transports: Transports,
        agent: LocalAgent,
        resolver: Resolver,
    ) -> None:
        self._spool = spool
        self._desk = desk
        self._pauses = pauses
        self.transports = transports
        self._agent = agent
        self._resolver = resolver

    async def run(self, lane: Lane) -> None:
        """Works until there is nothing left for this lane."""
        route = self._desk.directory.rules.route(lane.route_name)
        if lane.route_name == LOCAL_ROUTE:
            await self._deliver_locally(lane)
        elif route is None:
            return  # the configuration has just lost it
        elif route.way is Way.DIRECT:
            await self._send_directly(lane, route)
        else:
            await self._send_to_smarthost(lane, route)

    # --- remote

    async def _send_to_smarthost(self, lane: Lane, route: Route) -> None:
        """Tries the smarthosts in order until one takes mail; each that can't be used is paused."""
        feed = LaneFeed(lane, route, self._spool, self._desk)
        trouble: NotTried | None = None
        try:
            for next_hop in self._desk.directory.rules.next_hops[route.name]:
                if self._pauses.of(route.name, str(next_hop)):
                    continue
                if not await feed.prime():
                    return
                end = await self._session(route, next_hop, feed)
                if end.culprit is None or end.progress:
                    self._resume(route, next_hop)
                    return
                trouble = NotTried(end.culprit, end.reason, str(next_hop))
                self._pause(route, next_hop, end.culprit, end.reason)
        finally:
            rest = trouble or NotTried(Culprit.SESSION, "the connection ended before it was its turn")
            feed.settle_rest(rest, hop_given_up=trouble is not None)

    async def _session(self, route: Route, next_hop: HostPort, feed: LaneFeed) -> SessionEnd:
        try:
            options = await self.transports.options(route.name, next_hop)
        except SecretError as error:
            return SessionEnd(Culprit.LOGIN, str(error))
        try:
            end = await send(next_hop, options, feed, self.transports.memory)
        except SpoolError:
            raise
        except Exception as error:
            emit(INTERNAL_ERROR, route=route.name, next_hop=str(next_hop), error=repr(error))
            return SessionEnd(Culprit.US, f"an error of ours: {error!r}")
        if end.culprit is Culprit.LOGIN:
            self.transports.forget_secret(route.name)
        return end

    async def _send_directly(self, lane: Lane, route: Route) -> None:
        """Trouble with the domain is settled by `send_direct`; what it did not reach is given back."""
        assert lane.domain is not None
        feed = LaneFeed(lane, route, self._spool, self._desk)
        try:
            if await feed.prime():
                options = await self.transports.direct_options(route.name)
                await send_direct(lane.domain, options, self._resolver, feed, self.transports.memory)
        except SpoolError:
            raise
        except Exception as error:
            emit(INTERNAL_ERROR, route=route.name, domain=lane.domain, error=repr(error))
            feed.settle_rest(our_fault(error))
        finally:
            feed.settle_rest(NotTried(Culprit.SESSION, "the connection ended"))

    def _pause(self, route: Route, next_hop: HostPort, culprit: Culprit, reason: str) -> None:
        pause = self._pauses.pause(route.name, str(next_hop), culprit, reason)
        emit(NEXT_HOP_PAUSED, route=route.name, next_hop=str(next_hop), until=pause.ends_at, reason=reason)

    def _resume(self, route: Route, next_hop: HostPort) -> None:
        if self._pauses.succeeded(route.name, str(next_hop)):
            emit(NEXT_HOP_RESUMED, route=route.name, next_hop=str(next_hop))

    # --- local

    async def _deliver_locally(self, lane: Lane) -> None:
        while leases := await lane.lease(max_messages=LOCAL_WINDOW, max_bytes=LOCAL_WINDOW_BYTES):
            await self._spool.begin([recipient.id for lease in leases for recipient in lease.recipients])
            limit = anyio.Semaphore(LOCAL_WORKERS)
            async with anyio.create_task_group() as workers:
                for lease in leases:
                    workers.start_soon(self._deliver_lease, lease, limit)

    async def _deliver_lease(self, lease: Lease, limit: anyio.Semaphore) -> None:
        async with limit:
            outcomes: list[Outcome] = []
            for recipient in lease.recipients:
                try:
                    outcomes.append(await self._deliver(lease.message, recipient))
                except Exception as error:
                    emit(INTERNAL_ERROR, queue_id=lease.message.queue_id, error=repr(error))
                    outcomes.append(our_fault(error))
            self._desk.settle(lease, None, outcomes)

    async def _deliver(self, message: StoredMessage, recipient: StoredRecipient) -> Outcome:
        rules = self._desk.directory.rules
        asked_for = parse_mailbox(recipient.original)
        is_mailbox = recipient.kind is TargetKind.MAILBOX
        mailbox = Mailbox(recipient.target, rules.host_name) if is_mailbox else asked_for
        if was_delivered_to(split_fields(message.header), mailbox):
            return Failed(
                MAIL_LOOP, Culprit.RECIPIENT, f"the message was delivered to {mailbox} before: it is in a loop"
            )
        header = for_mailbox(
            message.header,
            reverse_path=message.reverse_path,
            mailbox=mailbox,
            envelope_to=recipient.original,
            save_envelope_to=rules.saves_envelope_to,
        )
        job = LocalJob(
            kind=recipient.kind,
            target=recipient.target,
            identity=f"{message.queue_id}.R{recipient.id}",
            variables=variables_of(
                user=recipient.target if is_mailbox else "",
                recipient=asked_for,
                sender=message.reverse_path,
                received_host="" if message.protocol == "local" else message.received_from.partition(" ")[0],
                queue_id=message.queue_id,
            ),
            source=recipient.source,
            is_first=not recipient.attempts and not recipient.reason,
        )
        return await self._agent.deliver(job, Content(header, message.body))
