"""The loads of the throughput benchmarks, and what receives."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import knock
from harness.peers.base import free_port


@dataclass(frozen=True)
class Load:
    """So many messages of one size, over so many sessions side by side; `counts` are those of slow peers."""

    size_bytes: int
    sessions: int
    count: int
    counts: Mapping[str, int] = field(default_factory=dict)

    def part(self, divisor: int) -> "Load":
        """The same with fewer messages."""
        counts = {name: max(1, count // divisor) for name, count in self.counts.items()}
        return replace(self, count=self.count // divisor, counts=counts)

    def for_peer(self, name: str) -> "Load":
        """The same with as many messages as this peer gets."""
        return replace(self, count=self.counts.get(name.partition(":")[0], self.count))

    def __str__(self) -> str:
        return f"{self.size_bytes // 1000} KB × {self.sessions}"


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """The names in another order at each turn, so that none is always measured behind the same one."""
    turn %= len(names)
    return [*names[turn:], *names[:turn]]


def require(**packages: str) -> None:
    """Ends the benchmark with a message unless these programs are here; each with the Debian package that has it."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    os.environ["PATH"] = path
    for program, package in packages.items():
        if shutil.which(program.replace("_", "-")) is None:
            sys.exit(f"There is no {program.replace('_', '-')} here; Debian's package {package} has it.")


class Sink:
    """A running smtp-sink: takes everything, keeps nothing, counts."""

    def __init__(self, port: int, counter: Path) -> None:
        self.port = port
        self._counter = counter

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def received(self) -> int:
        """How many messages it has taken so far."""
        with self._counter.open("rb") as file:
            file.seek(max(0, self._counter.stat().st_size - 128))
            counts = re.findall(rb"mesg=(\d+)\r", file.read())
        return int(counts[-1]) if counts else 0

    def wait_for(self, count: int, *, seconds: float = 120) -> None:
        """Returns when it has taken that many in all."""
        deadline = time.monotonic() + seconds
        while (received := self.received()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {received} of {count} messages have arrived")
            time.sleep(0.002)


@contextmanager
def running_sink(folder: Path) -> Iterator[Sink]:
    """An smtp-sink on loopback."""
    sink = Sink(free_port(), folder / "sink.count")
    command = ["smtp-sink", "-c", "-u", "nobody", sink.address, "500"]
    with sink._counter.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
    try:
        if not knock.greeting("127.0.0.1", sink.port):
            sys.exit("smtp-sink does not start")
        yield sink
    finally:
        process.terminate()
        process.wait()
