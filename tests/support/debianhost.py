"""This host as it is when MasqMail is its mail system: our `sendmail` in the place that is compiled into programs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from support.daemon import Daemon
from support.peers import SEARCH_PATH, needs, wait_until

PLACE = "/usr/sbin/sendmail"  # the `postfix` of the other tests has one there, which ours is mounted over

#: Mounts what stands before "--" (what, where, by turns) and becomes the rest, in namespaces of its own.
_ENTER = """
hostname laptop.example.org
while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 99; shift 2; done
shift
exec "$@"
"""


@dataclass(frozen=True)
class Letter:
    """A message that arrived: its envelope and what is in it."""

    sender: str
    recipients: tuple[str, ...]
    content: EmailMessage

    @property
    def text(self) -> str:
        """The first text part."""
        body = self.content.get_body(("plain",))
        assert body is not None
        return str(body.get_content())


class DebianHost:
    """Runs programs in a view of the file system where our `sendmail` is in its place."""

    def __init__(self, folder: Path, daemon: Daemon) -> None:
        needs("postfix", "unshare", "mount")
        self.folder = folder
        self.daemon = daemon
        self.sendmail = folder / "sendmail"
        program = Path(sys.executable).with_name("sendmail")
        self.sendmail.write_text(f'#!/bin/sh\nMASQMAIL_CONFIG={daemon.config} exec {program} "$@"\n')
        self.sendmail.chmod(0o755)
        self.environment = {
            "PATH": SEARCH_PATH,
            "HOME": str(folder),
            "USER": "root",
            "LOGNAME": "root",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }

    def run(
        self, *command: str, text: str = "", more: Mapping[str, str] | None = None, places: Sequence[str | Path] = ()
    ) -> str:
        """Runs a program to its end and returns what it printed. `places`: more to mount, what and where by turns."""
        done = subprocess.run(
            self._enter(command, places),
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**self.environment, **(more or {})},
            cwd=self.folder,
            timeout=60,
        )
        assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout.decode()}"
        return done.stdout.decode()

    @contextmanager
    def running(self, *command: str, places: Sequence[str | Path] = ()) -> Iterator[None]:
        """Runs a daemon meanwhile."""
        process = subprocess.Popen(
            self._enter(command, places),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=20)

    def _enter(self, command: Sequence[str], places: Sequence[str | Path]) -> list[str]:
        mounts = [str(word) for word in (self.sendmail, PLACE, *places)]
        return ["unshare", "--mount", "--uts", "sh", "-c", _ENTER, "sh", *mounts, "--", *command]

    def queued(self, word: str) -> Letter:
        """The one message in the queue with this word in its subject."""
        (found,) = self.all_queued(word)
        return found

    def all_queued(self, word: str) -> list[Letter]:
        """The messages in the queue with this word in their subjects; there is one at least."""
        return wait_until(lambda: self._find(word), f"a message in the queue about {word}")

    def delivered(self, word: str) -> Letter:
        """The one message in the mailbox of root with this word in its subject."""
        (found,) = wait_until(
            lambda: [
                letter for letter in map(_open, self.daemon.mailbox()) if word in str(letter.content["Subject"])
            ],
            f"a message in the mailbox about {word}",
        )
        return found

    def _find(self, word: str) -> list[Letter]:
        letters = [self._letter(message) for message in self.daemon.queue()]
        return [letter for letter in letters if word in str(letter.content["Subject"])]

    def _letter(self, message: Any) -> Letter:
        parts = [self.daemon.masqmail("queue", part, message["id"]).stdout for part in ("headers", "body")]
        return Letter(
            message["sender"],
            tuple(sorted(recipient["address"] for recipient in message["recipients"])),
            _parse("\n".join([parts[0].rstrip("\n"), "", parts[1]]).encode()),
        )


def _open(content: bytes) -> Letter:
    parsed = _parse(content)
    return Letter(str(parsed["Return-Path"]).strip("<>"), (str(parsed["Envelope-To"]),), parsed)


def _parse(content: bytes) -> EmailMessage:
    parsed = message_from_bytes(content, policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def empty_folder(path: Path, *, owner: str = "root", mode: int = 0o755) -> Path:
    """A new folder to mount over one of the system's."""
    path.mkdir(parents=True)
    shutil.chown(path, owner, owner)
    os.chmod(path, mode)
    return path
