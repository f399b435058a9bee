"""What it costs a program to send a mail: `python bench/sendmail.py [--quick] [--save]`, as root.

`sendmail -t` of 3 KB, started as a program would start it, until it exits: then the message is on stable storage.
(Not with msmtp, which stores nothing and speaks to an smtp-sink, and not with OpenSMTPD, which does not sync.) They
take turns. The last two rows are no mail programs: the cheapest command there is, and the interpreter of ours.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness.chart import Chart
from harness.load import require, rotated, running_sink
from harness.measure import counting_syncs, percentile, spread, syncs_of
from harness.peers import Peer, Smarthost, make_peer
from harness.peers.base import letter
from harness.report import Result, Table, options, publish
from harness.sandbox import sandbox

OURS = "masqmail"
PEERS = (OURS, "postfix", "exim", "opensmtpd", "nullmailer", "dma", "msmtp")
TRUE, PYTHON = "true", "python3 -IS -c pass"
FLOORS = {TRUE: ["/usr/bin/true"], PYTHON: [str(Path(sys.executable).parent / "python3"), "-IS", "-c", "pass"]}
SIZE_BYTES = 3000


@dataclass(frozen=True)
class Command:
    """What is started, and the server behind it, if there is one."""

    words: list[str]
    environment: Mapping[str, str]
    peer: Peer | None


@dataclass(frozen=True)
class Run:
    """How long one command took, and the CPU time of it and the processes it waited for."""

    wall_seconds: float
    cpu_seconds: float


def main() -> None:
    parser = options("What it costs a program to send a mail.")
    parser.add_argument("--count", type=int, help="how often each is started (200; 20 with --quick)")
    parser.add_argument("--peers", nargs="+", default=PEERS, metavar="NAME", help=f"default: {' '.join(PEERS)}")
    arguments = parser.parse_args()
    require(smtp_sink="postfix", strace="strace")
    count = arguments.count or (20 if arguments.quick else 200)
    with sandbox(arguments.peers) as folder, ExitStack() as stack:
        sink = stack.enter_context(running_sink(folder))
        commands = {}
        for name in arguments.peers:
            peer = stack.enter_context(make_peer(name, folder, Smarthost("127.0.0.1", sink.port)))
            commands[name] = Command([*peer.sendmail, "-t"], peer.environment, peer)
        commands |= {name: Command(words, os.environ, None) for name, words in FLOORS.items()}
        message = folder / "message"
        message.write_bytes(letter(1, SIZE_BYTES))
        runs, servers = measure(commands, message, count)
        syncs = {name: syncs_per_command(command, message) for name, command in commands.items() if command.peer}
    publish(result(runs, servers, syncs), save=arguments.save)


def measure(
    commands: Mapping[str, Command], message: Path, count: int
) -> tuple[dict[str, list[Run]], dict[str, float]]:
    """Every run, and the CPU seconds that each server used for one."""
    for command in commands.values():
        for _ in range(5):  # files and processes that come with the first one
            run(command, message)
    settle(commands)
    before = {name: server_seconds(command) for name, command in commands.items()}
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for turn in range(count):
        for name in rotated(list(commands), turn):
            runs[name].append(run(commands[name], message))
    settle(commands)
    return runs, {name: (server_seconds(command) - before[name]) / count for name, command in commands.items()}


def run(command: Command, message: Path) -> Run:
    quiet = [
        (os.POSIX_SPAWN_OPEN, 0, str(message), os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    ]
    started = time.perf_counter()
    pid = os.posix_spawn(command.words[0], command.words, command.environment, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"{' '.join(command.words)}: exit code {code}")
    return Run(seconds, usage.ru_utime + usage.ru_stime)


def settle(commands: Mapping[str, Command]) -> None:
    for command in commands.values():
        if command.peer is not None:
            command.peer.group.wait_until_quiet()


def server_seconds(command: Command) -> float:
    return command.peer.group.cpu_seconds() if command.peer is not None else 0.0


def syncs_per_command(command: Command, message: Path, count: int = 10) -> float:
    """By the command, and by the server behind it."""
    assert command.peer is not None
    command.peer.group.wait_until_quiet()
    with counting_syncs(command.peer.group.pids()) as server:
        own = sum(syncs_of(command.words, command.environment, message) for _ in range(count))
        command.peer.group.wait_until_quiet()
    return (own + server.count) / count


def result(runs: Mapping[str, Sequence[Run]], servers: Mapping[str, float], syncs: Mapping[str, float]) -> Result:
    walls = {name: [1000 * run.wall_seconds for run in found] for name, found in runs.items()}
    medians = {name: spread(found).median for name, found in walls.items()}
    rows = []
    for name, found in runs.items():
        cpu = spread([1000 * run.cpu_seconds for run in found]).median
        ratio = medians[name] / medians[PYTHON]
        server = 1000 * servers[name] if name not in FLOORS else None
        rows.append([name, medians[name], percentile(walls[name], 95), ratio, cpu, server, syncs.get(name)])
    columns = ["", "median ms", "95 % ms", f"× {PYTHON}", "CPU ms", "server's CPU ms", "syncs"]
    table = Table("sendmail -t of 3 KB", columns, rows)
    series = {name: [median] for name, median in medians.items()}
    chart = Chart(
        "sendmail -t, until the mail is safe",
        "milliseconds",
        ["median"],
        series,
        lower_is_better=True,
        bounds=[*FLOORS],
    )
    return Result("sendmail", [table], {"runs": runs, "server_cpu_seconds": servers, "syncs": syncs}, [chart])


if __name__ == "__main__":
    main()
