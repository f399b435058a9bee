"""The real daemon as a process of its own, in a folder of the test's."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.ports import free_port

#: Those that run. A test that fails may leave one behind.
_RUNNING: set["Daemon"] = set()

CONFIGURATION = """\
[host]
name = "laptop.example.org"
local_domains = ["localhost", "laptop", "laptop.example.org"]

[paths]
spool = "{folder}/spool"
runtime = "{folder}/run"

[smtp]
listen = ["127.0.0.1:{port}"]

[local]
delivery = "maildir"
maildir = "{folder}/maildir"
aliases = ["{folder}/aliases"]

[links.line]
detect = "manual"

"""


def smarthost_route(name: str, port: int | Sequence[int], *settings: str, link: str = "always") -> str:
    """A route that takes mail for the domain `NAME.test` to a smarthost on loopback, or to the first of several."""
    ports = [port] if isinstance(port, int) else port
    lines = [
        f"[routes.{name}]",
        f'links = ["{link}"]',
        f'recipients = ["*@{name}.test"]',
        f"smarthost = {json.dumps([f'127.0.0.1:{port}' for port in ports])}",
        *settings,
    ]
    return "\n".join(lines) + "\n\n"


def for_this_account(text: str) -> str:
    """The configuration with root as the daemon's account for tests that run as root: they have no other."""
    if os.geteuid() != 0 or re.search(r"^user\s*=", text, re.MULTILINE):
        return text
    return text.replace("[host]\n", '[host]\nuser = "root"\ngroup = "root"\n', 1)


class Daemon:
    """A configured MasqMail: start it, kill it, talk to it."""

    def __init__(self, folder: Path, more: str = "", *, port: int | None = None, text: str = "") -> None:
        self.folder = folder
        self.port = port or free_port()
        self.config = folder / "masqmail.toml"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "aliases").touch()
        self.configure(text or CONFIGURATION.format(folder=folder, port=self.port) + more)
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "daemon.log"

    def configure(self, text: str) -> None:
        """Writes the configuration; `reload` makes a running daemon read it."""
        self.config.write_text(for_this_account(text))

    @property
    def environment(self) -> dict[str, str]:
        """The environment a user of this configuration would have."""
        scripts = str(Path(sys.executable).parent)
        return {**os.environ, "MASQMAIL_CONFIG": str(self.config), "PATH": f"{scripts}:{os.environ['PATH']}"}

    def start(self, *, wait: bool = True) -> None:
        """Starts the process; with `wait` returns when it answers."""
        self._start([sys.executable, "-m", "masqmail.cli.main", "serve"])
        if wait:
            self.wait_until_ready()

    def _start(self, command: list[str]) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _RUNNING.add(self)

    def wait_until_ready(self, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while self.masqmail("status", "--json").returncode != 0:
            if not self._is_running() or time.monotonic() > deadline:
                raise AssertionError(f"the daemon does not run:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    def _is_running(self) -> bool:
        is_running = self.process is not None and self.process.poll() is None
        if not is_running:
            _RUNNING.discard(self)  # its number may be another process's by now
        return is_running

    def kill(self) -> None:
        """SIGKILL to every process of the daemon."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._forget_process()

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(timeout=30)
        self._forget_process()
        return code

    def _forget_process(self) -> None:
        self.process = None
        _RUNNING.discard(self)

    def reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def masqmail(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run([sys.executable, "-m", "masqmail.cli.main", *arguments])

    def ask(self, *arguments: str) -> Any:
        """The JSON a command prints."""
        done = self.masqmail(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def set_password(self, user: str, password: str) -> None:
        """Lets somebody log in to the SMTP server."""
        command = [sys.executable, "-m", "masqmail.cli.main", "passwd", user]
        subprocess.run(command, env=self.environment, input=f"{password}\n".encode(), check=True, capture_output=True)

    def sendmail(
        self, *arguments: str, message: bytes, user: str | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Submits a message; as another `user` if we are root."""
        command = [str(Path(sys.executable).parent / "sendmail"), *arguments]
        return subprocess.run(
            command, env=self.environment, input=message, capture_output=True, timeout=60, user=user, check=False
        )

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)

    def queue(self) -> list[Any]:
        found: list[Any] = self.ask("queue")
        return found

    def wait_for_empty_queue(self, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while waiting := self.queue():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"still in the queue: {json.dumps(waiting, indent=1)}\n{self.log.read_text()[-3000:]}"
                )
            time.sleep(0.05)

    def recipient(self, address: str) -> Any:
        """The recipient with this address that is in the queue."""
        found = [item for message in self.queue() for item in message["recipients"] if item["address"] == address]
        assert len(found) == 1, found
        return found[0]

    def route(self, name: str) -> Any:
        """What `masqmail status` says of a route."""
        return next(route for route in self.ask("status")["routes"] if route["name"] == name)

    def logged(self, event: str) -> list[Any]:
        """The events of this name in the log; for `[log] format = "json"`."""
        *lines, _ = self.log.read_text().split("\n")  # the last one may be half written
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return [found for found in events if found["event"] == event]

    def mailbox(self) -> list[bytes]:
        """What was delivered locally, with LF line ends."""
        return [path.read_bytes() for path in sorted((self.folder / "maildir" / "new").glob("*"))]


def kill_all_daemons() -> None:
    """Ends what failed tests have left, so that it takes no time and no port from those of another run."""
    for daemon in list(_RUNNING):
        daemon.kill()


@contextmanager
def running_daemon(folder: Path, more: str = "") -> Iterator[Daemon]:
    """A daemon that runs for the length of a test."""
    daemon = Daemon(folder, more)
    daemon.start()
    try:
        yield daemon
    finally:
        if daemon.process is not None:
            daemon.stop()
