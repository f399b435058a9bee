"""A program gets the whole message or is killed; it is bounded in time and output."""

import errno
import os
import select
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from masqmail.delivery import program
from masqmail.delivery.files import NotUsable
from masqmail.delivery.program import Ending
from masqmail.net.complaints import MAX_LINE_CHARACTERS

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "SENDER": "ann@example.org"}


def run(
    script: str,
    pieces: Iterable[bytes] = (b"To: x\r\n\r\n", b"body\r\n"),
    *,
    directory: str = "/",
    timeout_seconds: float = 30.0,
    stop: threading.Event | None = None,
) -> Ending:
    return program.run(
        ["sh", "-c", script],
        pieces,
        environment=ENVIRONMENT,
        directory=directory,
        timeout_seconds=timeout_seconds,
        stop=stop,
    )


def test_the_message_arrives_with_lf_line_ends(tmp_path: Path) -> None:
    assert run(f"cat > {tmp_path}/got") == Ending(0, "")
    assert (tmp_path / "got").read_bytes() == b"To: x\n\nbody\n"
    assert (tmp_path / "got").stat().st_mode & 0o777 == 0o600


def test_a_big_message_arrives_whole(tmp_path: Path) -> None:
    assert run(f"cat > {tmp_path}/got", [b"x" * 100_000] * 10) == Ending(0, "")
    assert (tmp_path / "got").stat().st_size == 1_000_000


def test_the_environment_is_what_it_is_given_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    program.run(["/usr/bin/env"], [], environment=ENVIRONMENT, directory="/")
    ending = run(f"env | sort > {tmp_path}/got")
    names = {line.partition("=")[0] for line in (tmp_path / "got").read_text().splitlines()}
    assert ending.code == 0
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == set(ENVIRONMENT)  # the others are the shell's own


@pytest.mark.parametrize("is_there", [True, False])
def test_it_runs_in_its_directory_or_in_the_root(tmp_path: Path, is_there: bool) -> None:
    directory = str(tmp_path) if is_there else str(tmp_path / "missing")
    assert run("pwd", directory=directory).last_line == (directory if is_there else "/")


def test_it_leads_a_session_of_its_own() -> None:
    assert run("cut -d' ' -f6 /proc/self/stat").last_line != str(os.getsid(0))


def test_a_program_need_not_read_its_input() -> None:
    assert run("exec <&-; echo fine", [b"x" * 1_000_000]) == Ending(0, "fine")


def test_the_last_line_of_both_outputs_is_kept() -> None:
    assert run("echo one; echo two >&2; echo; exit 3") == Ending(3, "two")


def test_output_without_end_is_bounded() -> None:
    ending = run("head -c 1000000 /dev/zero | tr '\\0' x")
    assert ending == Ending(0, "x" * MAX_LINE_CHARACTERS)


def test_output_is_made_printable() -> None:
    assert run("printf 'a\\033[31mb\\377\\r\\n'") == Ending(0, "a [31mb\ufffd")


def test_a_signal_is_told() -> None:
    assert run("kill -9 $$") == Ending(-9)


def test_what_keeps_the_output_open_is_not_waited_for() -> None:
    ending = run("sleep 60 & echo $!")
    os.kill(int(ending.last_line), 9)
    assert ending.code == 0


def test_a_program_that_takes_too_long_is_ended() -> None:
    assert run("sleep 60", timeout_seconds=0.0) == Ending(None)


class WhenWritten(threading.Event):
    """Is set as soon as a file has something in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def is_set(self) -> bool:
        return self._path.exists() and bool(self._path.read_text())


@pytest.mark.slow
def test_a_program_that_does_not_want_to_end_is_killed_with_all_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "GRACE_SECONDS", 0.1)
    script = f"trap '' TERM; echo stubborn; sleep 60 & echo $! > {tmp_path}/child; wait"
    assert run(script, stop=WhenWritten(tmp_path / "child")) == Ending(None, "stubborn")
    assert has_ended(int((tmp_path / "child").read_text()))


def has_ended(process: int) -> bool:
    """Whether it is gone, or soon is."""
    try:
        pidfd = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([pidfd], [], [], 10)
    os.close(pidfd)
    return bool(ended)


def test_a_program_is_ended_when_asked_to_stop() -> None:
    stop = threading.Event()
    stop.set()
    assert run("sleep 60", stop=stop).code is None


def test_a_message_that_cannot_be_read_never_looks_complete(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"To: x\r\n"
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        run(f"cat > /dev/null; touch {tmp_path}/complete", pieces())
    assert not (tmp_path / "complete").exists()


def test_a_message_cut_by_the_time_never_looks_complete(tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 0.1; cat > /dev/null; touch {tmp_path}/complete"
    stop = threading.Event()
    stop.set()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(program, "GRACE_SECONDS", 0.2)
        assert run(script, [b"x" * 1_000_000], stop=stop).code is None
    assert not (tmp_path / "complete").exists()


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [(None, 0, "No such file"), ("#!/bin/sh\n", 0o644, "Permission denied"), ("x", 0o755, "Exec format error")],
)
def test_a_program_that_cannot_be_started_is_named(
    tmp_path: Path, content: str | None, mode: int, words: str
) -> None:
    path = tmp_path / "program"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(NotUsable, match=rf"cannot run {path}: {words}"):
        program.run([str(path)], [], environment=ENVIRONMENT, directory="/")


def test_no_descriptor_is_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    run("exit 1")
    run("exec <&-", [b"x" * 1_000_000])
    assert os.listdir("/proc/self/fd") == before


def test_a_program_that_cannot_be_watched_never_sees_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", fail)
    with pytest.raises(OSError, match="Too many open files"):
        run(f"cat > /dev/null; touch {tmp_path}/complete")
    assert not (tmp_path / "complete").exists()
