"""What a lane does: over a smarthost, or directly to a domain.

The programs of pipe routes have `pipelane`, the mailboxes of this host `locallane`.
"""

from collections.abc import Awaitable, Callable
from logging import ERROR

from masqmail.daemon.desk import Desk
from masqmail.daemon.feed import LaneFeed, our_fault
from masqmail.daemon.lane import Lane
from masqmail.daemon.locallane import LocalLane
from masqmail.daemon.ownhost import own_host
from masqmail.daemon.pauses import Pauses
from masqmail.daemon.pipelane import PipeLane
from masqmail.daemon.secrets import SecretError
from masqmail.daemon.transport import Transports
from masqmail.delivery.connect import Memory, Options
from masqmail.delivery.direct import send_direct
from masqmail.delivery.job import Feed, LocalAgent
from masqmail.delivery.smtp import SessionEnd, send, send_turned
from masqmail.mail.outcome import Culprit, Deferred, NotTried
from masqmail.mail.status import Status
from masqmail.net.dns import Resolver
from masqmail.net.stream import Stream
from masqmail.proto.smtp.turn import NO_MAIL
from masqmail.retrieval.account import FetchFailure
from masqmail.routing.route import LOCAL_ROUTE, Route, Way
from masqmail.settings import HostPort
from masqmail.spool.api import Spool, SpoolError
from masqmail.system.events import INTERNAL_ERROR, NEXT_HOP_PAUSED, NEXT_HOP_RESUMED, emit

Send = Callable[[HostPort, Options, Feed, Memory], Awaitable[SessionEnd]]

_UNSERVED = Status(451, "4.4.2", "The connection was closed before anything was sent")  # RFC 3463 §3.5

#: What `bounce_on_connect_error` is about.
_NO_CONNECTION = (Culprit.NAME, Culprit.CONNECTION)


