"""`detect = "command"`: a program prints the name of the link that is up."""

import asyncio
import fcntl
import os
import signal
import subprocess
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import ClassVar

import anyio

from masqmail.frozen import frozen
from masqmail.links.detector import Observation, down, unknown, up
from masqmail.settings import Command, setting
from masqmail.system.clock import Clock

_MAX_OUTPUT_BYTES = 64 * 1024
_TIMEOUT_SECONDS = 10.0
_ENVIRONMENT = ("PATH", "HOME", "LANG")


@frozen
class Options:
    """The program to ask, and how often."""

    command: Command = setting(
        "Prints the name of the link that is up; when it exits with another status than 0 none is.",
        example='["/usr/local/bin/which-link"]',
    )
    interval: timedelta = setting("How long to wait between two questions.", default=timedelta(seconds=5))


class CommandDetector:
    """Runs the program again and again, without a shell and for ten seconds at most."""

    options_type: ClassVar[type[Options]] = Options

    def __init__(self, link: str, options: Options, clock: Clock) -> None:
        self._link = link
        self._command = options.command
        self._interval_seconds = options.interval.total_seconds()
        self._clock = clock

    async def watch(self) -> AsyncGenerator[Observation, None]:
        while True:
            yield await self.ask()
            await self._clock.sleep(self._interval_seconds)

    async def ask(self) -> Observation:
        program = os.path.basename(self._command[0])
        try:
            result = await _run(self._command)
        except OSError as error:
            return unknown(f"{self._command[0]} cannot be run: {(error.strerror or str(error)).lower()}")
        if result is None:
            return unknown(f"{program} did not finish within {_TIMEOUT_SECONDS:g} s")
        if result.status != 0:
            return down(f"{program} {_ending(result.status)}" + (f": {result.error}" if result.error else ""))
        if result.answer == self._link:
            return up(f"{program} names it")
        return down(f'{program} names "{result.answer}"' if result.answer else f"{program} names no link")


@frozen
class _Result:
    """The exit status (negative: the signal), the first line of output and the last of the errors."""

    status: int
    answer: str
    error: str


async def _run(command: Command) -> _Result | None:
    """Runs a program; None when it took too long. Whatever it started with it ends then, too."""
    output, errors = _bounded_file("output"), _bounded_file("errors")
    try:
        process = _start(command, output, errors)
        try:
            with anyio.move_on_after(_TIMEOUT_SECONDS):
                await _end_of(process.pid)
                status = process.wait()
                return _Result(status, *(_lines(output)[:1] or [""]), *(_lines(errors)[-1:] or [""]))
            return None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    finally:
        os.close(output)
        os.close(errors)


def _start(command: Command, output: int, errors: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        start_new_session=True,
    )


def _bounded_file(name: str) -> int:
    """A file in memory that cannot grow beyond its zeros: unlike a pipe it needs no reader, and no end."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, _MAX_OUTPUT_BYTES)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    return fd


def _lines(fd: int) -> list[str]:
    """What was written, without blanks and empty lines."""
    text = os.pread(fd, _MAX_OUTPUT_BYTES, 0).rstrip(b"\0").decode("utf-8", "replace")
    return [stripped for line in text.splitlines() if (stripped := line.strip())]


async def _end_of(pid: int) -> None:
    """Waits until a child process has ended."""
    loop = asyncio.get_running_loop()
    fd = os.pidfd_open(pid)
    ended = asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def _ending(status: int) -> str:
    return f"exited with status {status}" if status > 0 else f"was killed by signal {-status}"
