"""What an earlier program has fetched already: the lists that `masqmail import` leaves beside the configuration.

`uids/ACCOUNT` has one UID of the server to a line. Each list is read once into the marks of the spool, and again only
when it is another file.
"""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

from anyio.to_thread import run_sync

from masqmail.mail.outcome import Culprit
from masqmail.retrieval.account import FetchFailure
from masqmail.spool.api import FetchFate, FetchMark, Spool, Uid
from masqmail.system.clock import Clock
from masqmail.system.events import UIDS_READ, emit

FOLDER = "uids"

#: Under this name and that of the account the spool remembers which list was read.
MEMORY = "list of UIDs "

#: RFC 1939 §7 allows 70 octets for a UID; lists of more bytes than that are none.
MAX_UID_BYTES = 1000
MAX_LIST_BYTES = 64 * 1024 * 1024

#: Marks that are stored at a time, so that nothing else waits long.
SLICE = 2000


class ImportedUids:
    """The lists beside one configuration file."""

    def __init__(self, configuration: Path | None, spool: Spool, clock: Clock) -> None:
        self._folder = configuration.parent / FOLDER if configuration else None
        self._spool = spool
        self._clock = clock

    async def read(self, account: str) -> None:
        """Marks what is on the account's list as taken, unless something else is known of it.

        Raises `FetchFailure` for a list that cannot be read: without it everything would come a second time.
        """
        if self._folder is None:
            return
        path = self._folder / account
        try:
            facts = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return  # as nearly always
        except OSError as error:
            raise _unreadable(path, error) from error
        identity = json.dumps([facts.st_size, facts.st_mtime_ns])
        if await self._spool.recall(MEMORY + account) == identity:
            return
        if facts.st_size > MAX_LIST_BYTES:
            raise _unreadable(path, OSError(errno.EFBIG, os.strerror(errno.EFBIG)))
        try:
            uids = await run_sync(_read, path)
        except OSError as error:
            raise _unreadable(path, error) from error
        known = await self._spool.fetch_marks(account)
        new = [uid for uid in uids if uid not in known]
        for slice_ in _slices(new):
            now = self._clock.now()
            await self._spool.mark_fetched([FetchMark(account, uid, FetchFate.TAKEN, now) for uid in slice_])
        await self._spool.remember(MEMORY + account, identity)
        emit(UIDS_READ, account=account, file=str(path), marked=len(new))


def _unreadable(path: Path, error: OSError) -> FetchFailure:
    return FetchFailure(
        f"the list of what was fetched before, {path}, cannot be read: {error.strerror}", Culprit.LOCAL
    )


def _read(path: Path) -> list[Uid]:
    """Every line that can be a UID."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        lines = file.read(MAX_LIST_BYTES).split(b"\n")
    found = (line.rstrip(b"\r") for line in lines)
    return list(dict.fromkeys(Uid("", uid.decode("ascii")) for uid in found if _is_uid(uid)))


def _is_uid(line: bytes) -> bool:
    """RFC 1939 §7: printable ASCII without blanks."""
    return 0 < len(line) <= MAX_UID_BYTES and all(0x21 <= octet <= 0x7E for octet in line)


def _slices(uids: list[Uid]) -> Iterator[list[Uid]]:
    for start in range(0, len(uids), SLICE):
        yield uids[start : start + SLICE]
