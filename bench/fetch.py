"""How fast a mailbox is emptied over a long way: `python bench/fetch.py [--case CASE] [--link LINK] [--peer PEER]`.

200 messages of 3 KB, or a mix of sizes, wait at a real Dovecot. The clock runs from the start of the command that
fetches them (`masqmail fetch`, `fetchmail`, `getmail`, `mpop`) until it has ended, the server has deleted them, and
the last one is in the user's Maildir. Every session is TLS from the first byte.

Links: overseas (300 ms round trip, 10 Mbit/s) and geo (satellite: 600 ms, 256 kbit/s), each with a queue of 96 KB.

Cases: `pop3` and `imap` have 200 messages of 3 KB; `pop3-mixed` has 180 of 3 KB, 18 of 50 KB and 2 of 1 MB.

The settings of the others are the quickest that they have for this (`harness/fetchers.py`). "round trips" is what
remains of the time without that of the bytes on the line, divided by the round trip: TCP's slow start is in it. Needs
root, iproute2, /dev/net/tun, and Debian's dovecot-pop3d and dovecot-imapd.
"""

import signal
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from harness import fetchrun, namespace
from harness.chart import Chart
from harness.fetchers import FETCHERS
from harness.fetchrun import Run, in_words, parse_sizes
from harness.lanes import side_by_side
from harness.line import LINKS
from harness.load import require
from harness.measure import spread
from harness.packages import PACKAGES, unpacked
from harness.report import Result, Table, options, publish

RUNS = 5
LANES = 4  # a run needs little more than patience
OURS = "masqmail"

#: One message after the other: these take minutes, and the same each time.
ONCE = ("fetchmail", "getmail")


@dataclass(frozen=True, slots=True)
class Case:
    """What waits at the server, and on which links it is fetched. `sizes` are as `harness.fetchrun` takes them."""

    name: str
    protocol: str
    sizes: str
    links: tuple[str, ...]

    @property
    def peers(self) -> list[str]:
        """Who can fetch it."""
        return [name for name, kind in FETCHERS.items() if self.protocol in kind.protocols]


CASES = {
    case.name: case
    for case in (
        Case("pop3", "pop3", "200x3072", ("overseas", "geo")),
        Case("imap", "imap", "200x3072", ("overseas", "geo")),
        Case("pop3-mixed", "pop3", "180x3072,18x50000,2x1000000", ("overseas",)),
    )
}


@dataclass(frozen=True, slots=True)
class Job:
    """One run to make."""

    case: Case
    link: str
    peer: str
    seed: int
    sizes: str

    @property
    def command(self) -> list[str]:
        return [
            *(sys.executable, fetchrun.__file__, self.peer, self.link, "--seed", str(self.seed)),
            *("--protocol", self.case.protocol, "--sizes", self.sizes),
        ]


@dataclass(frozen=True, slots=True)
class Sample:
    """A run that was made."""

    job: Job
    run: Run

    def __str__(self) -> str:
        job, run = self.job, self.run
        return f"{job.case.name} {job.link} {job.peer}: {run.seconds:.2f} s{_trouble([run])}"


def jobs(cases: Sequence[Case], links: Sequence[str], peers: Sequence[str], runs: int, sizes: str) -> list[Job]:
    """All runs, those of different peers by turns. Who takes minutes does it once, unless he was asked for."""
    return [
        Job(case, link, peer, seed, sizes or case.sizes)
        for case in cases
        for link in (links or case.links)
        for seed in range(runs)
        for peer in case.peers
        if peer in peers or (not peers and (not seed or peer not in ONCE))
    ]


# what came out


def result_of(case: Case, samples: Sequence[Sample]) -> Result:
    """Everything that was found about a case."""
    links = [link for link in LINKS if any(sample.job.link == link for sample in samples)]
    peers = [peer for peer in case.peers if any(sample.job.peer == peer for sample in samples)]
    medians = {peer: [_seconds(samples, link, peer) for link in links] for peer in peers}
    chart = Chart(
        f"Emptying a mailbox over a long way: {_what(case, samples)}",
        "seconds until the last one is in the Maildir and deleted at the server",
        links,
        medians,
        lower_is_better=True,
        ours=OURS,
    )
    found = [{"link": sample.job.link, "peer": sample.job.peer, **asdict(sample.run)} for sample in samples]
    return Result(f"fetch-{case.name}", [table_of(case, link, samples) for link in links], found, [chart])


