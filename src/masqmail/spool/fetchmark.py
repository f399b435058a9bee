"""What we did with messages on servers that mail is fetched from: the marks, and the verbs of the spool about them.

A mark of a message that was taken is stored together with it (`api.NewMessage.fetched`): a crash at any moment leaves
both or none.
"""

from collections.abc import Awaitable, Collection, Sequence
from datetime import datetime
from enum import Enum
from typing import NamedTuple, Protocol


class Uid(NamedTuple):
    """What a message is called on a server that mail is fetched from, within an account.

    `uid` is its UIDL, "UIDVALIDITY:UID" of IMAP, or "sha256:…" of what identifies it where the server has no names.
    """

    folder: str  # empty for POP3
    uid: str


class FetchFate(Enum):
    """What became of a message on a server that mail is fetched from."""

    TAKEN = "taken"  # it is, or was, in our queue
    LEFT = "left"  # it stays there for its size; a notice said so
    REFUSED = "refused"  # it stays there because we cannot take it; a notice said so


class FetchMark(NamedTuple):
    """What we did with a message on a server, and when."""

    account: str
    uid: Uid
    fate: FetchFate
    at: datetime
    size_bytes: int = 0


class FetchMarks(Protocol):
    """The part of the spool that remembers what was fetched. There is one mark for a message, the latest."""

    def fetch_marks(self, account: str) -> Awaitable[dict[Uid, FetchMark]]:
        """All marks of an account; there may be very many."""

    def mark_fetched(self, marks: Sequence[FetchMark]) -> Awaitable[None]:
        """Stores marks without messages, all or none: of what was left or refused, or what another program took."""

    def forget_fetched(self, account: str, uids: Collection[Uid]) -> Awaitable[None]:
        """Drops marks; those that are not there are passed over."""
