"""Numbers from many runs, and how often a program syncs."""

import math
import re
import signal
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: What waits for the disk.
SYNC_CALLS = ("fsync", "fdatasync", "sync", "syncfs", "msync", "sync_file_range")


@dataclass(frozen=True)
class Spread:
    """The middle of several numbers, and the ends."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


def spread(numbers: Sequence[float]) -> Spread:
    return Spread(statistics.median(numbers), min(numbers), max(numbers))


def percentile(numbers: Sequence[float], percent: float) -> float:
    """The smallest of the numbers that so many percent of them do not exceed."""
    ordered = sorted(numbers)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def ratios_to_best(rounds: Sequence[Mapping[str, float]], ours: str, others: Sequence[str]) -> Spread | None:
    """In each round our number divided by the greatest of the others'; None when there is nothing to compare.

    For rates. Whatever disturbs a whole round falls out of its ratio.
    """
    found = []
    for numbers in rounds:
        rivals = [numbers[name] for name in others if name in numbers]
        if ours in numbers and rivals:
            found.append(numbers[ours] / max(rivals))
    return spread(found) if found else None


class Syncs:
    """How many calls that sync have been made; known when the counting is over."""

    count = 0


@contextmanager
def counting_syncs(pids: Sequence[int]) -> Iterator[Syncs]:
    """Counts how often these processes and their children sync. It slows them down: for a run of its own."""
    syncs = Syncs()
    if not pids:
        yield syncs
        return
    with tempfile.NamedTemporaryFile("r") as summary:
        options = ["-f", "-c", "-o", summary.name, "-e", f"trace={','.join(SYNC_CALLS)}"]
        attach = [word for pid in pids for word in ("-p", str(pid))]
        strace = subprocess.Popen(["strace", *options, *attach], stderr=subprocess.PIPE, text=True)
        try:
            assert strace.stderr is not None
            for _ in pids:
                strace.stderr.readline()  # "strace: Process 123 attached"
            yield syncs
        finally:
            strace.send_signal(signal.SIGINT)
            strace.communicate()
        syncs.count = parse_summary(Path(summary.name).read_text())


def syncs_of(command: Sequence[str], environment: Mapping[str, str], message: Path) -> int:
    """How often a command syncs that reads this file from its standard input."""
    with tempfile.NamedTemporaryFile("r") as summary, message.open("rb") as source:
        options = ["-f", "-c", "-o", summary.name, "-e", f"trace={','.join(SYNC_CALLS)}"]
        subprocess.run(["strace", *options, *command], stdin=source, env=environment, check=True, capture_output=True)
        return parse_summary(Path(summary.name).read_text())


def parse_summary(text: str) -> int:
    """How many calls the table of `strace -c` has in all."""
    row = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.MULTILINE)
    return sum(int(calls) for calls, name in row.findall(text) if name != "total")
