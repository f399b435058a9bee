"""How fast a queue empties over a slow link: `python bench/drain.py [--case CASE] [--link LINK] [--peer PEER]`.

50 messages of 3 KB wait while the link is down. The clock runs from the start of the command that lets them go
(`masqmail link up`, `postqueue -f`, `exim -qf`) until the receiving server has accepted the last one.

Links: geo (satellite: 600 ms round trip, 256 kbit/s), modem (200 ms, 56 kbit/s), lte (150 ms, 1 Mbit/s, 1 % loss in
each direction), leo (40 ms, 20 Mbit/s); each with a queue of 96 KB. `python bench/harness/wire.py LINK --prove`
shows that they are what they say.

Cases: `tls` is STARTTLS and a log-in; `implicit` has TLS from the first byte, `plain` no TLS and no log-in; `data`
is `tls` with a server that has no CHUNKING; `slow` with one that takes 0.3 s for each message. `data-again` and
`slow-again` are the same when the link was up before, and 20 other messages went over it.

How the limit and the fewest possible bytes are computed is written in `harness/limit.py`; they are those of a quick
server with CHUNKING in all cases. "round trips per message" is what remains of the time without that of the bytes on
the line, divided by round trip and messages: connections side by side push it down. Needs root, iproute2 and
/dev/net/tun.
"""

import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import namespace, slowrun
from harness.chart import Chart
from harness.lanes import side_by_side
from harness.line import LINKS
from harness.measure import spread
from harness.packages import PACKAGES, unpacked
from harness.receiver import Server
from harness.report import Result, Table, options, publish
from harness.slowrun import Run

RUNS = 5
LANES = 4  # a run needs little more than patience
MESSAGES = 50

#: On so quick a link other runs at the same time would show.
ALONE = ("leo",)

#: One message after the other: these take minutes, and the same each time.
ONCE = ("exim", "postfix:single")

LIMIT = "limit"

SLOW_LINKS = ("geo", "modem", "lte", "leo")


@dataclass(frozen=True, slots=True)
class Case:
    """A server, the links it is measured on, and who sends to it. The first peer is ours."""

    name: str
    what: str
    server: Server
    links: tuple[str, ...]
    peers: tuple[str, ...]
    again: bool = False  # whether the link was up before, so that a peer may have learned something


_POSTFIXES = ("postfix", "postfix:tuned", "postfix:single")
_EXIMS = ("exim", "exim:tuned")

