"""The states of a recipient in our custody. It is always in exactly one.

`docs/explanation/durability.md` shows the single write that moves each on, and what a crash leaves behind.
"""

from enum import Enum


class State(Enum):
    """Where a recipient stands; `LEASED` shows to people as queued, "being sent now"."""

    QUEUED = "queued"  # due now, or as soon as a link of its routes is up
    LEASED = "leased"  # a worker has the right to work on it
    DEFERRED = "deferred"  # tried, waits for its next attempt
    HELD = "held"  # kept on purpose, until somebody releases it
    DELIVERED = "delivered"  # the next hop or mailbox has it
    FAILED = "failed"  # ended without delivery; its report was written with it

    @property
    def is_waiting(self) -> bool:
        """May be leased when due."""
        return self in (State.QUEUED, State.DEFERRED)

    @property
    def is_ended(self) -> bool:
        return self in (State.DELIVERED, State.FAILED)


#: Every way a recipient may move, drawn into the docs from here.
MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.LEASED, State.HELD}),
    State.DEFERRED: frozenset({State.LEASED, State.HELD, State.QUEUED}),
    State.LEASED: frozenset({State.DELIVERED, State.FAILED, State.DEFERRED, State.QUEUED, State.HELD}),
    State.HELD: frozenset({State.QUEUED, State.FAILED}),
    State.DELIVERED: frozenset(),
    State.FAILED: frozenset(),
}
