"""Where `masqmail demo` plays: a folder with a configuration, the real daemon in it, and the pretend provider."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import Process

from masqmail.cli.client import Daemon, NotRunning
from masqmail.net.errors import ListenFailure
from masqmail.net.listen import bind_tcp
from masqmail.settings import HostPort

LINK = "dsl"
USUAL_PORT = 2525
_CLAIM = f"\0masqmail demo on port {USUAL_PORT}"  # an abstract name: it goes with its holder, unix(7)
START_SECONDS = 30.0
STOP_SECONDS = 15.0
LAST_LOG_LINES = 15
_MAX_SOCKET_PATH_BYTES = 107  # unix(7)
_CONTROL_SOCKET = "run/control.sock"  # the longest path of them
_POLL_SECONDS = 0.05

_FIRST_LINE = "# Written by `masqmail demo`."
_CONFIGURATION = """\
{first_line}

[host]
name = "laptop.example.org"
{identity}
[paths]
spool = "spool"
runtime = "run"

[smtp]
listen = ["127.0.0.1:{port}"]

[local]
delivery = "maildir"
maildir = {mailbox}
aliases = []

[links.{link}]
detect = "manual"                   # up and down as you say

[routes.provider]
links = ["{link}"]
smarthost = "127.0.0.1:{provider_port}"
tls = "none"                        # it is on this host, and only pretends
"""


class CannotPlay(Exception):
    """Something is missing for the demo; the message says what, `exit_code` in the language of sysexits."""

    def __init__(self, text: str, exit_code: int = os.EX_UNAVAILABLE) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@contextmanager
def scratch_folder(wanted: str | None) -> Iterator[Path]:
    """The folder somebody named, which is kept, or a fresh one, which is removed. Raises `CannotPlay`."""
    if wanted is not None:
        folder = Path(wanted).absolute()
        try:
            _claim(folder)
        except OSError as error:
            raise CannotPlay(f"cannot use {folder}: {error.strerror}", os.EX_CANTCREAT) from error
        yield folder
        return
    folder = Path(tempfile.mkdtemp(prefix="masqmail-"))
    try:
        _check_length(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _claim(folder: Path) -> None:
    """Makes sure that the folder is ours to write into: new, empty, or that of an earlier demo."""
    _check_length(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = folder / "masqmail.toml"
    if config.exists():
        if not config.read_text(errors="replace").startswith(_FIRST_LINE):
            raise CannotPlay(f"{config} is not from a demo; name another folder", os.EX_CANTCREAT)
    elif any(folder.iterdir()):
        raise CannotPlay(f"{folder} is not empty; name another folder", os.EX_CANTCREAT)
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(folder / _CONTROL_SOCKET))
        raise CannotPlay(f"a demo is running in {folder} already")


def _check_length(folder: Path) -> None:
    if len(os.fsencode(folder / _CONTROL_SOCKET)) > _MAX_SOCKET_PATH_BYTES:
        raise CannotPlay(f"{folder} is too long a path for Unix sockets; name another --folder", os.EX_CANTCREAT)


class Stage:
    """The folder and everything in it."""

    def __init__(self, folder: Path, port: int, provider_port: int) -> None:
        """Writes the configuration. Raises `CannotPlay`."""
        self.folder = folder
        self.port = port
        self.config = folder / "masqmail.toml"
        self.arrived = folder / "arrived"
        self.log = folder / "daemon.log"
        self.programs = _find_programs()
        self.config.write_text(
            _CONFIGURATION.format(
                first_line=_FIRST_LINE,
                identity='user = "root"\ngroup = "root"\n' if os.geteuid() == 0 else "",
                port=port,
                mailbox=json.dumps(str(folder / "mailbox"), ensure_ascii=False),  # TOML's basic strings are JSON's
                link=LINK,
                provider_port=provider_port,
            )
        )

    @property
    def environment(self) -> dict[str, str]:
        """What `export_line` makes of ours."""
        path = f"{self.programs}:{os.environ.get('PATH', os.defpath)}"
        return {**os.environ, "MASQMAIL_CONFIG": str(self.config), "PATH": path}

    @property
    def export_line(self) -> str:
        """What to type in another terminal first."""
        return f'export MASQMAIL_CONFIG={shlex.quote(str(self.config))} PATH={shlex.quote(self.programs)}:"$PATH"'

    async def run(self, command: Sequence[str], letter: str = "") -> int:
        """Runs a command in the folder as if it were typed there; it reads `letter` and writes to our own output."""
        done = await anyio.run_process(
            command,
            input=letter.encode() or None,
            stdin=None if letter else subprocess.DEVNULL,
            stdout=None,
            stderr=None,
            check=False,
            cwd=self.folder,
            env=self.environment,
        )
        return done.returncode

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Process]:
        """Runs the real daemon, ready when this is entered, ended when it is left. Raises `CannotPlay`."""
        with self.log.open("ab") as log:
            process = await anyio.open_process(
                [sys.executable, "-m", "masqmail.cli.main", "serve", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment,
            )
        try:
            await self._wait_until_ready(process)
            yield process
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process)

    async def link_state(self) -> str:
        """Up or down; a named folder remembers it."""
        links = await anyio.to_thread.run_sync(lambda: self._control.get("link"))
        return next(str(link["state"]) for link in links if link["name"] == LINK)

    async def queue(self) -> list[dict[str, object]]:
        """The queue as the daemon shows it. Raises `NotRunning`."""
        found: list[dict[str, object]] = await anyio.to_thread.run_sync(lambda: self._control.get("queue"))
        return found

    def last_words(self) -> str:
        """The end of the daemon's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LAST_LOG_LINES:])

    @property
    def _control(self) -> Daemon:
        return Daemon(str(self.folder / _CONTROL_SOCKET))

    async def _wait_until_ready(self, process: Process) -> None:
        with anyio.move_on_after(START_SECONDS):
            while process.returncode is None:
                with suppress(NotRunning):
                    await self.queue()
                    return
                await anyio.sleep(_POLL_SECONDS)
        raise CannotPlay(f"the daemon does not start; its log ends so:\n{self.last_words()}")