CASES = {
    case.name: case
    for case in (
        Case("tls", "STARTTLS and AUTH", Server(), SLOW_LINKS, ("masqmail", *_POSTFIXES, *_EXIMS)),
        Case("implicit", "implicit TLS and AUTH", Server(tls="implicit"), SLOW_LINKS, ("masqmail",)),
        Case("plain", "no TLS", Server(tls="none"), SLOW_LINKS, ("masqmail", *_POSTFIXES, *_EXIMS)),
        Case(
            "data",
            "STARTTLS and AUTH, no CHUNKING",
            Server(chunking=False),
            ("geo", "modem", "lte"),
            ("masqmail", "masqmail:4", "postfix:tuned"),
        ),
        Case(
            "data-again",
            "STARTTLS and AUTH, no CHUNKING, the second time",
            Server(chunking=False),
            ("geo", "modem", "lte"),
            ("masqmail:4", "masqmail", "postfix:tuned"),
            again=True,
        ),
        Case(
            "slow",
            "STARTTLS and AUTH, 0.3 s of work for each message",
            Server(work_seconds=0.3),
            ("geo", "lte"),
            ("masqmail:4", "masqmail", "postfix:tuned"),
        ),
        Case(
            "slow-again",
            "STARTTLS and AUTH, 0.3 s of work for each message, the second time",
            Server(work_seconds=0.3),
            ("geo", "lte"),
            ("masqmail:4", "masqmail", "postfix:tuned"),
            again=True,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Job:
    """One run to make."""

    case: Case
    link: str
    peer: str
    seed: int

    @property
    def command(self) -> list[str]:
        return [
            *(sys.executable, slowrun.__file__, self.peer, self.link, "--seed", str(self.seed)),
            *self.case.server.options,
            *(["--again"] if self.case.again else []),
        ]


@dataclass(frozen=True, slots=True)
class Sample:
    """A run that was made."""

    job: Job
    run: Run

    def __str__(self) -> str:
        job, run = self.job, self.run
        trouble = f", {run.missing} missing, {run.repeated} repeated" if run.missing or run.repeated else ""
        return (
            f"{job.case.name} {job.link} {job.peer}: {run.seconds:.2f} s, "
            f"{run.seconds / run.limit_seconds:.2f} x limit, SYN after {run.syn_seconds:.3f} s{trouble}"
        )


def jobs(cases: Sequence[Case], links: Sequence[str], peers: Sequence[str], runs: int) -> list[Job]:
    """All runs, those of different peers by turns. Who takes minutes does it once, unless he was asked for."""
    return [
        Job(case, link, peer, seed)
        for case in cases
        for link in (links or case.links)
        for seed in range(runs)
        for peer in (peers or case.peers)
        if peers or not seed or peer not in ONCE
    ]


def carry_out(todo: Sequence[Job], lanes: int, more_options: Sequence[str]) -> Iterator[Sample]:
    """The runs that went well, in order; those on a link of `ALONE` come last, one by one."""
    together = [job for job in todo if job.link not in ALONE]
    alone = [job for job in todo if job.link in ALONE]
    for number, some in ((lanes, together), (1, alone)):
        yield from side_by_side(
            some, number, lambda job: [*job.command, *more_options], lambda job, found: Sample(job, Run(**found))
        )


# what came out


def result_of(case: Case, samples: Sequence[Sample]) -> Result:
    """Everything that was found about a case."""
    links = [link for link in LINKS if any(sample.job.link == link for sample in samples)]
    peers = list(dict.fromkeys(sample.job.peer for sample in samples))
    medians: dict[str, list[float | None]] = {
        peer: [_seconds(samples, link, peer) for link in links] for peer in peers
    }
    limits = [next(sample.run.limit_seconds for sample in samples if sample.job.link == link) for link in links]
    ours = next((peer for peer in peers if peer.startswith("masqmail")), "masqmail")
    chart = Chart(
        f"{MESSAGES} messages of 3 KB over a slow link: {case.what}",
        "seconds from link-up until the last one is accepted",
        links,
        {LIMIT: limits, **medians},
        lower_is_better=True,
        ours=ours,
        bounds=(LIMIT,),
    )
    found = [{"link": sample.job.link, "peer": sample.job.peer, **asdict(sample.run)} for sample in samples]
    return Result(f"drain-{case.name}", [table_of(case, link, samples) for link in links], found, [chart])


def table_of(case: Case, link: str, samples: Sequence[Sample]) -> Table:
    """One link: a row for each peer, the quickest first."""
    here = [sample for sample in samples if sample.job.link == link]
    limit = here[0].run.limit_seconds
    peers = sorted({sample.job.peer for sample in here}, key=lambda peer: _seconds(here, link, peer) or 0)
    ours = min((_seconds(here, link, peer) or 0 for peer in peers if peer.startswith("masqmail")), default=0)
    columns = [
        *("peer", "seconds", "x limit", "x ours", "round trips per message", "connections"),
        *("KB up", "x least", "KB down", "CPU s", "to the SYN s", "runs"),
    ]
    title = f"{case.what}; {link}: limit {limit:.2f} s, fewest bytes {here[0].run.least_bytes / 1000:.0f} KB up"
    return Table(title, columns, [_row(peer, [s.run for s in here if s.job.peer == peer], ours) for peer in peers])


def _row(peer: str, runs: Sequence[Run], ours: float) -> list[object]:
    def median(name: str) -> float:
        return float(statistics.median(getattr(run, name) for run in runs))

    seconds = spread([run.seconds for run in runs])
    wrong = sum(run.missing + run.repeated for run in runs)
    return [
        peer + (f" ({wrong} missing or twice)" if wrong else ""),
        str(seconds),
        f"{seconds.median / runs[0].limit_seconds:.3f}",
        f"{seconds.median / ours:.2f}" if ours else None,
        f"{median('round_trips'):.2f}",
        f"{median('connections'):g}",
        f"{median('up_bytes') / 1000:.1f}",
        f"{median('up_bytes') / runs[0].least_bytes:.3f}",
        f"{median('down_bytes') / 1000:.1f}",
        f"{median('cpu_seconds'):.2f}",
        f"{median('syn_seconds'):.3f}",
        len(runs),
    ]


def _seconds(samples: Sequence[Sample], link: str, peer: str) -> float | None:
    found = [sample.run.seconds for sample in samples if (sample.job.link, sample.job.peer) == (link, peer)]
    return statistics.median(found) if found else None


def main() -> None:
    parser = options(__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", choices=CASES, help="several may be given; all by default")
    parser.add_argument("--link", action="append", choices=LINKS, help="likewise")
    parser.add_argument(
        "--peer", action="append", help="instead of those of the case; `masqmail:4` has 4 connections"
    )
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--lanes", type=int, default=LANES, help="so many runs side by side, but on leo one")
    parser.add_argument("--packets", type=Path, help="writes a line for each packet of the latest run to this file")
    arguments = parser.parse_args()
    if trouble := namespace.missing():
        sys.exit(f"bench/drain.py: {trouble}")
    cases = [CASES[name] for name in arguments.case or CASES]
    todo = jobs(cases, arguments.link or (), arguments.peer or (), 1 if arguments.quick else arguments.runs)
    for program in {job.peer.partition(":")[0] for job in todo}:
        for package in PACKAGES.get(program, ()):
            unpacked(package)
    more = ["--messages", str(arguments.messages)]
    if arguments.packets:
        more += ["--packets", str(arguments.packets)]
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    samples = list(carry_out(todo, arguments.lanes, more))
    for case in cases:
        if here := [sample for sample in samples if sample.job.case is case]:
            publish(result_of(case, here), save=arguments.save)


if __name__ == "__main__":
    main()