class Lanes:
    """Runs lanes. An error of ours pauses the next hop or puts the work off, it never fails a message."""

    def __init__(
        self,
        spool: Spool,
        desk: Desk,
        pauses: Pauses,
        transports: Transports,
        agent: LocalAgent,
        resolver: Resolver,
        *,
        send: Send = send,
    ) -> None:
        self._spool = spool
        self._desk = desk
        self._pauses = pauses
        self.transports = transports
        self._resolver = resolver
        self._send = send
        self._callers = Memory()  # what is known of hosts that fetch their mail, by the names they give themselves
        self._local = LocalLane(spool, desk, agent)
        self._pipes = PipeLane(spool, desk, agent)

    async def run(self, lane: Lane) -> None:
        """Works until there is nothing left for this lane."""
        route = self._desk.directory.rules.route(lane.route_name)
        if lane.route_name == LOCAL_ROUTE:
            await self._local.run(lane)
        elif route is None:
            return  # the configuration has just lost it
        elif route.way is Way.DIRECT:
            await self._send_directly(lane, route)
        elif route.way is Way.PIPE:
            await self._pipes.run(lane, route)
        else:
            await self._send_to_smarthost(lane, route)

    async def _send_to_smarthost(self, lane: Lane, route: Route) -> None:
        """Tries the smarthosts in order until one takes mail; each that can't be used is paused."""
        feed = LaneFeed(lane, route, self._spool, self._desk)
        hops = self._desk.directory.rules.next_hops.get(route.name, ())
        hops = tuple(hop for hop in hops if not self._pauses.of(route.name, str(hop)))
        try:
            for next_hop in hops:
                if not await feed.prime():
                    return
                lane.next_hop, lane.is_connected = str(next_hop), False
                end = await self._session(route, next_hop, feed)
                if lane.is_dismissed:
                    return
                if end.is_ok or end.progress:
                    self._resume(route, next_hop)
                    return
                if lane.is_closed:
                    return  # its route may be another by now: what it came to says nothing of that
                if lane.note_failure(may_go_on=end.culprit in _NO_CONNECTION and next_hop != hops[-1]):
                    return
                if next_hop == hops[-1] and not feed.was_asked:
                    await self._give_up(route, next_hop, end, feed)
                self._pause(route, next_hop, end)
        finally:
            feed.give_back()

    async def _session(self, route: Route, next_hop: HostPort, feed: LaneFeed) -> SessionEnd:
        """One connection. Whatever goes wrong is an end that pauses the next hop."""
        try:
            options = await self.transports.options(route.name, next_hop)
            await self.transports.log_in_first(route.name, options)
            end = await self._send(next_hop, options, feed, self.transports.memory)
        except (SecretError, FetchFailure) as error:
            return SessionEnd(Culprit.LOGIN, str(error))
        except SpoolError:
            raise
        except Exception as error:
            emit(INTERNAL_ERROR, level=ERROR, exception=error, route=route.name, next_hop=str(next_hop))
            feed.defer_out(error)
            return SessionEnd(Culprit.US, f"an error of ours: {error!r}")
        if end.culprit is Culprit.LOGIN:
            self.transports.forget_secret(route.name)
        if end.is_ok and feed.is_unserved:
            return SessionEnd(Culprit.SESSION, f"{next_hop} closed the connection before anything was sent")
        return end

    async def _give_up(self, route: Route, next_hop: HostPort, end: SessionEnd, feed: LaneFeed) -> None:
        """No next hop of a route can be reached. Where that fails a recipient it fails all, before the pause."""
        assert end.culprit is not None
        outcome = NotTried(end.culprit, end.reason, str(next_hop))
        feed.settle_ready(outcome, hop_given_up=True)
        while route.fails_on_connect_error and end.culprit in _NO_CONNECTION and await feed.prime():
            feed.settle_ready(outcome, hop_given_up=True)

    async def _send_directly(self, lane: Lane, route: Route) -> None:
        """Trouble with the domain is settled by `send_direct`; what it did not reach is given back."""
        assert lane.domain is not None
        feed = LaneFeed(lane, route, self._spool, self._desk)
        try:
            if await feed.prime():
                direct = self.transports.direct(route.name)
                await send_direct(
                    lane.domain,
                    direct.options,
                    self._resolver,
                    feed,
                    self.transports.memory,
                    own_host=own_host(self._desk.directory.rules),
                    sources=direct.sources,
                    fails_on_connect_error=route.fails_on_connect_error,
                )
                if feed.is_unserved:
                    feed.settle_ready(Deferred(_UNSERVED, Culprit.SESSION, _UNSERVED.text))
        except SpoolError:
            raise
        except Exception as error:
            emit(INTERNAL_ERROR, level=ERROR, exception=error, route=route.name, domain=lane.domain)
            feed.defer_out(error)
            feed.settle_ready(our_fault(error))
        finally:
            feed.give_back()

    async def send_turned(
        self, lane: Lane, route: Route, helo_name: str, begin: Callable[[], Stream]
    ) -> Status | None:
        """Sends what waits to who has come for it, on the connection that `begin` gives; or says that there is none.

        What goes wrong with the connection harms nobody: the rest goes on waiting.
        """
        feed = LaneFeed(lane, route, self._spool, self._desk)
        try:
            if not await feed.prime():
                return NO_MAIL
            options = self.transports.turned(route.name)
            await send_turned(begin(), helo_name, options, feed, self._callers)
        except SpoolError:
            raise
        except Exception as error:
            feed.defer_out(error)
            raise
        finally:
            feed.give_back()
        return None

    def _pause(self, route: Route, next_hop: HostPort, end: SessionEnd) -> None:
        assert end.culprit is not None
        pause = self._pauses.pause(route.name, str(next_hop), end.culprit, end.reason)
        emit(
            NEXT_HOP_PAUSED,
            route=route.name,
            next_hop=str(next_hop),
            until=self._pauses.ends_at(pause),
            reason=end.reason,
        )

    def _resume(self, route: Route, next_hop: HostPort) -> None:
        if self._pauses.succeeded(route.name, str(next_hop)):
            emit(NEXT_HOP_RESUMED, route=route.name, next_hop=str(next_hop))
