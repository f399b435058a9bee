"""What the two throughput benchmarks share: runs in rounds, and the tables made of them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.chart import Chart
from harness.load import Load, Sink, require, rotated, running_sink
from harness.measure import counting_syncs, ratios_to_best, spread
from harness.peers import CLASSES, Peer, Smarthost, make_peer, submit
from harness.report import Result, Table, options, publish
from harness.sandbox import sandbox

OURS = "masqmail"
LIMIT = "no mail server"


#: What each server gets before it is measured, over as many sessions: then its processes run.
_WARM_UP_MESSAGES = 1000


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
    with sandbox(arguments.peers) as folder, running_sink(folder) as sink:
        bench = _Bench(benchmark, arguments.peers, folder, sink)
        samples = [sample for turn in range(rounds) for load in loads for sample in bench.round(turn, load)]
        syncs = {name: [bench.syncs_per_message(name, load) for load in benchmark.sync_loads] for name in bench.names}
    durable = [name for name in arguments.peers if CLASSES[name.partition(":")[0]].durable]
    publish(summary(benchmark, samples, loads, syncs, durable), save=arguments.save)


class _Bench:
    """Servers that are measured in turn, each time a new one with folders of its own that are not deleted.

    What a run leaves behind would slow the next one: idle processes, and on ext4 the inodes of files just deleted,
    which are passed over one by one for a minute. That halves the rate of a server with a file for each message.
    """

    def __init__(self, benchmark: Benchmark, names: Sequence[str], folder: Path, sink: Sink) -> None:
        self.names = names
        self._benchmark = benchmark
        self._folder = folder
        self._sink = sink

    def round(self, turn: int, load: Load) -> list[Sample]:
        samples = [Sample(turn, str(load), name, *self._measure(name, load)) for name in rotated(self.names, turn)]
        started = time.perf_counter()
        submit(self._sink.address, load.count, load.size_bytes, load.sessions)
        samples.append(Sample(turn, str(load), LIMIT, load.count / (time.perf_counter() - started), None))
        for sample in samples:
            print(f"round {turn + 1}  {sample.load:12} {sample.peer:16} {sample.per_second:8.0f}/s", flush=True)
        return samples

    def _measure(self, name: str, load: Load) -> tuple[float, float]:
        """Messages per second, and CPU seconds for 1000 of them, with what the server does about them afterwards."""
        load = load.for_peer(name)
        with self._warm(name, load) as peer:
            before, cpu, started = peer.queued(), peer.group.cpu_seconds(), time.perf_counter()
            self._benchmark.run(peer, load, self._sink)
            seconds = time.perf_counter() - started
            peer.group.wait_until_quiet()
            cpu = peer.group.cpu_seconds() - cpu
            expected = 0 if self._benchmark.online else before + load.count
            if (queued := peer.queued()) != expected:
                raise AssertionError(f"{peer.name} should have {expected} messages, and has {queued}")
        return load.count / seconds, cpu / load.count * 1000

    @contextmanager
    def _warm(self, name: str, load: Load) -> Iterator[Peer]:
        """A new server that has worked a little and has nothing to do."""
        smarthost = Smarthost("127.0.0.1", self._sink.port)
        with make_peer(name, self._folder, smarthost, online=self._benchmark.online) as peer:
            if peer.shares_its_places:
                peer.empty()
            self._benchmark.run(peer, replace(load, count=min(load.count, _WARM_UP_MESSAGES)), self._sink)
            peer.group.wait_until_quiet()
            yield peer

    def syncs_per_message(self, name: str, load: Load) -> float:
        load = load.for_peer(name)
        with self._warm(name, load) as peer, counting_syncs(peer.group.pids()) as syncs:
            self._benchmark.run(peer, load, self._sink)
            peer.group.wait_until_quiet()
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
