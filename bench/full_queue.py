"""How MasqMail stands a long queue: `python bench/full_queue.py [--messages N…] [--drain] [--quick] [--save]`.

Fills a queue with messages that wait for a link, then runs the real daemon beside one with an empty queue. Compared
are: the time from exec to ready (also with nothing of the queue in the kernel's cache), how fast mail is accepted
(interleaved runs of Postfix's smtp-source), the first 50 lines of `masqmail queue`, `masqmail queue show ID` and
`masqmail status`, the memory of all processes, the time from `masqmail link up` until the log says that the first
message was delivered to smtp-sink, and what a changed configuration does to those who hand in mail meanwhile. With
`--drain` all is sent in the end, to see how much of the disk is given back. `--folder` keeps filled queues for the
next run.
"""

import asyncio
import json
import os
import shutil
import signal
import smtplib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness.load import require
from harness.measure import percentile
from harness.report import Result, Table, options, publish

from masqmail.config.load import load
from masqmail.config.surroundings import Surroundings
from masqmail.mail.address import Mailbox
from masqmail.routing.route import RouteClass
from masqmail.spool.api import NewMessage, NewRecipient, TargetKind
from masqmail.spool.queueid import QueueIds
from masqmail.spool.sqlite import SqliteSpool

CONFIGURATION = """\
[host]
name = "laptop.example.org"
{identity}
[paths]
spool = "{folder}/spool"
runtime = "{folder}/run"

[smtp]
listen = ["127.0.0.1:{port}"]

[links.ship]
detect = "manual"

[routes.work]
links = ["ship"]
senders = ["*@work.example"]
smarthost = "127.0.0.1:{sink}"
tls = "none"

[routes.home]
links = ["ship"]
senders = ["*@home.example"]
smarthost = "127.0.0.1:{sink}"
tls = "none"

[routes.provider]
links = ["ship"]
not_senders = [{refused}]
smarthost = "127.0.0.1:{sink}"
tls = "none"
"""

#: By the domain of the sender: the routes that fit.
CLASSES = {
    "work.example": ("work", "provider"),
    "home.example": ("home", "provider"),
    "other.example": ("provider",),
}
RECIPIENT_DOMAINS = 1000
HEADER = (
    b"Received: from printer.home.example (192.168.1.7) by laptop.example.org; Sat, 21 Nov 2026 03:00:00 +0000\r\n"
    b"From: Bob <bob@home.example>\r\nTo: Ann <ann@example.net>\r\nSubject: The state of things\r\n"
    b"Message-ID: <20261121030000.1@laptop.example.org>\r\nDate: Sat, 21 Nov 2026 03:00:00 +0000\r\n"
)
SENDER, RECIPIENT = "bob@home.example", "ann@example.net"
BATCH = 200
PATIENCE_SECONDS = 60.0

#: How long after the last message the files may still become smaller.
SPACE_SECONDS = 150.0


