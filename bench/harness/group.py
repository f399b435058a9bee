"""The processes of one peer as a control group: all of them, the short-lived ones too, count and can be found."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from harness.memory import Memory, memory_of

_numbers = count()


class Group:
    """A control group; a process joins when it is started with `joining`."""

    def __init__(self, name: str) -> None:
        root = _hierarchy()
        safe = "".join(c if c.isalnum() else "-" for c in name)
        self._folder = root / f"masqmail-bench-{os.getpid()}-{next(_numbers)}-{safe}"
        self._folder.mkdir()

    def joining(self, command: Sequence[str | Path]) -> list[str]:
        """The command as it must be started for it and its children to be in the group."""
        return ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self._folder / "cgroup.procs"), *map(str, command)]

    def cpu_seconds(self) -> float:
        """What all its processes have used so far, those that have ended too."""
        if (old := self._folder / "cpuacct.usage").exists():
            return int(old.read_text()) / 1e9
        first = (self._folder / "cpu.stat").read_text().splitlines()[0]
        return int(first.removeprefix("usage_usec ")) / 1e6

    def pids(self) -> list[int]:
        return [int(line) for line in (self._folder / "cgroup.procs").read_text().split()]

    def memory(self) -> Memory:
        """What the processes hold now."""
        return memory_of(self.pids())

    def wait_until_quiet(self, *, seconds: float = 30, quiet: float = 0.3) -> None:
        """Returns when the group has used next to no CPU time for a while, or when `seconds` are over."""
        deadline = time.monotonic() + seconds
        before = self.cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(quiet)
            now = self.cpu_seconds()
            if now - before < 0.02 * quiet:
                return
            before = now

    def end(self, *, seconds: float = 10) -> None:
        """Kills what is left in it, and takes it away."""
        deadline = time.monotonic() + seconds
        while (pids := self.pids()) and time.monotonic() < deadline:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.02)
        try:
            self._folder.rmdir()
        except OSError as error:
            print(f"{self._folder} is left: {error}", file=sys.stderr)


def _hierarchy() -> Path:
    """Where groups can be made: version 2, which always counts CPU time, or the cpuacct of version 1."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    for kind, wanted in (("cgroup2", ""), ("cgroup", "cpuacct")):
        for _, place, found, options, *_ in mounts:
            if found == kind and wanted in options and os.access(place, os.W_OK) and "rw" in options.split(","):
                return Path(place)
    sys.exit("Measuring CPU time needs a control group file system that can be written.")
