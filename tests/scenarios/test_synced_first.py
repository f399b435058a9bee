"""strace shows it: message and envelope are synced before the 250, and before `sendmail` exits 0."""

import re
import shutil
import sys
import time
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.load import Load
from support.mail import message

CALLS = "write,pwrite64,writev,pwritev,sendto,sendmsg,fsync,fdatasync,rename,renameat2,link,exit_group"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]


class Traced(Daemon):
    """A daemon under strace; `calls` are its system calls in the order in which they ended."""

    @property
    def trace(self) -> Path:
        return self.folder / "trace"

    def start(self, *, wait: bool = True) -> None:
        command = ["strace", "-D", "-f", "-y", "-s", "70000", "-e", f"trace={CALLS}", "-o", str(self.trace)]
        self._start([*command, sys.executable, "-m", "masqmail.cli.main", "serve"])
        self.wait_until_ready(60)

    def stop(self) -> int:
        """Ends the daemon, and waits for the last line of strace, which outlives it by a moment."""
        assert self.process is not None
        last = f"{self.process.pid} +++ exited"
        status = super().stop()
        deadline = time.monotonic() + 10
        while last not in self.trace.read_text(errors="replace") and time.monotonic() < deadline:
            time.sleep(0.05)
        return status

    def calls(self) -> list[str]:
        return _joined(self.trace.read_text(errors="replace").splitlines())


def _joined(lines: list[str]) -> list[str]:
    """One line per call, at the place where it ended."""
    begun: dict[str, str] = {}
    calls = []
    for line in lines:
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest.removesuffix("<unfinished ...>")
        elif rest.startswith("<... "):
            calls.append(begun.pop(pid, "") + rest.partition("resumed>")[2])
        else:
            calls.append(rest)
    return calls


def _first(calls: list[str], pattern: str, after: int = -1) -> int:
    """The index of the first matching call behind another one."""
    compiled = re.compile(pattern, re.DOTALL)
    for index in range(after + 1, len(calls)):
        if compiled.search(calls[index]):
            return index
    raise AssertionError(f"no call after number {after} matches {pattern!r}")


def _answered_after_sync(calls: list[str], after: int) -> None:
    """Behind that call the rows are synced, and only then the client gets its 250."""
    synced = _first(calls, r"^f(data)?sync\(\d+<[^>]*-wal>\) += 0", after)
    _first(calls, r"^(sendto|write)\(\d+<socket.*250 2\.0\.0 Safe", synced)
    with pytest.raises(AssertionError):
        _first(calls[:synced], r"250 2\.0\.0 Safe")


def _calls_for_message(folder: Path, size: int) -> list[str]:
    """What a daemon does from its start to its end, when one message of that size comes by SMTP."""
    daemon = Traced(folder)
    daemon.start()
    content = message("synced", b"MARKER" + b"z" * 60 + b"\n" + (b"z" * 70 + b"\n") * (size // 71))
    assert Load(daemon, 1).submit_by_smtp("synced", ("ann@example.net",), content)
    daemon.stop()
    return daemon.calls()


def test_a_small_message_is_synced_before_the_250(tmp_path: Path) -> None:
    calls = _calls_for_message(tmp_path, 1000)
    _answered_after_sync(calls, _first(calls, r"^p?write(64)?\(\d+<[^>]*-wal>.*MARKER"))


def test_a_body_of_middling_size_is_synced_before_its_row_and_the_250(tmp_path: Path) -> None:
    calls = _calls_for_message(tmp_path, 50_000)
    written = _first(calls, r"^pwrite64\(\d+<[^>]*/segments>.*MARKER")
    _answered_after_sync(calls, _first(calls, r"^fdatasync\(\d+<[^>]*/segments>\) += 0", written))


def test_a_big_body_and_its_folder_are_synced_before_the_250(tmp_path: Path) -> None:
    calls = _calls_for_message(tmp_path, 200_000)
    written = _first(calls, r"^write\(\d+<[^>]*/bodies/.*MARKER")
    renamed = _first(calls, r"^(rename|renameat2|link)\(.*/bodies/.* = 0", written)
    body = _first(calls, r"^f(data)?sync\(\d+<[^>]*/bodies/[^>]*>\) += 0", written)
    folder = _first(calls, r"^fsync\(\d+<[^>]*/bodies>\) += 0", renamed)
    _answered_after_sync(calls, max(body, folder))


def test_sendmail_exits_only_after_the_sync(tmp_path: Path) -> None:
    """The daemon answers after the sync, and the command exits 0 after the answer."""
    daemon = Traced(tmp_path)
    daemon.start()
    assert daemon.sendmail("-i", "ann@example.net", message=message("s", b"MARKER\n")).returncode == 0
    calls = daemon.calls()  # read at once: whatever is here happened before the command had ended
    daemon.stop()
    written = _first(calls, r"^p?write(64)?\(\d+<[^>]*-wal>.*MARKER")
    _first(calls, r"^f(data)?sync\(\d+<[^>]*-wal>\) += 0", written)