async def _end(process: Process) -> None:
    """Asks the daemon to end, and makes it end when that takes too long."""
    if process.returncode is None:
        process.terminate()
    with anyio.move_on_after(STOP_SECONDS):
        await process.wait()
        return
    process.kill()
    await process.wait()


@contextmanager
def chosen_port() -> Iterator[int]:
    """A port of loopback for the daemon: the usual one, or a free one. Raises `ListenFailure`.

    The daemon binds it a moment later, so the usual one is claimed as long as this is entered: of two demos that
    start together one gets it.
    """
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            claim.bind(_CLAIM)
            port = _free_port(USUAL_PORT)
        except (OSError, ListenFailure):
            port = _free_port(0)
        yield port


def _free_port(port: int) -> int:
    """This port, or any for 0, if nobody listens there. Raises `ListenFailure`."""
    with bind_tcp(HostPort("127.0.0.1", port))[0] as sock:
        chosen: int = sock.getsockname()[1]
        return chosen


def check_loopback(port: int) -> None:
    """Raises `CannotPlay` when this host cannot even reach itself, where somebody listens on `port`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError as error:
        reason = f"127.0.0.1 cannot be reached ({error.strerror or error})"
        raise CannotPlay(f"{reason}; is the loopback interface down? `ip link set lo up` brings it up") from error


def _find_programs() -> str:
    """The folder with the `masqmail` and `sendmail` that were installed with us."""
    started = os.path.dirname(os.path.realpath(sys.argv[0]))  # after `pip install --user` nothing else tells
    for folder in (started, sysconfig.get_path("scripts"), os.path.dirname(sys.executable)):
        if all(os.access(os.path.join(folder, name), os.X_OK) for name in ("masqmail", "sendmail")):
            return folder
    raise CannotPlay(f"there are no masqmail and sendmail commands in {started}; install the package")
