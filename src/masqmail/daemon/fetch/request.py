"""One fetch of one account that somebody waits for: what is asked, how far it is, and how it ended."""

from dataclasses import field, replace

import anyio

from masqmail.frozen import frozen
from masqmail.mail.outcome import Culprit
from masqmail.mail.size import in_words
from masqmail.retrieval.account import Order, Tally


@frozen
class End:
    """How a fetch ended. Without a `reason` it went well."""

    tally: Tally = field(default_factory=Tally)
    reason: str = ""
    culprit: Culprit = Culprit.SESSION

    @property
    def is_failure(self) -> bool:
        return bool(self.reason)


class Request:
    """A fetch that is to be made. Those who ask for the same share one.

    `before` is what came of it over connections that died.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.before = Tally()
        self.end: End | None = None
        self._done = anyio.Event()

    def finish(self, end: End) -> None:
        """Tells whoever waits."""
        if self.end is None:
            self.end = replace(end, tally=replace(end.tally))
            self._done.set()

    async def wait(self) -> None:
        """Returns when it has ended."""
        await self._done.wait()


def joined(before: Tally, now: Tally) -> Tally:
    """What came of a fetch that was begun anew. What stays on the server was counted anew as well."""
    return replace(
        now,
        expected=before.taken + now.expected,
        taken=before.taken + now.taken,
        taken_bytes=before.taken_bytes + now.taken_bytes,
        deleted=before.deleted + now.deleted,
        moved=before.moved + now.moved,
    )


def summary(end: End) -> str:
    """What a fetch has done, in words."""
    tally = end.tally
    parts = []
    if tally.taken:
        parts.append(f"{_messages(tally.taken)} taken ({in_words(tally.taken_bytes)})")
    if tally.left:
        parts.append(f"{_messages(tally.left)} left on the server for {'its' if tally.left == 1 else 'their'} size")
    if tally.refused:
        parts.append(f"{_messages(tally.refused)} refused")
    if tally.deleted:
        parts.append(f"{tally.deleted} deleted on the server")
    if tally.moved:
        parts.append(f"{tally.moved} moved on the server")
    return ", ".join(parts) or "nothing new"


def _messages(number: int) -> str:
    return f"{number} message" if number == 1 else f"{number} messages"
