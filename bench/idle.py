"""What a server costs that has nothing to do: `python bench/idle.py [--quick] [--save]`, as root.

Each is started alone, as root and with the configuration it comes with, and measured some seconds later: the memory
of all its processes, and how long it took from the command until it greeted. Then once more after 100 messages. It is
the second start: the first one makes folders and files.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import knock
from harness.chart import Chart
from harness.load import require
from harness.measure import spread
from harness.memory import Memory
from harness.peers import make_peer
from harness.report import Result, Table, options, publish
from harness.sandbox import sandbox

PEERS = ("masqmail", "postfix", "exim", "opensmtpd", "nullmailer")
MEGABYTE = 1e6


@dataclass(frozen=True)
class Sample:
    """One start. `used` is after 100 messages; None, like `ready_seconds`, for what takes no mail by SMTP."""

    peer: str
    ready_seconds: float | None
    idle: Memory
    used: Memory | None


@dataclass(frozen=True)
class Row:
    peer: str
    processes: int
    pss: float | None
    alone: float | None
    pss_used: float | None
    alone_used: float | None
    ready: float | None


def main() -> None:
    parser = options("What a server costs that has nothing to do.")
    parser.add_argument("--rounds", type=int, help="how often each is started (5; 1 with --quick)")
    parser.add_argument("--peers", nargs="+", default=PEERS, metavar="NAME", help=f"default: {' '.join(PEERS)}")
    arguments = parser.parse_args()
    require(smtp_source="postfix")
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    with sandbox(arguments.peers) as folder:
        samples = [
            measure(name, folder, rest_seconds=2 if arguments.quick else 5)
            for _ in range(rounds)
            for name in arguments.peers
        ]
    publish(result(samples, arguments.peers), save=arguments.save)


def measure(name: str, folder: Path, *, rest_seconds: float) -> Sample:
    # A queue program without a listener sits there and sends: that is its idle state.
    peer = make_peer(name, folder, online=name == "nullmailer")
    try:
        peer.start()
        peer.stop()
        peer.group.wait_until_quiet()
        with ThreadPoolExecutor(1) as pool:
            started = time.perf_counter()
            greeted = pool.submit(moment_of_greeting, peer.port) if peer.listens else None
            peer.launch()
            ready = greeted.result() - started if greeted else None
        time.sleep(rest_seconds)
        idle, used = peer.group.memory(), None
        if peer.listens:
            peer.fill(100, 4096)
            time.sleep(rest_seconds)
            used = peer.group.memory()
        peer.stop()
    finally:
        peer.group.end()
    print(f"{name}: {idle.pss_bytes / MEGABYTE:.1f} MB PSS, {idle.alone_bytes / MEGABYTE:.1f} MB alone", flush=True)
    return Sample(name, ready, idle, used)


def moment_of_greeting(port: int) -> float:
    if not knock.greeting("127.0.0.1", port, every=0.002):
        raise TimeoutError(f"nobody greets at port {port}")
    return time.perf_counter()


def result(samples: Sequence[Sample], names: Sequence[str]) -> Result:
    rows = [row(name, [sample for sample in samples if sample.peer == name]) for name in names]
    columns = ["", "processes", "PSS MB", "alone MB", "PSS MB after 100", "alone MB after 100", "ready after s"]
    table = Table("Idle, as root, default configuration", columns, [list(asdict(found).values()) for found in rows])
    series = {found.peer: [found.pss, found.alone] for found in rows}
    chart = Chart("Memory of an idle server", "MB", ["PSS", "alone on the host"], series, lower_is_better=True)
    return Result("idle", [table], [asdict(sample) for sample in samples], [chart])


def row(name: str, samples: Sequence[Sample]) -> Row:
    """The medians of one server, in MB and seconds."""
    used = [sample.used for sample in samples if sample.used]
    return Row(
        name,
        samples[0].idle.processes,
        middle([sample.idle.pss_bytes / MEGABYTE for sample in samples]),
        middle([sample.idle.alone_bytes / MEGABYTE for sample in samples]),
        middle([memory.pss_bytes / MEGABYTE for memory in used]),
        middle([memory.alone_bytes / MEGABYTE for memory in used]),
        middle([sample.ready_seconds for sample in samples if sample.ready_seconds is not None]),
    )


def middle(numbers: Sequence[float]) -> float | None:
    return spread(numbers).median if numbers else None


if __name__ == "__main__":
    main()
