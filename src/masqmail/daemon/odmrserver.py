"""The provider's side of ODMR: users fetch the mail that waits for them (RFC 2645), and queues start on ETRN."""

from collections.abc import Callable, Sequence

from masqmail.daemon.lanes import Lanes
from masqmail.daemon.scheduler import Scheduler
from masqmail.mail.address import Mailbox
from masqmail.mail.status import OK, Status
from masqmail.net.stream import Stream
from masqmail.proto.smtp.command import Etrn
from masqmail.proto.smtp.turn import TURN_IMPOSSIBLE, TURN_REFUSED, TURN_TWICE
from masqmail.routing.pattern import first_match, name_domain
from masqmail.routing.route import Route, Way
from masqmail.spool.api import Spool

#: What ETRN can start: the others do not connect to anybody.
_STARTABLE = (Way.SMARTHOST, Way.DIRECT)


def has_turns(routes: Sequence[Route]) -> bool:
    """Whether somebody's mail waits to be fetched with ATRN."""
    return any(route.way is Way.ODMR for route in routes)


def has_queues(routes: Sequence[Route]) -> bool:
    """Whether a route is about a domain by name, so that ETRN could start it."""
    return any(route.way in _STARTABLE and route.conditions.recipients for route in routes)


def is_kept(routes: Sequence[Route], mailbox: Mailbox) -> bool:
    """Whether mail for this mailbox waits for a user, and so is taken from everybody."""
    kept = (route.conditions for route in routes if route.way is Way.ODMR)
    return any(first_match(one.recipients, mailbox) and not first_match(one.not_recipients, mailbox) for one in kept)


class OdmrServer:
    """Answers ATRN and ETRN by today's routes. Who may ask is the policy's business."""

    def __init__(self, scheduler: Scheduler, lanes: Lanes, spool: Spool) -> None:
        self._scheduler = scheduler
        self._lanes = lanes
        self._spool = spool

    async def turn(
        self, user: str, helo_name: str, domains: Sequence[str], begin: Callable[[], Stream]
    ) -> Status | None:
        """Sends a user what waits for him, on the connection that `begin` gives; or the refusal, RFC 2645 §5.2.1."""
        route = next((item for item in self._scheduler.rules.routes if item.user == user), None)
        if route is None or not all(_is_for(route, domain) for domain in domains):
            return TURN_REFUSED
        lane = await self._scheduler.open_line(route, domains)
        if lane is None:
            return TURN_TWICE
        try:
            with lane.scope:
                return await self._lanes.send_turned(lane, route, helo_name, begin)
        finally:
            self._scheduler.close_line(route, lane)
        return TURN_IMPOSSIBLE  # somebody stopped the lane

    async def start_queue(self, asked: Etrn) -> Status:
        """Forgets what keeps the mail for a domain from being sent; the reply, RFC 1985 §5.3."""
        node, routes = asked.domain, self._scheduler.rules.routes
        domains = [node, f"x.{node}"] if asked.with_subdomains else [node]
        meant = [route for route in routes if any(_is_for(route, domain) for domain in domains)]
        names = {route.name for route in meant if route.way in _STARTABLE}
        if not names:
            is_fetched = any(route.way is Way.ODMR for route in meant)
            why = "its mail is fetched with ATRN" if is_fetched else "no mail is queued for it here"
            return Status(459, "4.7.1", f"Node {node} not allowed: {why}")
        await self._scheduler.flush(names)
        counts = await self._spool.classes()
        if not any(count for found, count in counts.items() if not names.isdisjoint(found.routes)):
            return Status(251, "2.0.0", f"OK, no messages waiting for node {node}")
        return OK.with_text(f"OK, queuing for node {node} started")


def _is_for(route: Route, domain: str) -> bool:
    """Whether a route names a domain as one of its own."""
    conditions = route.conditions
    return name_domain(conditions.recipients, domain) and not name_domain(conditions.not_recipients, domain)
