"""What the two throughput benchmarks share: runs in rounds, and the tables made of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness.chart import Chart
from harness.load import Load, Sink, require, rotated, running_sink
from harness.measure import counting_syncs, ratios_to_best, spread
from harness.peers import Peer, Smarthost, make_peer, submit
from harness.report import Result, Table, options, publish
from harness.sandbox import sandbox

OURS = "masqmail"
LIMIT = "no mail server"


_WARM_UP = Load(4096, 10, 200, {"opensmtpd": 20})


@dataclass(frozen=True)
class Sample:
    """One run."""

    round: int
    load: str
    peer: str
    per_second: float
    cpu_per_1000: float | None


@dataclass(frozen=True)
class Benchmark:
    """What is measured: `run` gives a server a load and returns when the clock is to stop."""

    name: str
    title: str
    peers: Sequence[str]
    loads: Sequence[Load]
    sync_loads: Sequence[Load]
    online: bool
    run: Callable[[Peer, Load, Sink], None]


def main(benchmark: Benchmark) -> None:
    """The program: reads the options, measures, and says what it found."""
    parser = options(benchmark.title)
    names = " ".join(benchmark.peers)
    parser.add_argument("--rounds", type=int, help="how often everything is measured (5; 1 with --quick)")
    parser.add_argument("--peers", nargs="+", default=benchmark.peers, metavar="NAME", help=f"default: {names}")
    arguments = parser.parse_args()
    require(smtp_source="postfix", smtp_sink="postfix", strace="strace")
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    loads = [load.part(4) for load in benchmark.loads] if arguments.quick else benchmark.loads
    with sandbox(arguments.peers) as folder, ExitStack() as stack:
        sink = stack.enter_context(running_sink(folder))
        bench = _Bench(benchmark, sink, _start(benchmark, arguments.peers, folder, sink, stack))
        samples = [sample for turn in range(rounds) for load in loads for sample in bench.round(turn, load)]
        syncs = {name: [bench.syncs_per_message(name, load) for load in benchmark.sync_loads] for name in bench.peers}
        durable = [name for name, peer in bench.peers.items() if peer.durable]
    publish(summary(benchmark, samples, loads, syncs, durable), save=arguments.save)


def _start(benchmark: Benchmark, names: Sequence[str], folder: Path, sink: Sink, stack: ExitStack) -> dict[str, Peer]:
    smarthost = Smarthost("127.0.0.1", sink.port)
    return {name: stack.enter_context(make_peer(name, folder, smarthost, online=benchmark.online)) for name in names}


class _Bench:
    """Servers that run side by side and are measured in turn; whoever is not measured has nothing to do."""

    def __init__(self, benchmark: Benchmark, sink: Sink, peers: Mapping[str, Peer]) -> None:
        self.peers = peers
        self._benchmark = benchmark
        self._sink = sink
        for name in peers:  # so that files and processes are there
            self._measure(name, _WARM_UP)

    def round(self, turn: int, load: Load) -> list[Sample]:
        samples = [Sample(turn, str(load), name, *self._measure(name, load)) for name in rotated([*self.peers], turn)]
        started = time.perf_counter()
        submit(self._sink.address, load.count, load.size_bytes, load.sessions)
        samples.append(Sample(turn, str(load), LIMIT, load.count / (time.perf_counter() - started), None))
        for sample in samples:
            print(f"round {turn + 1}  {sample.load:12} {sample.peer:16} {sample.per_second:8.0f}/s", flush=True)
        return samples

    def _measure(self, name: str, load: Load) -> tuple[float, float]:
        """Messages per second, and CPU seconds for 1000 of them, with what the server does about them afterwards."""
        peer = self.peers[name]
        load = load.for_peer(name)
        peer.group.wait_until_quiet()
        cpu, started = peer.group.cpu_seconds(), time.perf_counter()
        self._benchmark.run(peer, load, self._sink)
        seconds = time.perf_counter() - started
        peer.group.wait_until_quiet()
        cpu = peer.group.cpu_seconds() - cpu
        expected = 0 if self._benchmark.online else load.count
        if (queued := peer.queued()) != expected:
            raise AssertionError(f"{peer.name} should have {expected} messages, and has {queued}")
        peer.empty()
        return load.count / seconds, cpu / load.count * 1000

    def syncs_per_message(self, name: str, load: Load) -> float:
        peer, load = self.peers[name], load.for_peer(name)
        peer.group.wait_until_quiet()
        with counting_syncs(peer.group.pids()) as syncs:
            self._benchmark.run(peer, load, self._sink)
            peer.group.wait_until_quiet()
        peer.empty()
        return syncs.count / load.count


def summary(
    benchmark: Benchmark,
    samples: Sequence[Sample],
    loads: Sequence[Load],
    syncs: Mapping[str, Sequence[float]],
    durable: Sequence[str],
) -> Result:
    """The tables and the chart of all runs."""
    names = list(dict.fromkeys(sample.peer for sample in samples))
    columns = ["", *map(str, loads)]
    rates = {name: [_middle(samples, name, load, "per_second") for load in loads] for name in names}
    cpu = {name: [_middle(samples, name, load, "cpu_per_1000") for load in loads] for name in names if name != LIMIT}
    others = [name for name in durable if name != OURS]
    ratios = [str(ratios_to_best(_rounds(samples, load), OURS, others) or "–") for load in loads]
    tables = [
        Table(f"{benchmark.title}: messages per second, median", columns, _rows(rates)),
        Table("CPU seconds for 1000 messages, median", columns, _rows(cpu)),
        Table(f"{OURS} against the best durable one of the same round, median and ends", columns, [["×", *ratios]]),
        Table("Syncs per message", ["", *map(str, benchmark.sync_loads)], _rows(syncs)),
    ]
    chart = Chart(benchmark.title, "messages per second", columns[1:], rates, bounds=[LIMIT])
    return Result(benchmark.name, tables, {"runs": samples, "syncs": syncs}, [chart])


def _rows(numbers: Mapping[str, Sequence[float | None]]) -> list[list[object]]:
    return [[name, *row] for name, row in numbers.items()]


def _middle(samples: Sequence[Sample], name: str, load: Load, field: str) -> float | None:
    found = [getattr(sample, field) for sample in samples if (sample.peer, sample.load) == (name, str(load))]
    return spread(found).median if found else None


def _rounds(samples: Sequence[Sample], load: Load) -> list[dict[str, float]]:
    """For each round the rate of each server."""
    rounds: dict[int, dict[str, float]] = {}
    for sample in samples:
        if sample.load == str(load):
            rounds.setdefault(sample.round, {})[sample.peer] = sample.per_second
    return list(rounds.values())
