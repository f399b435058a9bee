"""What a delivery method gets to work on and what it gives back.

Remote delivery works on connections: `delivery.smtp` takes `Transaction`s from a `Feed` as long as there are
any and settles each with one outcome per recipient. Local delivery works on single `LocalJob`s.
"""

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol

from masqmail.delivery.forward import Forward
from masqmail.delivery.parallel import Speed
from masqmail.delivery.variables import Variables
from masqmail.frozen import frozen
from masqmail.mail.envelope import Envelope
from masqmail.mail.outcome import Outcome
from masqmail.spool.api import TargetKind, body_pieces


@frozen
class Content:
    """A message as it goes out: the header section (edited for its way, CRLF line ends) and the stored body."""

    header: bytes
    body: bytes | Path

    def chunks(self) -> Iterator[bytes]:
        """Header, blank line and body in pieces, CRLF line ends."""
        yield self.header + b"\r\n"
        yield from body_pieces(self.body)


@frozen
class Transaction:
    """One message for some of its recipients over one route, rewritten and ready to send.

    `size_bytes` counts what `content` yields. `needs_smtputf8` and `needs_8bit` say what the next hop must be
    told about envelope and content; 8-bit text is known as such also where nobody declared it.
    """

    queue_id: str
    envelope: Envelope
    content: Content
    size_bytes: int
    needs_8bit: bool = False
    needs_smtputf8: bool = False


class Feed(Protocol):
    """Where a connection gets its work from and gives its outcomes to."""

    @property
    def known_speed(self) -> Speed | None:
        """What an earlier connection to this next hop, or one beside this one, has measured."""

    async def take(self, *, max_transactions: int, max_bytes: int) -> Sequence[Transaction]:
        """More work for this connection now, or nothing. Never waits for work to arrive."""

    async def wait(self, timeout_seconds: float) -> bool:
        """Waits until there may be more work; False when none came in time."""

    def watch(self, hear: Callable[[], None] | None) -> None:
        """Has a function called, from now on, whenever there may be more work."""

    async def begin(self, transactions: Sequence[Transaction]) -> None:
        """Must have returned before the last byte of any of these transactions leaves."""

    def settle(self, transaction: Transaction, outcomes: Sequence[Outcome]) -> None:
        """One outcome per recipient of its envelope, in order. Queued for commit; never waits."""

    def note_speed(self, speed: Speed) -> None:
        """What this connection has measured; told again when there is news."""

    def note_round_trip(self, seconds: float) -> None:
        """A round trip over the line takes so long, or longer: told again when more is known."""

    async def is_wanted(self) -> bool:
        """Whether to go on; one that was made in reserve waits until that is known."""


class LocalMethod(Enum):
    """How a local recipient gets its copy."""

    MBOX = "mbox"
    MAILDIR = "maildir"
    PIPE = "pipe"
    MDA = "mda"
    LMTP = "lmtp"


@frozen
class Mailstore:
    """How a user gets mail: `place` is a path or an LMTP server's address, with an MDA there is a `command`.

    The `${…}` in them are still to be filled in.
    """

    method: LocalMethod
    place: str = ""
    command: tuple[str, ...] = ()


@frozen
class LocalJob:
    """One recipient of one message that somebody of this host takes, as the spool holds it.

    By `kind`, `target` is a user name, "|command" or a path; for the last two `source` is the "FILE:NAME" of
    the alias entry it comes from, or "~USER/.forward". For a remote recipient it is the name of the route whose
    program takes the message. Whose rights, which file and which arguments that means is decided by whoever
    carries the job out, from the configuration: see `local.plan_for`.

    `identity` is the same for every repeat of the same delivery, and no other delivery on any host has it, so
    that a Maildir can recognise a repeat. `is_first` says that nobody can have begun this delivery before, which
    saves looking for one. With `asks_forward` the agent asks the user's .forward first, and gives what it found
    where that leads anywhere. `size_bytes` counts what the content yields, and `is_8bit` tells of 8-bit text in it.
    """

    kind: TargetKind
    target: str
    identity: str
    variables: Variables
    source: str = ""
    is_first: bool = False
    asks_forward: bool = False
    size_bytes: int = 0
    is_8bit: bool = False


class LocalAgent(Protocol):
    """Carries out local deliveries with the right identity; `daemon.agent` has both kinds.

    The header section of the content already carries Return-Path, Delivered-To and so on. Never raises for
    what goes wrong with a delivery: that is an outcome.
    """

    async def deliver(self, job: LocalJob, content: Content) -> Outcome | Forward: ...
