"""Runs a program for a message: no shell, its own process group, bounded in time and output.

The program reads the message (LF line ends) from its standard input and need not read all of it. Only the
end of what it writes is kept. A message is never cut short: when reading it fails or time is up, the program
is killed before it could see an end.
"""

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Self

from masqmail.delivery.files import NotUsable
from masqmail.delivery.text import with_lf
from masqmail.frozen import frozen
from masqmail.net.complaints import tidy

TIMEOUT_SECONDS = 300.0
GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL

_MAX_OUTPUT_BYTES = 4096
_LONGEST_SLEEP_SECONDS = 0.5  # how soon a request to stop is seen


@frozen
class Ending:
    """How a program ended: its exit code, negative for the signal that ended it, None when it took too long."""

    code: int | None
    last_line: str = ""


def run(
    command: Sequence[str],
    pieces: Iterable[bytes],
    *,
    environment: Mapping[str, str],
    directory: str,
    timeout_seconds: float = TIMEOUT_SECONDS,
    stop: threading.Event | None = None,
) -> Ending:
    """Runs a program in `directory` (or `/` if that cannot be entered) with this environment and nothing else.

    Raises `NotUsable` when it cannot be started, and `OSError` when the message cannot be read. Once `stop` is
    set its time is up.
    """
    with _Running(_start(command, environment, directory), with_lf(pieces)) as running:
        return running.until_end(timeout_seconds, stop or threading.Event())


def _start(command: Sequence[str], environment: Mapping[str, str], directory: str) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory if os.access(directory, os.X_OK) else "/",
            env=environment,
            start_new_session=True,
            umask=0o077,
        )
    except OSError as error:
        raise NotUsable(f"cannot run {command[0]}: {error.strerror}") from error


class _Running:
    """One running program: fed, listened to, and seen to its end."""

    def __init__(self, process: "subprocess.Popen[bytes]", pieces: Iterable[bytes]) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")
        self._output = b""
        self._has_ended = False
        self._selector = selectors.PollSelector()
        try:
            self._pidfd = os.pidfd_open(process.pid)
        except OSError:  # too many open files: it must not see the end of an empty message
            self._kill(signal.SIGKILL)
            process.wait()
            self._stdin.close()
            self._stdout.close()
            raise

    def __enter__(self) -> Self:
        self._watch(self._stdin.fileno(), selectors.EVENT_WRITE, self._feed)
        self._watch(self._stdout.fileno(), selectors.EVENT_READ, self._listen)
        self._watch(self._pidfd, selectors.EVENT_READ, self._see_end)
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._has_ended:
            self._press(signal.SIGKILL)
        if self._has_ended:  # or is beyond being killed, and not to be waited for
            self._process.wait()
        self._selector.close()
        self._stdin.close()
        self._stdout.close()
        os.close(self._pidfd)

    def until_end(self, timeout_seconds: float, stop: threading.Event) -> Ending:
        """Waits for the program to end by itself, or ends its whole process group."""
        self._turn_until(time.monotonic() + timeout_seconds, stop)
        if self._has_ended:
            self._listen()
            return Ending(self._process.wait(), self._last_line())
        self._press(signal.SIGTERM)
        self._kill(signal.SIGKILL)  # also what is left of its group
        return Ending(None, self._last_line())

    def _press(self, number: signal.Signals) -> None:
        """Sends a signal and waits a moment. Its input is not fed, and not closed: a cut message has no end."""
        if not self._stdin.closed:
            self._ignore(self._stdin.fileno())
        self._kill(number)
        self._turn_until(time.monotonic() + GRACE_SECONDS, threading.Event())

    def _turn_until(self, deadline: float, stop: threading.Event) -> None:
        while not self._has_ended and not stop.is_set():
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                return
            for key, _ in self._selector.select(min(seconds, _LONGEST_SLEEP_SECONDS)):
                key.data()

    def _feed(self) -> None:
        """Writes what the program takes now; closes its input behind the last byte, or when it listens no more."""
        try:
            while self._rest or self._next_piece():
                self._rest = self._rest[os.write(self._stdin.fileno(), self._rest) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._rest = memoryview(b"")
        self._ignore(self._stdin.fileno())
        self._stdin.close()

    def _next_piece(self) -> bool:
        self._rest = memoryview(next(self._pieces, b""))
        return len(self._rest) > 0

    def _listen(self) -> None:
        """Takes what the program has written so far, and keeps the end of it."""
        try:
            data = os.read(self._stdout.fileno(), 65536)
        except BlockingIOError:
            return
        self._output = (self._output + data)[-_MAX_OUTPUT_BYTES:]
        if not data:
            self._ignore(self._stdout.fileno())

    def _see_end(self) -> None:
        self._has_ended = True
        self._ignore(self._pidfd)

    def _last_line(self) -> str:
        return next((line for line in map(tidy, reversed(self._output.splitlines())) if line), "")

    def _watch(self, descriptor: int, event: int, react: Callable[[], None]) -> None:
        os.set_blocking(descriptor, False)
        self._selector.register(descriptor, event, react)

    def _ignore(self, descriptor: int) -> None:
        with suppress(KeyError):
            self._selector.unregister(descriptor)

    def _kill(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # gone, or its group runs as somebody else
            os.killpg(self._process.pid, number)
