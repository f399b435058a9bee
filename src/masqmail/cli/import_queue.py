"""Hands what waits in an old queue to the running daemon, or to the pickup folder, by our `sendmail`.

Which messages were handed over stands in a file beside the configuration, `imported-queue`: one line for each, with
the old ID and a digest of sender and header. They are not handed over a second time. A line with a question mark is
written before each of them: where nothing follows, we were cut off, and that message is handed over again.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from masqmail.cli import text
from masqmail.config.surroundings import Surroundings
from masqmail.importing.oldqueue import OldEnvelope
from masqmail.importing.queuefolder import OldMessage, Unusable, old_messages

NOTE_FILE = "imported-queue"
_BEGUN, _REFUSED = "? ", "! "
TIMEOUT_SECONDS = 900  # longer than sendmail itself waits

_SENDMAIL = "from masqmail.cli.sendmail import start; start()"


class Refused(Exception):
    """A message was not taken; the text says why. `exit_code` is that of sysexits."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


def hand_over(spool: Path, config: str) -> int:
    """Hands over every message that waits, each once, and says what became of it; the exit code."""
    try:
        found = old_messages(spool)
    except OSError as error:
        return _say(f"the queue in {spool} cannot be read: {error.strerror}", os.EX_NOINPUT)
    surroundings = Surroundings.of_this_process()
    named = Path(config) if config else surroundings.named_file or surroundings.default_file
    notebook = Notebook(named.absolute().parent / NOTE_FILE)
    try:
        notebook.open()
    except OSError as error:
        return _say(f"{error.filename} cannot be used: {error.strerror}", os.EX_CANTCREAT)
    print("\nThe queue:", file=sys.stderr)
    status, count = os.EX_OK, 0
    for item in found:
        if isinstance(item, Unusable):
            _say(f"  {item.file}: {item.reason}; it stays where it is", os.EX_OK)
            continue
        try:
            what = _hand_over(item, notebook, config)
            count += what.startswith("handed")
            _say(f"  {item.envelope.id}: {what}{_details(item.envelope)}", os.EX_OK)
        except Refused as error:
            with suppress(OSError):
                notebook.refuse(item.envelope)
            status = max(status, _say(f"  {item.envelope.id}: {error}; it stays where it is", error.exit_code))
    notebook.close()
    _say(f"  {count} of {len(found)} handed over; the old queue in {spool} is as it was", os.EX_OK)
    return status


class Notebook:
    """Remembers what was handed over. A line is on the disk before the next message is looked at."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: set[str] = set()
        self._in_doubt: set[str] = set()
        self._descriptor = -1

    def open(self) -> None:
        """Raises `OSError`."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        for line in self._path.read_text(errors="replace").splitlines():
            name = line.removeprefix(_BEGUN).removeprefix(_REFUSED)
            (self._in_doubt.add if line.startswith(_BEGUN) else self._in_doubt.discard)(name)
            self._known.add(line)

    def close(self) -> None:
        os.close(self._descriptor)

    def knows(self, envelope: OldEnvelope) -> bool:
        return _line(envelope) in self._known

    def is_in_doubt(self, envelope: OldEnvelope) -> bool:
        """Whether we were cut off while it was handed over."""
        return _line(envelope) in self._in_doubt

    def begin(self, envelope: OldEnvelope) -> None:
        """It is being handed over. Raises `OSError`, as those below do."""
        self._write(_BEGUN + _line(envelope))

    def add(self, envelope: OldEnvelope) -> None:
        self._write(_line(envelope))

    def refuse(self, envelope: OldEnvelope) -> None:
        self._write(_REFUSED + _line(envelope))

    def _write(self, line: str) -> None:
        os.write(self._descriptor, f"{line}\n".encode())
        os.fsync(self._descriptor)
        self._known.add(line)


def _line(envelope: OldEnvelope) -> str:
    """What tells a message from any other one: IDs of different hosts may be the same."""
    digest = hashlib.sha256(b"\0".join((str(envelope.sender).encode(), envelope.header))).hexdigest()
    return f"{text.clean(envelope.id)} {digest[:32]}"


def _hand_over(message: OldMessage, notebook: Notebook, config: str) -> str:
    """What became of a message. Raises `Refused` when it could not be handed over."""
    envelope = message.envelope
    if notebook.knows(envelope):
        return "was handed over before"
    if not envelope.waiting:
        return "waits for nobody"
    try:
        with tempfile.TemporaryFile() as whole, message.body.open("rb") as body:
            whole.write(envelope.header + b"\n")
            body.seek(message.offset)
            shutil.copyfileobj(body, whole)
            whole.seek(0)
            notebook.begin(envelope)
            _sendmail(envelope, whole, config)
        notebook.add(envelope)
    except OSError as error:
        raise Refused(f"{error.filename or 'a file'} cannot be used: {error.strerror}", os.EX_TEMPFAIL) from None
    doubt = " (may arrive twice: the import before was cut off here)" if notebook.is_in_doubt(envelope) else ""
    return f"handed over for {', '.join(map(str, envelope.waiting))}{doubt}"


def _sendmail(envelope: OldEnvelope, message: IO[bytes], config: str) -> None:
    """Has our `sendmail` take a message; it is on stable storage then. Raises `Refused`."""
    sender = str(envelope.sender) if envelope.sender else "<>"
    words = [*(("-C", config) if config else ()), "-i", "-f", sender, "--", *map(str, envelope.waiting)]
    command = (sys.executable, "-c", _SENDMAIL, *words)
    try:
        done = subprocess.run(command, stdin=message, stderr=subprocess.PIPE, timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise Refused(f"sendmail did not end within {TIMEOUT_SECONDS} s", os.EX_TEMPFAIL) from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines() or [f"sendmail ended with {done.returncode}"]
        raise Refused(
            lines[-1].removeprefix("sendmail: "), done.returncode if done.returncode > 0 else os.EX_TEMPFAIL
        )


def _details(envelope: OldEnvelope) -> str:
    """What is not handed over of a message."""
    parts = [
        f"; {what}: {', '.join(recipients)}"
        for what, recipients in (
            ("delivered before", envelope.delivered),
            ("failed before", envelope.failed),
            ("no address, so left out", envelope.unusable),
        )
        if recipients
    ]
    return "".join(parts)


def _say(what: str, status: int) -> int:
    print(text.clean(what), file=sys.stderr)
    return status
