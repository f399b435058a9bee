"""The program's side of a fetch, in memory: what a retriever hands over, and what it asks to be remembered.

It keeps the contract of `masqmail.retrieval.account.Inbox`. Several fetches may share one: what was taken in the
first is marked in the second.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from masqmail.mail.status import Status
from masqmail.retrieval.account import Found, Tally
from masqmail.spool.api import FetchFate, FetchMark, Uid
from masqmail.spool.intake import Refused

_LONE = re.compile(rb"\r\n|\r|\n")

#: What happens to a message in `finish`: nothing, or this is raised (`Refused`, `SpoolFull`, ...).
Verdict = Callable[[Found], Exception | None]


def refused(text: str = "No such user") -> Refused:
    """What `finish` raises for a message that is not taken."""
    return Refused(Status(550, "5.1.1", text))


@dataclass
class FakeInbox:
    """Collects what is taken. `verdict` may refuse or fail, `before_finish` is waited for in each `finish`.

    With `keeps_content` off only sizes are kept, for tests of very many or big messages.
    """

    account: str = "test"
    verdict: Verdict = lambda found: None
    before_finish: Callable[[Found], Awaitable[None]] | None = None
    time: datetime = datetime(2026, 11, 21, 12, tzinfo=UTC)
    keeps_content: bool = True
    tally: Tally = field(default_factory=Tally)
    is_closing: bool = False
    known: dict[Uid, FetchMark] = field(default_factory=dict)
    taken: list[tuple[Uid, bytes]] = field(default_factory=list)  # in the order in which they were finished
    taken_sizes: list[int] = field(default_factory=list)
    notices: list[tuple[Uid, int, bytes]] = field(default_factory=list)  # of those left: size, header section
    refusals: list[tuple[Uid, str]] = field(default_factory=list)
    forgotten: list[Uid] = field(default_factory=list)
    open_parcels: int = 0
    most_open: int = 0
    discarded: int = 0
    progress_calls: int = 0

    # the contract

    async def marks(self) -> Mapping[Uid, FetchMark]:
        return dict(self.known)

    def open(self, found: Found) -> "FakeParcel":
        self.open_parcels += 1
        self.most_open = max(self.most_open, self.open_parcels)
        return FakeParcel(self, found)

    async def leave(self, found: Found, header: bytes) -> None:
        self._mark(found, FetchFate.LEFT)
        self.notices.append((found.uid, found.size_bytes, header))

    async def refuse(self, found: Found, reason: str) -> None:
        self._mark(found, FetchFate.REFUSED)
        self.refusals.append((found.uid, reason))

    async def forget(self, uids: Collection[Uid]) -> None:
        for uid in uids:
            self.known.pop(uid, None)
        self.forgotten += uids

    def now(self) -> datetime:
        return self.time

    def progress(self) -> None:
        self.progress_calls += 1

    # for tests

    @property
    def contents(self) -> list[bytes]:
        """The messages that were taken."""
        return [content for _, content in self.taken]

    def content(self, uid: str, folder: str = "") -> bytes:
        """The only message that was taken under this name."""
        (content,) = (content for name, content in self.taken if name == Uid(folder, uid))
        return content

    def fates(self) -> dict[str, FetchFate]:
        """What is remembered, by names without their folders."""
        return {uid.uid: mark.fate for uid, mark in self.known.items()}

    def remember(
        self, uid: str, fate: FetchFate = FetchFate.TAKEN, *, folder: str = "", at: datetime | None = None
    ) -> None:
        """Marks a message as dealt with before, by default now."""
        name = Uid(folder, uid)
        self.known[name] = FetchMark(self.account, name, fate, at or self.time)

    def _mark(self, found: Found, fate: FetchFate) -> None:
        self.known[found.uid] = FetchMark(self.account, found.uid, fate, self.time, found.size_bytes)

    def _take(self, found: Found, content: bytes, size_bytes: int) -> None:
        self._mark(found, FetchFate.TAKEN)
        self.taken.append((found.uid, content))
        self.taken_sizes.append(size_bytes)


class FakeParcel:
    """One message on its way. It must be finished or discarded, and not written to afterwards."""

    def __init__(self, inbox: FakeInbox, found: Found) -> None:
        self._inbox = inbox
        self._found = found
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._is_open = True
        self._is_finished = False

    def write(self, data: bytes) -> None:
        assert self._is_open, f"{self._found.uid} was written to after its end"
        self._size_bytes += len(data)
        if self._inbox.keeps_content:
            self._pieces.append(bytes(data))

    async def finish(self) -> str:
        self._close()
        self._is_finished = True
        if self._inbox.before_finish is not None:
            await self._inbox.before_finish(self._found)
        if (failure := self._inbox.verdict(self._found)) is not None:
            raise failure
        content = _LONE.sub(b"\r\n", b"".join(self._pieces))
        self._inbox._take(self._found, content, self._size_bytes)
        return f"fake-{len(self._inbox.taken)}"

    def discard(self) -> None:
        if self._is_open:
            self._inbox.discarded += 1
            self._close()

    def _close(self) -> None:
        assert self._is_open, f"{self._found.uid} was finished twice"
        self._is_open = False
        self._inbox.open_parcels -= 1
