"""The file for bodies that are too big for a row of SQLite and too small for a file each.

SQLite writes what is in a row twice, page by page, with a checksum of it all; a file of its own costs a body several
changes to the file system. Here the bodies of a transaction lie side by side, and are written and synced at once.

The file consists of segments. A body goes behind the one before it; a segment is used again when nobody wants any of
its bodies. Bytes that are synced at once gain nothing from the kernel's page cache, and filling that is most of the
work, so they go past it (`O_DIRECT`) where the file system lets them. That wants whole blocks, in memory as on disk.

A body is on stable storage before the row that says where it is. Its place is used again only when the transaction
that gave it up is on stable storage, too: a power failure may bring that row back, and its body must be there still.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from mmap import mmap
from pathlib import Path
from typing import NamedTuple

from masqmail.spool.api import ContentLost, SpoolBroken
from masqmail.spool.files import mapped_errors, sync_folder

FILE_NAME = "segments"

SEGMENT_BYTES = 1024 * 1024
BLOCK_BYTES = 4096

#: The file is not cut back to fewer segments: they are soon used again.
LEAST_SEGMENTS = 16

#: Content that is moved at a time so that the file can be cut.
MOST_MOVED_BYTES = 8 * SEGMENT_BYTES


class Extent(NamedTuple):
    """Where a body is in the file, both in bytes."""

    position: int
    size_bytes: int

    @property
    def segment(self) -> int:
        return self.position // SEGMENT_BYTES

    @property
    def whole_bytes(self) -> int:
        """The size with the rest of the last block."""
        return -(-self.size_bytes // BLOCK_BYTES) * BLOCK_BYTES


class Segments:
    """The file and which places in it are taken. It belongs to the transactions of one `Database`."""

    def __init__(self, directory: Path, wanted: Iterable[tuple[int, int, int]]) -> None:
        """Takes over the file with what the rows want of it. Raises `SpoolBroken` when that cannot be in it.

        `wanted` has the number of each segment with bodies, their size in whole blocks, and where the last one ends.
        """
        self._path = directory / FILE_NAME
        self._descriptor: int | None = None
        self._is_direct = True
        self._buffer: memoryview | None = None
        self._wanted_bytes: Counter[int] = Counter()  # of each segment, in whole blocks
        end = 0
        for number, whole_bytes, end_of_segment in wanted:
            self._wanted_bytes[number] = whole_bytes
            end = max(end, end_of_segment)
        size_bytes = self._path.stat().st_size if self._path.exists() else 0
        if size_bytes < end:
            raise SpoolBroken(
                f"{self._path} is missing or cut off: it has {size_bytes} bytes, and bodies of messages in the queue"
                f" lie up to {end}. Nothing was changed; put the file of the same time beside queue.sqlite3"
            )
        self._count = -(-size_bytes // SEGMENT_BYTES)  # of segments
        self._free = [number for number in range(self._count) if number not in self._wanted_bytes]  # a heap
        self._current: int | None = None  # the segment that is being filled
        self._filled_bytes = 0  # of the current one
        self._placed: dict[Extent, bytes | bytearray] = {}  # by the transaction that is open
        self._given_up: list[Extent] = []  # by that transaction
        self._leaving: list[Extent] = []  # given up before, but that is not on stable storage yet

    def place(self, body: bytes | bytearray) -> Extent:
        """A place for a body, which is not to change; `write` puts it there."""
        whole_bytes = Extent(0, len(body)).whole_bytes
        if self._current is None or self._filled_bytes + whole_bytes > SEGMENT_BYTES:
            self._leave_current()
            self._current = heappop(self._free) if self._free else self._add_segment()
            self._filled_bytes = 0
        extent = Extent(self._current * SEGMENT_BYTES + self._filled_bytes, len(body))
        self._filled_bytes += whole_bytes
        self._wanted_bytes[self._current] += whole_bytes
        self._placed[extent] = body
        return extent

    def give_up(self, extent: Extent) -> None:
        """Nobody wants that body any more when the transaction has committed."""
        self._given_up.append(extent)

    def write(self) -> None:
        """Brings what the transaction has placed to stable storage, before it commits."""
        if not self._placed:
            return
        buffer = self._whole_blocks()
        with mapped_errors("store message bodies"):
            start = filled = 0
            for extent, body in self._placed.items():
                if extent.position != start + filled or filled + extent.whole_bytes > len(buffer):
                    self._write(buffer[:filled], start)
                    start, filled = extent.position, 0
                buffer[filled : filled + len(body)] = body
                filled += extent.whole_bytes
            self._write(buffer[:filled], start)
            os.fdatasync(self._open())

    def read(self, extent: Extent) -> bytes:
        """The body at that place; one that the open transaction has placed need not be written yet.

        Raises `ContentLost` where the disk has a bad place, and `SpoolBroken` when the file is not whole.
        """
        if (placed := self._placed.get(extent)) is not None:
            return bytes(placed)
        buffer = self._whole_blocks()
        done = 0
        with mapped_errors("read a message body"):
            while done < extent.size_bytes:
                part = self._read_some(buffer[done : extent.whole_bytes], extent.position + done)
                if not part:
                    raise SpoolBroken(f"{self._path} ends before byte {extent.position + extent.size_bytes}")
                done += part
        return bytes(buffer[: extent.size_bytes])

    def _read_some(self, buffer: memoryview, position: int) -> int:
        try:
            return self._transfer(_read_into, buffer, position)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise ContentLost(
                f"its body cannot be read from byte {position} of {self._path}: {error.strerror}"
            ) from error

    @property
    def has_changes(self) -> bool:
        """Whether the transaction has changed anything here, and so surely writes rows: SQLite syncs no empty one."""
        return bool(self._placed or self._given_up)

    def note_commit(self, *, is_durable: bool) -> None:
        """The transaction has committed. If that is on stable storage, all that did before it are."""
        self._placed.clear()
        self._leaving += self._given_up
        self._given_up.clear()
        if is_durable:
            self.note_synced()

    def note_synced(self) -> None:
        """All that was ever committed is on stable storage."""
        if self._leaving:
            for extent in self._leaving:
                self._release(extent)
            self._leaving.clear()

    def undo(self) -> None:
        """The transaction came to nothing."""
        for extent in self._placed:
            self._release(extent)
        self._placed.clear()
        self._given_up.clear()

    def choose_to_empty(self) -> list[int]:
        """Segments with little in them and the last ones, the very last first, when most of the file is of no use.

        Their bodies are for the caller to move. Those will not come to lie in the segment that is filled now. What is
        rather full only moves forwards: else it would be moved to the end, and back, again and again.
        """
        least = -(-self._wanted_bytes.total() // SEGMENT_BYTES)
        if self._count - least < max(LEAST_SEGMENTS, self._count / 2):
            return []
        self._leave_current()
        chosen, moved_bytes = [], 0
        for number in sorted(self._wanted_bytes, reverse=True):
            is_full = self._wanted_bytes[number] > SEGMENT_BYTES / 2
            if is_full and not (self._free and self._free[0] < number):
                continue
            moved_bytes += self._wanted_bytes[number]
            if moved_bytes > MOST_MOVED_BYTES:
                break
            chosen.append(number)
        return chosen

    def cut(self) -> None:
        """Gives the space of free segments at the end back, but for a few."""
        if self._current not in self._wanted_bytes:
            self._leave_current()
        taken = {*self._wanted_bytes, *(() if self._current is None else (self._current,))}
        count = max(LEAST_SEGMENTS, max(taken, default=-1) + 1)
        if count < self._count:
            with mapped_errors("give space of message bodies back"):
                os.ftruncate(self._open(), count * SEGMENT_BYTES)
            self._count = count
            self._free = [number for number in range(count) if number not in taken]

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _add_segment(self) -> int:
        self._count += 1
        return self._count - 1

    def _leave_current(self) -> None:
        """Fills the current segment no further."""
        if self._current is not None and self._current not in self._wanted_bytes:
            heappush(self._free, self._current)
        self._current = None

    def _release(self, extent: Extent) -> None:
        number = extent.segment
        self._wanted_bytes[number] -= extent.whole_bytes
        if not self._wanted_bytes[number]:
            del self._wanted_bytes[number]
            if number != self._current:
                heappush(self._free, number)

    def _whole_blocks(self) -> memoryview:
        """Memory that begins at a page, which writing past the page cache wants; made when it is first needed."""
        if self._buffer is None:
            self._buffer = memoryview(mmap(-1, SEGMENT_BYTES))
        return self._buffer

    def _write(self, content: memoryview, position: int) -> None:
        while content:
            done = self._transfer(os.pwrite, content, position)
            content, position = content[done:], position + done

    def _transfer(self, call: Callable[[int, memoryview, int], int], content: memoryview, position: int) -> int:
        """Reads or writes; through the page cache from now on when the file system cannot do it without."""
        try:
            return call(self._open(), content, position)
        except OSError as error:
            if error.errno != errno.EINVAL or not self._is_direct:
                raise
        self.close()
        self._is_direct = False
        return call(self._open(), content, position)

    def _open(self) -> int:
        """The descriptor of the file, which is made when it is first needed."""
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            try:
                descriptor = os.open(self._path, flags | os.O_DIRECT * self._is_direct, 0o600)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._is_direct:
                    raise
                self._is_direct = False
                descriptor = os.open(self._path, flags, 0o600)
            try:
                sync_folder(self._path.parent)  # also if the file is there: who made it may have died before this
            except BaseException:
                os.close(descriptor)
                raise
            self._descriptor = descriptor
        return self._descriptor


def _read_into(descriptor: int, buffer: memoryview, position: int) -> int:
    return os.preadv(descriptor, [buffer], position)
