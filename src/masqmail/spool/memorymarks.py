"""The marks of fetched messages of the spool without a disk."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from masqmail.spool.fetchmark import FetchMark, Uid
from masqmail.spool.verbs import verb


class MemoryMarks:
    """Marks by account in plain dictionaries, see `fetchmark.FetchMarks`."""

    def __init__(self) -> None:
        self._marks: defaultdict[str, dict[Uid, FetchMark]] = defaultdict(dict)

    @verb
    def fetch_marks(self, account: str) -> dict[Uid, FetchMark]:
        return dict(self._marks[account])

    @verb
    def mark_fetched(self, marks: Sequence[FetchMark]) -> None:
        for mark in marks:
            self._note_fetched(mark)

    @verb
    def forget_fetched(self, account: str, uids: Collection[Uid]) -> None:
        for uid in uids:
            self._marks[account].pop(uid, None)

    def _note_fetched(self, mark: FetchMark) -> None:
        self._marks[mark.account][mark.uid] = mark
