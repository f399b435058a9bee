"""One fetch from an IMAP server: folder by folder, what is new is found, taken, and removed as the account wants it.

A message is deleted or moved on the server only after its parcel was finished, or when a mark says that it was taken
before.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from masqmail.mail.outcome import Culprit
from masqmail.retrieval import imapremoval
from masqmail.retrieval.account import Account, FetchFailure, Found, Inbox, Order
from masqmail.retrieval.imapplan import Folder, Listed, Refusal, parse_name
from masqmail.retrieval.imaptaking import Line, Taking
from masqmail.spool.api import FetchFate, FetchMark, Uid
from masqmail.system.clock import Clock

HEADERS_AT_A_TIME = 20
MAX_TOLD_TROUBLES = 3  # in one reason

#: In a folder with more messages, where looking at all costs much, that is done once a day, and else at new ones.
FEW_MESSAGES = 2000
FEW_MARKS = 50
LOOK_AT_ALL_SECONDS = 86400.0

#: More marks than that are not dropped at once, if they are most of a folder whose mail is kept: the server may err.
MANY_MARKS = 10


@dataclass(slots=True)
class Known:
    """What a retriever remembers of a folder from one fetch to the next."""

    uid_validity: int
    uid_next: int  # what is new has at least this UID
    is_done: bool  # nothing below it was left for another time
    looked_at: float  # when all of it was listed, BOOTTIME


class Fetch:
    """The fetch of one account. `troubles` are what kept something from being taken, but not the rest."""

    def __init__(
        self, account: Account, inbox: Inbox, order: Order, line: Line, known: dict[str, Known], clock: Clock
    ) -> None:
        self.troubles: list[str] = []
        self._account = account
        self._inbox = inbox
        self._order = order
        self._line = line
        self._known = known
        self._clock = clock
        self._marks: Mapping[Uid, FetchMark] = {}
        self._is_ordered_there: set[str] = set()
        self._is_cut_short = False  # by `max_messages`

    async def run(self) -> None:
        """Raises `FetchFailure` when something could not be taken that should be."""
        self._marks = await self._inbox.marks()
        for name in filter(self._is_concerned, self._account.folders):
            try:
                await self._fetch_folder(name)
            except Refusal as refusal:
                self.troubles.append(f"the folder {name} cannot be used: {refusal}")
        culprit = Culprit.SESSION if self.troubles else Culprit.MESSAGE
        if troubles := self.troubles + self._unmet():
            told = "; ".join(troubles[:MAX_TOLD_TROUBLES])
            more = f"; and {len(troubles) - MAX_TOLD_TROUBLES} more" if troubles[MAX_TOLD_TROUBLES:] else ""
            raise FetchFailure(f"{self._account.server}: {told}{more}", culprit)

    def _unmet(self) -> list[str]:
        """What somebody asks for that is not there, or that may be one of several."""
        return [
            f"there is a message {name} in {' and in '.join(places)}: write {places[0]}:{name}"
            if len(places := self._places_of(name)) > 1
            else f"there is no message {name}"
            for name in self._order.uids
            if name not in self._is_ordered_there
        ]

    def _is_concerned(self, folder: str) -> bool:
        """Whether there may be something to take in this folder."""
        uids = self._order.uids
        if self._inbox.is_closing:
            return False
        return not uids or any(self._places_of(text) in ([], [folder]) for text in uids)

    def _places_of(self, text: str) -> list[str]:
        """Where it is what somebody asks for: the folder that he says, else those where we left one so called."""
        name = parse_name(text)
        if name.folder:
            return [name.folder]
        marks = ((folder, self._marks.get(Uid(folder, name.uid))) for folder in self._account.folders)
        return [folder for folder, mark in marks if mark is not None and mark.fate is not FetchFate.TAKEN]

    def _ordered_uid(self, text: str, folder: Folder) -> int:
        """The UID in this folder of what somebody asks for; 0 when it is in another one, or in several."""
        if self._places_of(text) not in ([], [folder.name]):
            return 0
        return folder.uid_of(Uid(folder.name, parse_name(text).uid))

    async def _fetch_folder(self, name: str) -> None:
        folder = await self._select(name)
        listed, due = await (self._list_ordered(folder) if self._order.uids else self._list_new(folder))
        wanted = self._sort_out(listed)
        await self._leave(folder, [message for message in listed if self._is_too_big(message)])
        taking = Taking(self._line, self._inbox, folder, wanted, self._select, self._clock)
        await taking.run()
        self.troubles += taking.troubles
        if (known := self._known.get(name)) and not self._order.uids:
            known.is_done = not (taking.troubles or self._is_cut_short or self._inbox.is_closing)
        if self._account.keep is False:
            due |= taking.taken
        await self._remove(folder, due)

    async def _select(self, name: str) -> Folder:
        connection = await self._line.connection()
        return await connection.do(partial(connection.session.select, name, read_only=self._account.keep is True))

    # what is there

    async def _list_ordered(self, folder: Folder) -> tuple[list[Listed], set[int]]:
        """The same of what somebody asks for by name."""
        ordered = {text: uid for text in self._order.uids if (uid := self._ordered_uid(text, folder))}
        listed = await self._list_sizes(sorted(set(ordered.values())))
        there = {message.uid for message in listed}
        self._is_ordered_there.update(text for text, uid in ordered.items() if uid in there)
        taken = {message.uid: mark for message in listed if (mark := self._taken(folder.name_of(message.uid)))}
        due = {uid for uid, mark in taken.items() if self._is_due(mark)}
        return [message for message in listed if message.uid not in taken], due

    async def _list_new(self, folder: Folder) -> tuple[list[Listed], set[int]]:
        """New messages, and the UIDs of those that were taken before and are to be removed now."""
        marks = {uid: mark for uid, mark in self._marks.items() if uid.folder == folder.name}
        due = {folder.uid_of(uid) for uid, mark in marks.items() if self._is_due(mark)} - {0}
        connection = await self._line.connection()
        first = self._where_to_look(folder, bool(due), is_cheap=connection.session.has_compact_search)
        if first > 1 and folder.uid_next is not None and folder.uid_next <= first:
            return [], set()
        listed: list[Listed] | None = None
        if not folder.exists:
            listed, present = [], []
        elif len(marks) <= FEW_MARKS and folder.exists <= FEW_MESSAGES:  # nearly all is new: a round trip less
            listed = await connection.do(connection.session.list_all)
            present = sorted(message.uid for message in listed)
        else:
            present = await connection.do(partial(connection.session.list_uids, folder.exists, first))
        if first == 1:
            await self._forget_gone(folder, marks, present)
        self._note_look(folder, present, is_whole=first == 1)
        self._count_old(folder, marks, present)
        new = [uid for uid in present if self._is_new(marks.get(folder.name_of(uid)))]
        if listed is None:
            listed = await self._list_sizes(new)
        wanted = set(new)
        return [item for item in listed if item.uid in wanted and not item.is_deleted], due.intersection(present)

    def _where_to_look(self, folder: Folder, has_due: bool, *, is_cheap: bool) -> int:
        """The UID from which on to look at a folder: 1, unless it is big and we know what is in it."""
        known = self._known.get(folder.name)
        if known is None or known.uid_validity != folder.uid_validity or not known.is_done:
            return 1
        is_recent = self._clock.boottime() - known.looked_at < LOOK_AT_ALL_SECONDS
        return known.uid_next if is_recent and not (has_due or is_cheap or folder.exists <= FEW_MESSAGES) else 1

    def _note_look(self, folder: Folder, present: Sequence[int], *, is_whole: bool) -> None:
        known = self._known.get(folder.name)
        looked_at = known.looked_at if known is not None and not is_whole else self._clock.boottime()
        uid_next = max([folder.uid_next or 1, *(uid + 1 for uid in present[-1:])])
        self._known[folder.name] = Known(folder.uid_validity, uid_next, False, looked_at)

    def _count_old(self, folder: Folder, marks: Mapping[Uid, FetchMark], present: Collection[int]) -> None:
        """Counts what stays there as before."""
        for uid in present:
            mark = marks.get(folder.name_of(uid))
            if mark is not None and not self._is_new(mark):
                self._inbox.tally.left += mark.fate is FetchFate.LEFT
                self._inbox.tally.refused += mark.fate is FetchFate.REFUSED

    async def _list_sizes(self, uids: Sequence[int]) -> list[Listed]:
        if not uids:
            return []
        connection = await self._line.connection()
        return await connection.do(partial(connection.session.list_sizes, uids))

    async def _forget_gone(self, folder: Folder, marks: Mapping[Uid, FetchMark], present: Collection[int]) -> None:
        there = {folder.name_of(uid) for uid in present}
        gone = [uid for uid in marks if uid not in there]
        is_strange = len(gone) > MANY_MARKS and 2 * len(gone) > len(marks)
        if gone and not (is_strange and self._account.keep is not False):
            await self._inbox.forget(gone)

    def _is_new(self, mark: FetchMark | None) -> bool:
        if mark is None:
            return True
        limit = self._account.max_size
        return mark.fate is FetchFate.LEFT and mark.size_bytes > 0 and (limit is None or mark.size_bytes <= limit)

    def _is_due(self, mark: FetchMark) -> bool:
        """Whether a message is to be removed from its folder."""
        keep = self._account.keep
        if mark.fate is not FetchFate.TAKEN or keep is True:
            return False
        return keep is False or self._inbox.now() - mark.at >= keep

    def _taken(self, name: Uid) -> FetchMark | None:
        mark = self._marks.get(name)
        return mark if mark is not None and mark.fate is FetchFate.TAKEN else None

    def _is_too_big(self, message: Listed) -> bool:
        limit = self._account.max_size
        return limit is not None and message.size_bytes > limit and not self._order.uids

    def _sort_out(self, listed: Sequence[Listed]) -> list[Listed]:
        """What to take now: the smallest, where that cannot be all."""
        wanted = sorted(message for message in listed if not self._is_too_big(message))
        if self._account.max_messages and not self._order.uids:
            room = max(0, self._account.max_messages - self._inbox.tally.expected)
            self._is_cut_short |= len(wanted) > room
            wanted = wanted[:room]
        self._inbox.tally.expected += len(wanted)
        self._inbox.progress()
        return wanted

    async def _leave(self, folder: Folder, big: Sequence[Listed]) -> None:
        for start in range(0, len(big), HEADERS_AT_A_TIME):
            if self._inbox.is_closing:
                return
            some = big[start : start + HEADERS_AT_A_TIME]
            connection = await self._line.connection()
            try:
                headers = await connection.do(partial(connection.session.headers, [message.uid for message in some]))
            except Refusal as refusal:
                self.troubles.append(f"the server shows no header of messages that are too big: {refusal}")
                return
            for message in some:
                if (header := headers.get(message.uid)) is not None:
                    self._inbox.tally.left += 1
                    await self._inbox.leave(Found(folder.name_of(message.uid), message.size_bytes), header)

    async def _remove(self, folder: Folder, uids: Collection[int]) -> None:
        """Deletes messages that are ours now, or moves them to where the account wants them."""
        if not uids:
            return
        target, tally = self._account.move_to, self._inbox.tally
        what = f"moved to {target} from" if target else "deleted in"
        if not folder.is_writable:
            self.troubles.append(f"nothing can be {what} the folder {folder.name}, which is read-only here")
            return
        connection = await self._line.connection()
        try:
            if target:
                tally.moved += await connection.do(partial(imapremoval.move, connection.session, uids, target))
            else:
                tally.deleted += await connection.do(partial(imapremoval.delete, connection.session, uids))
        except Refusal as refusal:
            self.troubles.append(f"nothing can be {what} the folder {folder.name}: {refusal}")
        self._inbox.progress()