class Host:
    """One configured daemon with its queue."""

    def __init__(self, folder: Path, sink: int) -> None:
        self.folder, self.port, self._sink = folder, free_port(), sink
        self.config = folder / "masqmail.toml"
        self.log = folder / "daemon.log"
        folder.mkdir(parents=True, exist_ok=True)
        self.configure()
        self.environment = {**os.environ, "MASQMAIL_CONFIG": str(self.config)}

    def configure(self, refused: str = "") -> None:
        """Writes the configuration; another `refused` gives every recipient another class."""
        identity = 'user = "root"\ngroup = "root"\n' if os.geteuid() == 0 else ""
        facts = {"folder": self.folder, "port": self.port, "sink": self._sink}
        self.config.write_text(CONFIGURATION.format(identity=identity, refused=refused, **facts))

    @contextmanager
    def running(self) -> Iterator[float]:
        """The daemon, ready; gives the seconds that took."""
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, self.log.open("wb") as log:
            address = self.folder / "notify"
            address.unlink(missing_ok=True)
            notified.bind(str(address))
            notified.settimeout(0.5)
            environment = {**self.environment, "NOTIFY_SOCKET": str(address)}
            began = time.perf_counter()
            self._process = subprocess.Popen([PROGRAM, "serve"], env=environment, stdout=log, stderr=log)
            self._wait_until_ready(notified)
            ready = time.perf_counter() - began
        try:
            yield ready
        finally:
            self._process.terminate()
            self._process.wait(60)

    def _wait_until_ready(self, notified: socket.socket) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with suppress(TimeoutError):
                if b"READY=1" in notified.recv(4096):
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.terminate()
                sys.exit(f"The daemon does not start: {self.log.read_text()[-2000:]}")

    def time_to_ready(self) -> float:
        with self.running() as seconds:
            return seconds

    def time_to_ready_cold(self) -> float:
        """The same when the kernel has nothing of the queue in memory."""
        for path in (self.folder / "spool").glob("queue.sqlite3*"):
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return self.time_to_ready()

    def reload(self, refused: str) -> None:
        self.configure(refused)
        self._process.send_signal(signal.SIGHUP)

    def masqmail(self, *arguments: str) -> str:
        command = [PROGRAM, *arguments]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout

    def time_of(self, *arguments: str) -> float:
        began = time.perf_counter()
        self.masqmail(*arguments)
        return time.perf_counter() - began

    def first_page(self, lines: int = 50) -> float:
        """Seconds until `masqmail queue` has written that many lines, or all, into a pipe."""
        began = time.perf_counter()
        with subprocess.Popen([PROGRAM, "queue"], env=self.environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(lines):
                process.stdout.readline()
            seconds = time.perf_counter() - began
            process.stdout.close()
        return seconds

    def first_delivery(self) -> float:
        """Seconds from `masqmail link up` to the first message that is delivered; then the link is down again."""
        hand_in(self, 1)
        time.sleep(0.5)
        with self.log.open("rb") as log:
            log.seek(0, os.SEEK_END)
            began = time.perf_counter()
            with subprocess.Popen([PROGRAM, "link", "up", "ship"], env=self.environment, stdout=subprocess.DEVNULL):
                while b"recipient delivered" not in log.read():
                    time.sleep(0.002)
                    if time.perf_counter() - began > PATIENCE_SECONDS:
                        sys.exit("nothing was delivered")
                seconds = time.perf_counter() - began
        self.masqmail("link", "down", "ship")
        return seconds

    def some_id(self) -> str:
        return str(json.loads(self.masqmail("log", "--json", "--limit", "1"))[0]["id"])

    def memory_mib(self) -> float:
        """The memory of all processes, what they share counted once."""
        return sum(map(pss_kib, self._processes())) / 1024

    def cpu_seconds(self) -> float:
        return sum(map(cpu_seconds, self._processes()))

    def _processes(self) -> list[int]:
        pid = self._process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def wait_until_calm(self) -> None:
        """Returns when the daemon does nothing: a kept queue may come from another configuration."""
        deadline, before = time.monotonic() + 10 * PATIENCE_SECONDS, -1.0
        while (now := self.cpu_seconds()) - before > 0.05 and time.monotonic() < deadline:
            before = now
            time.sleep(1)

    def messages(self) -> int:
        return int(json.loads(self.masqmail("status", "--json"))["queue"]["messages"])

    def spool_mb(self) -> float:
        """What the queue takes on the disk, but for the ballast."""
        files = (path for path in (self.folder / "spool").rglob("*") if path.is_file() and path.name != "ballast")
        return sum(path.stat().st_blocks * 512 for path in files) / 1e6


PROGRAM = str(Path(sys.executable).parent / "masqmail")


def pss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- a queue


def message(number: int, ids: QueueIds, body: bytes, generation: str, begun: datetime) -> NewMessage:
    """One of those that wait: three kinds of senders, a thousand domains, every tenth for two people."""
    now = begun + timedelta(milliseconds=number)
    sender_domain = list(CLASSES)[number % len(CLASSES)]
    route_class = RouteClass(CLASSES[sender_domain], generation=generation)
    recipients = []
    for other in range(2 if number % 10 == 0 else 1):
        domain = f"d{(number * 7 + other) % RECIPIENT_DOMAINS}.example.net"
        address = f"ann{number}@{domain}"
        recipients.append(NewRecipient(address, address, TargetKind.REMOTE, route_class, domain=domain))
    sender, origin = Mailbox("bob", sender_domain), "192.168.1.7 (printer)"
    return NewMessage(ids.new(now), sender, recipients, HEADER, body, now, origin, "ESMTP")


async def fill(host: Host, count: int, size_bytes: int) -> None:
    """Makes a queue of so many messages, unless there is one."""
    folder = host.folder / "spool"
    if (folder / "queue.sqlite3").exists():
        return
    generation = load(host.config, Surroundings.of_this_process()).generation
    line = b"x" * 70 + b"\r\n"
    body = line * (max(0, size_bytes - len(HEADER)) // len(line))
    spool, ids, begun = await SqliteSpool.open(folder), QueueIds(), datetime.now(UTC) - timedelta(milliseconds=count)
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        await spool.accept([message(number, ids, body, generation, begun) for number in numbers])
    await spool.close()


# --- what is measured


@dataclass
class Comparison:
    """Numbers of an empty and of a full queue, as rows of a table."""

    empty: Host
    full: Host
    rows: list[list[object]] = field(default_factory=list)

    def add(self, what: str, empty: float, full: float) -> None:
        self.rows.append([what, empty, full, full / empty if empty else None])
        print(f"{what}: {empty:.3f} {full:.3f}", file=sys.stderr)

    def best(self, what: str, measure: Callable[[Host], float], times: int) -> None:
        """The least of several measurements that take turns."""
        found = [(measure(self.empty), measure(self.full)) for _ in range(times)]
        self.add(what, min(empty for empty, _ in found), min(full for _, full in found))

    def memory(self, when: str) -> None:
        self.best(f"memory {when}, MiB", Host.memory_mib, 1)


def accept(host: Host, count: int, sessions: int) -> tuple[float, float]:
    """Messages per second that smtp-source gets rid of, and the daemon's CPU time for each in microseconds."""
    command = ["smtp-source", "-d", "-s", str(sessions), "-m", str(count), "-l", "4096", "-f", SENDER]
    cpu, began = host.cpu_seconds(), time.perf_counter()
    subprocess.run([*command, "-t", RECIPIENT, f"127.0.0.1:{host.port}"], check=True)
    seconds = time.perf_counter() - began
    return count / seconds, (host.cpu_seconds() - cpu) / count * 1e6


def compare_accepting(found: Comparison, sessions: int, count: int, rounds: int) -> None:
    runs = [[accept(host, count, sessions) for host in (found.empty, found.full)] for _ in range(rounds)]
    rates = [statistics.median(run[index][0] for run in runs) for index in (0, 1)]
    cpu = [min(run[index][1] for run in runs) for index in (0, 1)]
    found.add(f"accepted per second, {sessions} sessions", rates[0], rates[1])
    found.add(f"CPU for each, {sessions} sessions, µs", cpu[0], cpu[1])


def hand_in(host: Host, count: int) -> list[float]:
    """Seconds that each of so many messages took over one session."""
    found = []
    with smtplib.SMTP("127.0.0.1", host.port) as session:
        for _ in range(count):
            began = time.perf_counter()
            session.sendmail(SENDER, [RECIPIENT], HEADER + b"\r\n" + b"x" * 3000)
            found.append(time.perf_counter() - began)
    return found


def compare_reloading(found: Comparison, count: int) -> None:
    """How long those wait who hand in mail while the classes of all recipients are computed anew."""
    for percent in (50, 99):
        before, during = [], []
        for number, host in enumerate((found.empty, found.full)):
            before.append(percentile(hand_in(host, count), percent) * 1000)
            host.reload(f'"nobody{percent}{number}@example.org"')
            during.append(percentile(hand_in(host, count), percent) * 1000)
        found.add(f"handing in one message, {percent} of 100 take less than … ms", *before)
        found.add(f"… after the configuration has changed, {percent} of 100, ms", *during)
    found.best("`masqmail status` then, s", lambda host: host.time_of("status"), 3)
    found.best("first delivery after `masqmail link up` then, s", Host.first_delivery, 1)


def compare(found: Comparison, *, count: int, rounds: int, sessions: Sequence[int]) -> None:
    """Everything that must not depend on the length of the queue."""
    found.best("ready after exec, s", Host.time_to_ready, 3)
    found.best("ready after exec, cold, s", Host.time_to_ready_cold, 3)
    with found.empty.running(), found.full.running():
        found.memory("after the start")
        found.full.wait_until_calm()
        for number in sessions:
            compare_accepting(found, number, count, rounds)
        ids = {host: host.some_id() for host in (found.empty, found.full)}
        found.best("first page of `masqmail queue`, s", Host.first_page, 5)
        found.best("`masqmail queue show ID`, s", lambda host: host.time_of("queue", "show", ids[host]), 5)
        found.best("`masqmail status`, s", lambda host: host.time_of("status"), 5)
        found.memory("after accepting and listing")
        found.best("first delivery after `masqmail link up`, s", Host.first_delivery, 5)
        found.memory("after delivering")
        compare_reloading(found, count)
        found.memory("after all that")


def drain(found: Comparison) -> Table:
    """Sends all there is, then waits until the files are as small as they get."""
    host = found.full
    rows: list[list[object]] = []
    with host.running():
        rows.append(["before", float(host.messages()), host.spool_mb()])
        host.masqmail("link", "up", "ship")
        began = time.perf_counter()
        while host.messages():
            time.sleep(1)
        rows.append([f"all sent after {time.perf_counter() - began:.0f} s", 0.0, host.spool_mb()])
        began, smallest, when = time.perf_counter(), host.spool_mb(), 0.0
        while time.perf_counter() - began < SPACE_SECONDS:
            time.sleep(1)
            if (now := host.spool_mb()) < smallest:
                smallest, when = now, time.perf_counter() - began
        rows.append([f"{when:.0f} s later", 0.0, smallest])
        rows.append(["memory then, MiB", None, host.memory_mib()])
    return Table("Space given back", ["", "messages", "MB"], rows)


@contextmanager
def sink() -> Iterator[int]:
    """A running smtp-sink; gives its port."""
    port = free_port()
    account = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen(["smtp-sink", *account, f"127.0.0.1:{port}", "1000"], stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--messages", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--size", type=int, default=1024, help="octets of each message")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--sessions", type=int, nargs="*", default=[1, 10])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--drain", action="store_true", help="also send all of it")
    chosen = parser.parse_args()
    require(smtp_source="postfix", smtp_sink="postfix")
    tables = []
    with ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(sink())
        for count in [1000] if chosen.quick else chosen.messages:
            shutil.rmtree(folder / "empty", ignore_errors=True)
            found = Comparison(Host(folder / "empty", port), Host(folder / str(count), port))
            asyncio.run(fill(found.full, count, chosen.size))
            accepts, rounds = (50, 1) if chosen.quick else (500, chosen.rounds)
            compare(found, count=accepts, rounds=rounds, sessions=chosen.sessions)
            columns = ["", "empty", f"{count:,} messages", "ratio"]
            tables.append(Table(f"A queue of {count:,} messages", columns, found.rows))
            if chosen.drain:
                tables.append(drain(found))
    samples = {table.title: table.rows for table in tables}
    publish(Result("full_queue", tables, samples), save=chosen.save)


if __name__ == "__main__":
    main()
