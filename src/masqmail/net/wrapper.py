"""A program in place of a connection: we speak to its standard input and output, as over `ssh shore nc localhost 25`.

No shell; it runs as the daemon's own user, with its environment. What it writes to its standard error is passed on,
within bounds. It lives as long as the connection, and is ended when it does not end by itself.
"""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import anyio
import anyio.to_thread

from masqmail.net import stream as net_stream
from masqmail.net.complaints import signal_name, tidy
from masqmail.net.errors import ConnectFailure
from masqmail.net.stream import Stream

#: How long it may go on when the connection was closed in peace, or was lost; and after SIGTERM.
PEACE_SECONDS = 5.0
LOSS_SECONDS = 1.0
GRACE_SECONDS = 2.0

MAX_LINES = 50  # that are passed on of one connection
_MAX_LINE_BYTES = 1024

#: Called with the program's name and a line that it wrote to its standard error.
Listener = Callable[[str, str], None]


async def open_wrapped(command: Sequence[str], said: Listener) -> tuple[Stream, socket.socket, "Wrapper"]:
    """Starts a program to speak to. The socket belongs to the stream; who called must `end` the program.

    Raises `ConnectFailure` when it cannot be started.
    """
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            wrapper = await Wrapper.start(command, theirs, said)
    except BaseException:
        ours.close()
        raise
    try:
        ours.setblocking(False)
        return await net_stream.attach(ours), ours, wrapper
    except BaseException:
        await wrapper.end(0.0)
        raise


class Wrapper:
    """One running program. `verdict` says how it ended, where that was its own doing and no success."""

    def __init__(self, process: "subprocess.Popen[bytes]", complaints: int, pidfd: int, said: Listener) -> None:
        self.verdict = ""
        self._process = process
        self._complaints = complaints
        self._pidfd = pidfd
        self._said = said
        self._name = os.path.basename(os.fsdecode(process.args[0]))  # type: ignore[index,arg-type]
        self._loop = asyncio.get_running_loop()
        self._ended = anyio.Event()
        self._line = b""
        self._last_line = ""
        self._lines = 0
        self._loop.add_reader(complaints, self._hear)
        self._loop.add_reader(pidfd, self._see_end)

    @classmethod
    async def start(cls, command: Sequence[str], channel: socket.socket, said: Listener) -> "Wrapper":
        """Raises `ConnectFailure`."""
        complaints, theirs = os.pipe()
        process: subprocess.Popen[bytes] | None = None
        try:
            process = await anyio.to_thread.run_sync(partial(_start, tuple(command), channel.fileno(), theirs))
            os.set_blocking(complaints, False)
            return cls(process, complaints, os.pidfd_open(process.pid), said)
        except BaseException as error:
            os.close(complaints)
            if process is not None:
                _kill(process.pid, signal.SIGKILL)
                process.wait()
            if isinstance(error, OSError | ValueError):
                reason = getattr(error, "strerror", None) or str(error)
                raise ConnectFailure(f"cannot run {command[0]}: {reason}") from error
            raise
        finally:
            os.close(theirs)

    async def end(self, patience_seconds: float) -> None:
        """Sees it to its end; our side of the connection is closed already. Cannot be cancelled, and ends in time."""
        with anyio.CancelScope(shield=True):
            await self._wait(patience_seconds)
            has_ended_by_itself = self._ended.is_set()
            for number in (signal.SIGTERM, signal.SIGKILL):
                _kill(self._process.pid, number)  # also what it has left behind in its group
                await self._wait(GRACE_SECONDS)
        self._hear()
        self._loop.remove_reader(self._complaints)
        self._loop.remove_reader(self._pidfd)
        os.close(self._complaints)
        os.close(self._pidfd)
        code = self._process.poll()  # a number that is not waited for belongs to nobody else
        if has_ended_by_itself and code:
            how = f"exit code {code}" if code > 0 else signal_name(-code)
            self.verdict = f"{self._name} ended with {how}" + (f": {self._last_line}" if self._last_line else "")

    async def _wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._ended.wait()

    def _see_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._ended.set()

    def _hear(self) -> None:
        """Takes what it complains about."""
        try:
            data = os.read(self._complaints, 65536)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._complaints)
        *lines, self._line = (self._line + (data or b"\n")).split(b"\n")
        if len(self._line) > _MAX_LINE_BYTES:
            lines, self._line = [*lines, self._line], b""
        for line in lines:
            self._note(tidy(line))

    def _note(self, line: str) -> None:
        if not line:
            return
        self._last_line = line
        self._lines += 1
        if self._lines <= MAX_LINES:
            self._said(self._name, line)


def _start(command: tuple[str, ...], channel: int, complaints: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command, bufsize=0, stdin=channel, stdout=channel, stderr=complaints, cwd="/", start_new_session=True
    )


def _kill(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
