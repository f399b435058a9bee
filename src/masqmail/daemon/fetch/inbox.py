"""The program's side of one fetch: what was dealt with before, the way into the queue, and what people are told."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Protocol

from masqmail.retrieval.account import Found, Parcel, Tally
from masqmail.spool.api import FetchFate, FetchMark, Spool, SpoolFull, Uid
from masqmail.spool.intake import Refused
from masqmail.system.clock import Clock
from masqmail.system.events import MESSAGE_LEFT, MESSAGE_REFUSED, emit


class Notices(Protocol):
    """Tells people about messages that stay on a server."""

    async def tell_of_left(self, mark: FetchMark, header: bytes) -> None:
        """Tells the owner of the account, once: notice and mark are stored together, or neither is."""

    async def tell_of_refused(self, mark: FetchMark, reason: str) -> None:
        """Tells the postmaster, in the same way."""


class FetchInbox:
    """The `Inbox` of one fetch. `signs` count whatever the server did; `received_bytes` what came of messages."""

    def __init__(
        self, account: str, spool: Spool, clock: Clock, notices: Notices, open_parcel: Callable[[Found], Parcel]
    ) -> None:
        self.tally = Tally()
        self.is_closing = False
        self.signs = 0
        self.received_bytes = 0
        self._account = account
        self._spool = spool
        self._clock = clock
        self._notices = notices
        self._open_parcel = open_parcel
        self._told_of: set[tuple[Uid, FetchFate]] = set()
        self._parcels: set[_CountedParcel] = set()  # that have neither arrived nor been given up

    async def marks(self) -> Mapping[Uid, FetchMark]:
        found = await self._spool.fetch_marks(self._account)
        self._told_of = {(uid, mark.fate) for uid, mark in found.items() if mark.fate is not FetchFate.TAKEN}
        return found

    def open(self, found: Found) -> Parcel:
        parcel = _CountedParcel(self, self._open_parcel(found), self._parcels)
        self._parcels.add(parcel)
        return parcel

    def close(self) -> None:
        """Gives up whatever is still on its way: the fetch has ended."""
        for parcel in list(self._parcels):
            parcel.discard()

    async def leave(self, found: Found, header: bytes) -> None:
        if self._is_news(found, FetchFate.LEFT):
            emit(MESSAGE_LEFT, account=self._account, uid=found.uid.uid, size_bytes=found.size_bytes)
            await self._notices.tell_of_left(self._mark(found, FetchFate.LEFT), header)
        self.progress()

    async def refuse(self, found: Found, reason: str) -> None:
        if self._is_news(found, FetchFate.REFUSED):
            emit(MESSAGE_REFUSED, account=self._account, uid=found.uid.uid, reason=reason)
            await self._notices.tell_of_refused(self._mark(found, FetchFate.REFUSED), reason)
        self.progress()

    async def forget(self, uids: Collection[Uid]) -> None:
        if uids:
            await self._spool.forget_fetched(self._account, uids)

    def now(self) -> datetime:
        return self._clock.now()

    def progress(self) -> None:
        self.signs += 1

    def _is_news(self, found: Found, fate: FetchFate) -> bool:
        """Whether nobody was told yet, in this fetch or an earlier one."""
        is_news = (found.uid, fate) not in self._told_of
        self._told_of.add((found.uid, fate))
        return is_news

    def _mark(self, found: Found, fate: FetchFate) -> FetchMark:
        return FetchMark(self._account, found.uid, fate, self.now(), found.size_bytes)


class _CountedParcel:
    """A parcel whose octets are counted on their way: they show that the server is alive, and how far it is."""

    def __init__(self, inbox: FetchInbox, parcel: Parcel, underway: "set[_CountedParcel]") -> None:
        self._inbox = inbox
        self._parcel = parcel
        self._underway = underway

    def write(self, data: bytes) -> None:
        self._inbox.received_bytes += len(data)
        self._inbox.signs += 1
        self._parcel.write(data)

    async def finish(self) -> str:
        self._underway.discard(self)
        try:
            return await self._parcel.finish()
        except Refused as refused:
            if refused.status.is_temporary:  # nothing is wrong with the message: the next fetch may have more luck
                raise SpoolFull(refused.status.text) from refused
            raise
        finally:
            self._inbox.signs += 1

    def discard(self) -> None:
        self._underway.discard(self)
        self._parcel.discard()
