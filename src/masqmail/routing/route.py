"""Routes as policy sees them, and the class of a recipient: the ordered set of routes that fit it."""

from dataclasses import field, replace
from enum import Enum

from masqmail.frozen import frozen
from masqmail.settings import Pattern

#: The pseudo-route of recipients that are delivered on this host. No configured route may have its name.
LOCAL_ROUTE = "local"


#: The mark of recipients that wait until somebody flushes (`sendmail -odq`, `deliver = "on-flush"`).
QUEUE_ONLY = "queue-only"


class Way(Enum):
    """What a route does with a recipient."""

    SMARTHOST = "smarthost"
    DIRECT = "direct"
    PIPE = "pipe"
    ODMR = "odmr"  # nothing: it waits until its user fetches it, RFC 2645


@frozen
class Conditions:
    """What a message and recipient must be like to take a route. No patterns allow all; deny beats allow."""

    senders: tuple[Pattern, ...] = ()
    not_senders: tuple[Pattern, ...] = ()
    recipients: tuple[Pattern, ...] = ()
    not_recipients: tuple[Pattern, ...] = ()
    from_headers: tuple[Pattern, ...] = ()
    not_from_headers: tuple[Pattern, ...] = ()
    max_size_bytes: int | None = None


#: One rewriting map: local-part globs to an address text; `*@domain` changes the domain alone.
AddressMap = tuple[tuple[str, str], ...]


@frozen
class Rewriting:
    """Which addresses of a message change on a route. `all` is the default for the five others."""

    return_path: AddressMap = ()
    from_: AddressMap = ()
    sender: AddressMap = ()
    reply_to: AddressMap = ()
    mail_followup_to: AddressMap = ()
    all: AddressMap = ()


def line_of(user: str) -> str:
    """What stands in the place of a link where mail waits for a user: it is up while he fetches it."""
    return f"ATRN of {user}"


@frozen
class Route:
    """A route without its transport options: when it applies, over which links, and what it rewrites.

    `user` is who fetches what waits, with `Way.ODMR`; the only link is then his `line_of`.
    """

    name: str
    links: tuple[str, ...]
    way: Way
    conditions: Conditions = Conditions()
    rewriting: Rewriting = Rewriting()
    last: bool = False
    fails_on_connect_error: bool = False
    user: str = ""


@frozen
class RouteClass:
    """The routes whose message conditions hold for a recipient, in order, whatever the links do now.

    `tried` are those already used in this run (after a temporary failure the next route follows at once).
    `mark` says what else holds these recipients back (`QUEUE_ONLY`), empty for nothing.
    `generation` identifies the configuration the class was computed from. There are few distinct classes,
    however long the queue is; the spool keeps them in a table of their own.
    """

    routes: tuple[str, ...]
    tried: frozenset[str] = field(default=frozenset())
    mark: str = ""
    generation: str = ""
    _hash: int = field(init=False, repr=False, compare=False)  # asked for with every recipient

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.routes, self.tried, self.mark, self.generation)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def is_local(self) -> bool:
        return self.routes == (LOCAL_ROUTE,)

    def fresh(self) -> "RouteClass":
        """The class as at the start of a run: nothing tried yet."""
        return replace(self, tried=frozenset()) if self.tried else self

    def marked(self, mark: str) -> "RouteClass":
        return replace(self, mark=mark)

    def unmarked(self) -> "RouteClass":
        return replace(self, mark="") if self.mark else self

    def remaining(self) -> tuple[str, ...]:
        """The routes not yet tried in this run, in order."""
        return tuple(name for name in self.routes if name not in self.tried)
