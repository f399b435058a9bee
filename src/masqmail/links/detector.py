"""What a link detector is: something that knows whether one link is up, and says why it thinks so."""

from collections.abc import AsyncGenerator
from typing import Any, Protocol

from masqmail.frozen import frozen
from masqmail.routing.link import LinkState
from masqmail.system.clock import Clock


@frozen
class Observation:
    """What a detector found. The reason is for people and names what was looked at: "ppp0 has no carrier"."""

    state: LinkState
    reason: str


class Detector(Protocol):
    """Observes one link."""

    def watch(self) -> AsyncGenerator[Observation, None]:
        """Yields what it finds at once, and again whenever that may have changed; goes on until it is closed.

        What it raises makes the link unknown for a while; then it is called again.
        """

    async def ask(self) -> Observation:
        """A fresh answer, for somebody who waits for it."""


class DetectorKind(Protocol):
    """The class of a detector: made from the link's name, its options and a clock."""

    @property
    def options_type(self) -> type[Any]:
        """The dataclass of its settings."""

    def __call__(self, link: str, options: Any, clock: Clock) -> Detector: ...


def up(reason: str) -> Observation:
    """The link is up."""
    return Observation(LinkState.UP, reason)


def down(reason: str) -> Observation:
    """The link is down."""
    return Observation(LinkState.DOWN, reason)


def unknown(reason: str) -> Observation:
    """Nobody can tell; such a link is not used."""
    return Observation(LinkState.UNKNOWN, reason)
