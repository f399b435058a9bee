"""What processes hold, counted in the two ways that make sense for programs of several processes."""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PRESENT, _FRAME = 1 << 63, (1 << 55) - 1  # bits of an entry in pagemap, proc(5)


@dataclass(frozen=True)
class Memory:
    """What some processes hold together.

    PSS divides a page by the number of all processes of the host that map it, so that whatever else runs (the
    benchmark too is Python) makes it smaller. `alone_bytes` counts each page of theirs once and whole, as if nobody
    else had it.
    """

    processes: int
    pss_bytes: int
    alone_bytes: int


def memory_of(pids: Sequence[int]) -> Memory:
    """What these processes hold now. Needs root."""
    frames: set[int] = set()
    pss_bytes = processes = 0
    for pid in pids:
        try:
            pss_bytes += _pss(pid)
            frames.update(_frames(pid))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        processes += 1
    return Memory(processes, pss_bytes, len(frames) * _PAGE)


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _frames(pid: int) -> Iterator[int]:
    """The numbers of the page frames a process has in memory."""
    ranges = [line.split()[0].split("-") for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for first, last in ((int(first, 16) // _PAGE, int(last, 16) // _PAGE) for first, last in ranges):
            if first >= 1 << 51:
                continue  # the kernel's page of system calls
            entries = os.pread(pagemap.fileno(), 8 * (last - first), 8 * first)
            for (entry,) in struct.iter_unpack("=Q", entries):
                if entry & _PRESENT:
                    yield entry & _FRAME
