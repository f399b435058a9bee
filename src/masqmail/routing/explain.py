"""The answer to "what would happen to a message for this address?", as `masqmail explain` gives it.

One function for the command and the control socket, asking the same questions as a real message does: is it
local, what do the aliases make of it, which route would take it. The document is the one of `to_json`; how it
looks on a terminal is the command's business.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox
from masqmail.mail.header import make_field
from masqmail.routing.alias import AddressBook, Fault, Target, TargetKind, expand, forward_source
from masqmail.routing.decide import Considered, MessageFacts, consider
from masqmail.routing.link import Verdict
from masqmail.routing.rewrite import Change, changes
from masqmail.routing.route import Route, Way


class Action(Enum):
    """What would be done for one recipient now."""

    DELIVER_LOCAL = "deliver-local"
    DELIVER_REMOTE = "deliver-remote"
    PIPE = "pipe"
    WAIT = "wait"
    FAIL = "fail"


@frozen
class Step:
    """The plan for one target of the address."""

    recipient: str
    action: Action
    reason: str
    route: str = ""
    link: str = ""
    next_hop: str = ""
    rewrites: tuple[Change, ...] = ()
    considered: tuple[Considered, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {
            "recipient": self.recipient,
            "action": self.action.value,
            "route": self.route or None,
            "link": self.link or None,
            "next_hop": self.next_hop or None,
            "reason": self.reason,
            "rewrites": [{"field": one.field, "from": one.before, "to": one.after} for one in self.rewrites],
            "considered": [{"route": one.route, "taken": one.taken, "reason": one.reason} for one in self.considered],
        }


@frozen
class Explanation:
    """What becomes of one address. `expanded` has the targets where an alias stands for it, else nothing."""

    address: str
    is_local: bool
    expanded: tuple[str, ...]
    plan: tuple[Step, ...]

    def to_json(self) -> dict[str, object]:
        """The document of `masqmail explain --json` and `/v1/explain`."""
        return {
            "address": self.address,
            "local": self.is_local,
            "expanded": list(self.expanded),
            "plan": [step.to_json() for step in self.plan],
        }


@frozen
class Ways:
    """What is known about the ways out at this moment.

    `next_hop` says in words where a route would connect to for a recipient, such as "mail.example:587".
    """

    routes: Sequence[Route]
    links: Mapping[str, Verdict]
    paused: Mapping[str, str]
    next_hop: Callable[[Route, Mailbox], str]


def explain(mailbox: Mailbox, facts: MessageFacts, book: AddressBook, ways: Ways) -> Explanation:
    """What would happen now to a message with these facts for this address."""
    expansion = expand(mailbox, book)
    steps = [_plan(target, facts, book, ways) for target in expansion.targets]
    steps += [_fail(fault) for fault in expansion.faults]
    expanded = tuple(map(str, expansion.targets)) if expansion.is_expanded else ()
    return Explanation(str(mailbox), book.local.is_local(mailbox), expanded, tuple(steps))


def _fail(fault: Fault) -> Step:
    return Step(fault.target, Action.FAIL, fault.reason)


def _plan(target: Target, facts: MessageFacts, book: AddressBook, ways: Ways) -> Step:
    origin = f", from alias {target.source}" if target.source else ""
    if target.mailbox is not None:
        return _plan_remote(target.mailbox, facts, book, ways)
    if target.kind is TargetKind.PIPE:
        return Step(str(target), Action.PIPE, f"a program of this host{origin}")
    what = "a file" if target.kind is TargetKind.FILE else "a mailbox"
    rest = f"{origin}{_about_forward(target, book)}"
    return Step(str(target), Action.DELIVER_LOCAL, f"{what} of this host{rest}")


def _about_forward(target: Target, book: AddressBook) -> str:
    """What is known of a user's .forward without looking: that is done when the message is delivered."""
    if target.kind is not TargetKind.USER:
        return ""
    trouble = book.forward_troubles.get(target.value)
    return f"; {trouble}" if trouble else f", unless {forward_source(target.value)} names others"


def _plan_remote(recipient: Mailbox, facts: MessageFacts, book: AddressBook, ways: Ways) -> Step:
    choice = consider(facts, recipient, ways.routes, ways.links, ways.paused)
    if choice.route is None:
        return Step(str(recipient), Action.WAIT, choice.reason, considered=choice.considered)
    return Step(
        str(recipient),
        Action.PIPE if choice.route.way is Way.PIPE else Action.DELIVER_REMOTE,
        choice.reason,
        choice.route.name,
        choice.link,
        ways.next_hop(choice.route, recipient),
        _rewrites(choice.route, facts, book),
        choice.considered,
    )


def _rewrites(route: Route, facts: MessageFacts, book: AddressBook) -> tuple[Change, ...]:
    """What the route would change in the reverse-path and a From field with the bare addresses of these facts."""
    header = make_field("from", ", ".join(map(str, facts.from_mailboxes))).raw if facts.from_mailboxes else b""
    return tuple(changes(facts.reverse_path, header, route.rewriting, book.local))
