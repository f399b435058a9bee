"""The demo as a newcomer meets it: real processes, nothing left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

DEMO = [sys.executable, "-m", "masqmail.cli.main", "demo"]

pytestmark = pytest.mark.slow


def surroundings(temporary: Path) -> dict[str, str]:
    """The environment of somebody who has set nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MASQMAIL_"))}
    return {**kept, "TMPDIR": str(temporary)}


def processes_of(folder: Path) -> list[str]:
    """The command lines that name the folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


class Terminal:
    """Where `masqmail demo --serve` runs; its output is a pipe."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.text = ""

    def read_until(self, wanted: str) -> str:
        assert self.process.stdout
        while wanted not in self.text:
            line = self.process.stdout.readline()
            assert line, f"{wanted!r} is not in {self.text!r}"
            self.text += line
        return self.text

    @property
    def folder(self) -> Path:
        found = re.search(r"^    folder +(.*)$", self.text, re.MULTILINE)
        assert found
        return Path(found[1])

    @property
    def commands(self) -> list[str]:
        """What it says to type."""
        return re.findall(r"^    (.*)$", self.text.partition("type:")[2], re.MULTILINE)

    def type(self, *commands: str) -> str:
        """What a person would get in another terminal."""
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", "\n".join(commands)],
            env={"PATH": "/usr/bin:/bin", "HOME": "/"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def daemon(self) -> int:
        """The process that the demo started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder with a short name: the paths of Unix sockets are bounded."""
    with TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)


@contextmanager
def serving(temporary: Path, *arguments: str) -> Iterator[Terminal]:
    process = subprocess.Popen(
        [*DEMO, "--serve", *arguments],
        env=surroundings(temporary),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        terminal = Terminal(process)
        terminal.read_until("told here as well.")
        yield terminal
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)


def test_the_tour_ends_with_a_letter_that_arrived_and_leaves_nothing_behind(temporary: Path) -> None:
    done = subprocess.run(DEMO, env=surroundings(temporary), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "No network out here" in done.stdout.partition("The provider has it")[2]
    assert "The queue is empty." in done.stdout
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []


def test_a_named_folder_may_hold_blanks_is_kept_and_can_be_used_again(temporary: Path) -> None:
    folder = temporary / "my own demo"
    command = [*DEMO, "--folder", str(folder)]
    for count in (1, 2):
        if count == 2:
            subprocess.run(
                [*DEMO[:-1], "check", "--config", str(folder / "masqmail.toml")], capture_output=True, check=True
            )
        done = subprocess.run(command, env=surroundings(temporary), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert len(list((folder / "arrived/new").iterdir())) == count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_serve_says_to_type_makes_a_letter_arrive_and_a_signal_ends_everything(
    temporary: Path, number: signal.Signals
) -> None:
    with serving(temporary) as terminal:
        folder = terminal.folder
        assert folder.parent == temporary
        output = terminal.type(*terminal.commands)
        assert "How are you?" in output
        terminal.read_until("arrived at the provider: from ")
        os.killpg(terminal.process.pid, number)  # as Ctrl-C does: the daemon gets it too
        time.sleep(0.1)
        terminal.process.send_signal(number)  # as make does with a SIGTERM that it gets
        assert terminal.process.wait(timeout=30) == 0
        assert terminal.process.stderr
        assert terminal.process.stderr.read() == ""
    assert not folder.exists()
    assert processes_of(folder) == []


def test_a_signal_to_serve_alone_is_enough(temporary: Path) -> None:
    with serving(temporary) as terminal:
        terminal.process.terminate()
        assert terminal.process.wait(timeout=30) == 0
        assert processes_of(terminal.folder) == []


def test_serve_ends_with_the_daemons_last_words_when_that_dies(temporary: Path) -> None:
    with serving(temporary) as terminal:
        os.kill(terminal.daemon(), signal.SIGKILL)
        assert terminal.process.wait(timeout=30) == os.EX_UNAVAILABLE
        assert terminal.process.stderr
        words = terminal.process.stderr.read()
        assert "the daemon has ended" in words
        assert "daemon ready" in words
        wait_until_gone(terminal.folder)


def wait_until_gone(folder: Path) -> None:
    """As root, the daemon proper ends a moment after its parent."""
    deadline = time.monotonic() + 20
    while left := processes_of(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_two_demos_do_not_share_a_folder(temporary: Path) -> None:
    folder = temporary / "demo"
    with serving(temporary, "--folder", str(folder)) as terminal:
        done = subprocess.run([*DEMO, "--folder", str(folder)], capture_output=True, text=True, timeout=60)
        assert done.returncode == os.EX_UNAVAILABLE
        assert "a demo is running in" in done.stderr
        assert "masqmail" in terminal.type(terminal.commands[0], "masqmail status").lower()
    assert folder.exists()