def table_of(case: Case, link: str, samples: Sequence[Sample]) -> Table:
    """One link: a row for each peer, the quickest first."""
    here = [sample for sample in samples if sample.job.link == link]
    peers = sorted({sample.job.peer for sample in here}, key=lambda peer: _seconds(here, link, peer) or 0)
    ours = _seconds(here, link, OURS)
    columns = [
        *("peer", "seconds", "x ours", "round trips", "of them per message", "connections"),
        *("KB up", "KB down", "CPU s", "runs"),
    ]
    kind = LINKS[link]
    title = f"{_what(case, here)}; {link}: {1000 * kind.round_trip_seconds:g} ms, {kind.rate_bits / 1000:g} kbit/s"
    return Table(title, columns, [_row(peer, [s.run for s in here if s.job.peer == peer], ours) for peer in peers])


def _what(case: Case, samples: Sequence[Sample]) -> str:
    """What was fetched."""
    return f"{case.protocol.upper()}, {in_words(samples[0].job.sizes)}"


def _row(peer: str, runs: Sequence[Run], ours: float | None) -> list[object]:
    def median(name: str) -> float:
        return float(statistics.median(getattr(run, name) for run in runs))

    seconds = spread([run.seconds for run in runs])
    return [
        peer + _trouble(runs),
        str(seconds),
        f"{seconds.median / ours:.2f}" if ours else None,
        f"{median('round_trips'):.1f}",
        f"{median('round_trips') / (median('messages') or 1):.2f}",
        f"{median('connections'):g}",
        f"{median('up_bytes') / 1000:.1f}",
        f"{median('down_bytes') / 1000:.1f}",
        f"{median('cpu_seconds'):.2f}",
        len(runs),
    ]


def _trouble(runs: Sequence[Run]) -> str:
    """What went wrong, to stand behind a name."""
    counts = {name: sum(getattr(run, name) for run in runs) for name in ("missing", "repeated", "left")}
    words = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f" ({words})" if words else ""


def _seconds(samples: Sequence[Sample], link: str, peer: str) -> float | None:
    found = [sample.run.seconds for sample in samples if (sample.job.link, sample.job.peer) == (link, peer)]
    return statistics.median(found) if found else None


def main() -> None:
    parser = options(__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", choices=CASES, help="several may be given; all by default")
    parser.add_argument("--link", action="append", choices=LINKS, help="likewise; by default those of the case")
    parser.add_argument("--peer", action="append", choices=FETCHERS, help="likewise")
    parser.add_argument("--runs", type=int, default=RUNS, help="of those that do not take minutes")
    parser.add_argument("--sizes", default="", help="instead of those of the case, such as 100x3072,5x50000")
    parser.add_argument("--lanes", type=int, default=LANES, help="so many runs side by side")
    arguments = parser.parse_args()
    if trouble := namespace.missing():
        sys.exit(f"bench/fetch.py: {trouble}")
    require(dovecot="dovecot-pop3d")
    cases = [CASES[name] for name in arguments.case or CASES]
    runs, sizes, links = arguments.runs, arguments.sizes, arguments.link or ()
    if arguments.quick:
        runs, sizes, links = 1, sizes or "20x3072", links or ("overseas",)
    try:
        parse_sizes(sizes or "1x1")
    except ValueError:
        parser.error(f"--sizes {sizes}: write COUNTxBYTES, with commas between several")
    todo = jobs(cases, links, arguments.peer or (), runs, sizes)
    for peer in {job.peer for job in todo}:
        for package in PACKAGES.get(peer, ()):
            unpacked(package)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    found = side_by_side(todo, arguments.lanes, lambda job: job.command, lambda job, facts: Sample(job, Run(**facts)))
    samples = list(found)
    for case in cases:
        if here := [sample for sample in samples if sample.job.case is case]:
            publish(result_of(case, here), save=arguments.save)


if __name__ == "__main__":
    main()
