"""What is known about a link, a way out that is up or down."""

from datetime import datetime
from enum import Enum

from masqmail.frozen import frozen

#: Links that exist without being configured.
ALWAYS = "always"
INTERNET = "internet"


class LinkState(Enum):
    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


class Source(Enum):
    """Who gave a verdict: the link's detector, or somebody by hand."""

    DETECTOR = "detector"
    MANUAL = "manual"


@frozen
class Verdict:
    """The state of one link with the reason for it, in words for a person."""

    link: str
    state: LinkState
    reason: str
    since: datetime
    source: Source = Source.DETECTOR

    @property
    def is_up(self) -> bool:
        return self.state is LinkState.UP
