"""What today's configuration says, in the form the daemon asks it. A reload swaps the whole object."""

from collections.abc import Callable, Mapping
from dataclasses import field

from masqmail.delivery.job import LocalMethod, Mailstore
from masqmail.delivery.piperoute import PipeProgram
from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox
from masqmail.routing.decide import Classifier
from masqmail.routing.local import LocalDomains
from masqmail.routing.route import QUEUE_ONLY, Route, Way
from masqmail.routing.schedule import Lifetime, RetrySchedule
from masqmail.settings import HostPort


@frozen
class Rules:
    """Routes in file order with what policy needs beside them.

    `next_hops` has the smarthosts of each smarthost route. `postmaster` is who gets the postmaster's mail.
    `connections` has how many a route may open to one next hop, where that is not one. `programs` has those of the
    pipe routes. `forwards` says that users may have a .forward, `mailbox_of` how a local user gets mail.
    `asks_for_from` says whether any route has a condition on the From field. `classifier` remembers the classes it
    found, and goes with the rules it found them by.
    """

    host_name: str
    routes: tuple[Route, ...]
    next_hops: Mapping[str, tuple[HostPort, ...]]
    local: LocalDomains
    schedule: RetrySchedule
    lifetime: Lifetime
    postmaster: Mailbox
    generation: str
    sends_at_once: bool = True
    archive_to: Mailbox | None = None
    saves_envelope_to: bool = False
    connections: Mapping[str, int] = field(default_factory=dict)
    programs: Mapping[str, PipeProgram] = field(default_factory=dict)
    forwards: bool = False
    mailbox_of: Callable[[str], Mailstore] = lambda user: Mailstore(LocalMethod.MBOX)

    mark: str = field(init=False)  # of new recipients, and of those that wait again
    by_name: Mapping[str, Route] = field(init=False)
    asks_for_from: bool = field(init=False)
    classifier: Classifier = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mark", "" if self.sends_at_once else QUEUE_ONLY)
        object.__setattr__(self, "by_name", {route.name: route for route in self.routes})
        conditions = [route.conditions for route in self.routes]
        asks = any(item.from_headers or item.not_from_headers for item in conditions)
        object.__setattr__(self, "asks_for_from", asks)
        object.__setattr__(self, "classifier", Classifier(self.routes, self.generation))

    def max_connections(self, route: str) -> int:
        """How many lanes may work on one next hop of a route at the same time."""
        return self.connections.get(route, 1)

    def route(self, name: str) -> Route | None:
        """The route of that name, if the configuration still has it."""
        return self.by_name.get(name)

    def next_hop_names(self, route: Route) -> tuple[str, ...]:
        """The names under which pauses know the next hops of a smarthost route."""
        return tuple(str(hop) for hop in self.next_hops.get(route.name, ())) if route.way is Way.SMARTHOST else ()
