"""What every peer can do: start, take messages while offline, send them when told, be counted, stop."""

import os
import secrets
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import knock
from harness.group import Group

SENDER, RECIPIENT = "ann@laptop.example.org", "bob@example.net"

#: Below those that the kernel gives to outgoing connections.
_PORTS = range(20_000, 32_000)


@dataclass(frozen=True)
class Smarthost:
    """Where a peer sends everything, and how."""

    host: str
    port: int
    tls: str = "none"  # or "starttls", "implicit"
    username: str = ""  # empty: no login
    password: str = ""
    ca: Path | None = None  # the file with the authority to trust


#: For peers that never go online: nobody listens there.
NOWHERE = Smarthost("127.0.0.1", 9)


class Peer(ABC):
    """A mail server of the benchmark's own, on a high port of loopback, with everything it writes below `folder`.

    Not `online`, it keeps what it takes until `flush`; online, it sends at once. `prefix` goes before each of its
    commands, to run them in a network namespace for example.
    """

    #: Whether it syncs before it says 250; what is not, is shown and not compared.
    durable = True
    #: Whether it takes mail by SMTP at `address`.
    listens = True
    #: Whether all of its kind have the same spool, because its place is compiled in.
    shares_its_places = False

    def __init__(
        self,
        name: str,
        folder: Path,
        smarthost: Smarthost = NOWHERE,
        *,
        online: bool = False,
        prefix: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.folder = folder
        self.smarthost = smarthost
        self.online = online
        self.prefix = list(prefix)
        self.port = free_port()
        self.group = Group(name)
        folder.mkdir(parents=True)
        folder.chmod(0o755)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    @abstractmethod
    def sendmail(self) -> list[str]:
        """Its command for local programs; the path is absolute."""

    @property
    def environment(self) -> dict[str, str]:
        """What its commands find in their environment."""
        return {**os.environ, "PATH": f"/usr/sbin:/usr/bin:{os.environ['PATH']}"}

    def __enter__(self) -> "Peer":
        try:
            self.start()
        except BaseException:
            self.group.end()
            raise
        return self

    def __exit__(self, fault: object, *_: object) -> None:
        output = self.folder / "output"
        if fault is not None and output.exists():
            print(f"{self.name} said at last:\n{output.read_text(errors='replace')[-2000:]}", file=sys.stderr)
        try:
            self.stop()
        finally:
            self.group.end()

    def start(self, *, wait: bool = True) -> None:
        """Starts it; with `wait` returns when it greets."""
        self.launch()
        if wait and self.listens:
            self.wait_until_ready()

    @abstractmethod
    def launch(self) -> None:
        """Writes its configuration and starts its processes."""

    @abstractmethod
    def stop(self) -> None:
        """Ends its processes."""

    @abstractmethod
    def flush(self) -> None:
        """Sends everything that waits. May return before it is sent."""

    @abstractmethod
    def queued(self) -> int:
        """How many messages it still has."""

    @abstractmethod
    def empty(self) -> None:
        """Throws away what it has."""

    def wait_until_ready(self, seconds: float = 30) -> None:
        command = [*self.prefix, sys.executable, knock.__file__, "127.0.0.1", str(self.port), str(seconds)]
        if subprocess.run(command).returncode:
            raise OSError(f"{self.name} does not answer at port {self.port}; see {self.folder}")

    def fill(self, count: int, size_bytes: int, sessions: int = 5) -> None:
        """Gives it messages; returns when it has accepted them all."""
        if not self.listens:
            for number in range(count):
                self.run(*self.sendmail, "-t", message=letter(number, size_bytes))
            return
        submit(self.address, count, size_bytes, sessions, prefix=self.prefix)

    def run(self, *command: str | Path, counted: bool = True, message: bytes = b"") -> str:
        """What one of its commands prints. What that uses counts as the peer's, if it is `counted`."""
        whole = [*self.prefix, *map(str, command)]
        done = subprocess.run(
            self.group.joining(whole) if counted else whole,
            input=message,
            capture_output=True,
            timeout=600,
            env=self.environment,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()[-2000:]
            raise OSError(f"{' '.join(map(str, command))}: {said}")
        return done.stdout.decode(errors="replace")

    def spawn(self, *command: str | Path) -> "subprocess.Popen[bytes]":
        """Starts one of its processes; what it prints goes to the file `output`."""
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                self.group.joining([*self.prefix, *command]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=self.environment,
            )

    def end(self, process: "subprocess.Popen[bytes]", seconds: float = 30) -> None:
        """SIGTERM to one of its processes, and SIGKILL if that does not help."""
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait_until_empty(self, seconds: float = 600) -> None:
        """Returns when nothing is queued."""
        deadline = time.monotonic() + seconds
        while left := self.queued():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} still has {left} messages after {seconds:g} s")
            time.sleep(0.05)


def submit(address: str, count: int, size_bytes: int, sessions: int, *, prefix: Sequence[str] = ()) -> None:
    """Sends messages with smtp-source: so many sessions side by side, each kept open, one command per round trip."""
    shape = ["-s", str(sessions), "-m", str(count), "-l", str(size_bytes), "-f", SENDER, "-t", RECIPIENT]
    done = subprocess.run([*prefix, "smtp-source", "-d", *shape, address], capture_output=True, text=True)
    if done.returncode or done.stderr:
        raise OSError(f"smtp-source to {address}: {done.stderr.strip()}")


def letter(number: int, size_bytes: int) -> bytes:
    """A message for `sendmail -t`, with LF line ends, of about that size."""
    header = f"From: {SENDER}\nTo: {RECIPIENT}\nSubject: message {number}\n\n".encode()
    line = b"The quick brown fox jumps over the lazy dog, and then over the next one.\n"
    return header + line * max(1, (size_bytes - len(header)) // len(line))


def free_port() -> int:
    """A port of loopback nobody listens on now."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wipe(*folders: Path) -> None:
    """Deletes every file below folders, and keeps the folders."""
    for folder in folders:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                wipe(path)
            else:
                path.unlink(missing_ok=True)


def count_files(*folders: Path) -> int:
    """How many files are below folders."""
    return sum(path.is_file() for folder in folders if folder.is_dir() for path in folder.rglob("*"))
