"""Reads the passwords that the configuration only points at: a file, a command, or a systemd credential."""

import os
import subprocess
from pathlib import Path
from typing import Protocol

import anyio.to_thread

from masqmail.frozen import frozen
from masqmail.proto.sasl import Secret

COMMAND_TIMEOUT_SECONDS = 10.0  # `password_command` gets that long
MAX_SECRET_BYTES = 65536


class SecretError(Exception):
    """A password could not be read; the message says why, and never holds any of it."""


@frozen
class SecretSource:
    """Where a password comes from; exactly one is set."""

    file: Path | None = None
    command: tuple[str, ...] = ()
    credential: str = ""


async def read_secret(source: SecretSource) -> Secret:
    """The first line of what the source gives. Raises `SecretError`."""
    return await anyio.to_thread.run_sync(_read, source)


def _read(source: SecretSource) -> Secret:
    if source.file is not None:
        return _first_line(_read_file(source.file), str(source.file))
    if source.credential:
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise SecretError(f"systemd gave no credentials, so {source.credential!r} cannot be read")
        path = Path(directory) / source.credential
        return _first_line(_read_file(path), str(path))
    return _first_line(_run(source.command), source.command[0])


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_SECRET_BYTES)
    except OSError as error:
        raise SecretError(f"cannot read the password in {path}: {error.strerror}") from error


def _run(command: tuple[str, ...]) -> bytes:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise SecretError(f"{command[0]} gave no password within {COMMAND_TIMEOUT_SECONDS:.0f} s") from error
    except OSError as error:
        raise SecretError(f"cannot run {command[0]}: {error.strerror}") from error
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip().splitlines()
        raise SecretError(f"{command[0]} ended with {done.returncode}" + (f": {complaint[-1]}" if complaint else ""))
    return done.stdout[:MAX_SECRET_BYTES]


def _first_line(data: bytes, where: str) -> Secret:
    line = data.split(b"\n", 1)[0].rstrip(b"\r")
    if not line:
        raise SecretError(f"{where} gave an empty password")
    try:
        return Secret(line.decode())
    except UnicodeDecodeError as error:
        raise SecretError(f"the password from {where} is not UTF-8") from error


class SecretOpener(Protocol):
    """Opens files that only root may read; the privileged parent does."""

    async def open_secret(self, path: str) -> int: ...


class SecretReader:
    """Reads secrets, with the parent's help where there is one."""

    def __init__(self, opener: SecretOpener | None) -> None:
        self._opener = opener

    async def read(self, source: SecretSource) -> Secret:
        """The first line of what the source gives. Raises `SecretError`."""
        if self._opener is None or source.file is None:
            return await read_secret(source)
        try:
            descriptor = await self._opener.open_secret(str(source.file))
        except OSError as error:
            raise SecretError(f"cannot read the password: {error.strerror or error}") from error
        with os.fdopen(descriptor, "rb") as file:
            return _first_line(file.read(MAX_SECRET_BYTES), str(source.file))
