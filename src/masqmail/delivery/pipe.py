"""Delivers to a program, and reads its verdict from how it ended.

Exit code 0 delivers, 75 defers, every other fails. What is no verdict of the program defers: it cannot be
started, a signal ends it, or it takes too long.
"""

import os
import threading
from collections.abc import Iterable, Mapping, Sequence

from masqmail.delivery import program
from masqmail.delivery.program import Ending
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, Outcome
from masqmail.mail.status import LOCAL_ERROR, Status
from masqmail.net.complaints import signal_name

EX_TEMPFAIL = 75

#: The other codes of sysexits.h, with the enhanced status code that says the same (RFC 3463 §3).
SYSEXITS: dict[int, tuple[str, str]] = {
    64: ("wrong usage", "5.3.0"),
    65: ("bad data", "5.6.0"),
    66: ("input missing", "5.3.0"),
    67: ("user unknown", "5.1.1"),
    68: ("host unknown", "5.1.2"),
    69: ("service unavailable", "5.3.0"),
    70: ("internal error", "5.3.0"),
    71: ("system error", "5.3.0"),
    72: ("system file missing", "5.3.0"),
    73: ("cannot create its output", "5.2.0"),
    74: ("input or output error", "5.3.0"),
    76: ("protocol error", "5.5.0"),
    77: ("permission denied", "5.7.0"),
    78: ("wrong configuration", "5.3.5"),
}


def deliver(
    command: Sequence[str],
    pieces: Iterable[bytes],
    *,
    environment: Mapping[str, str],
    directory: str,
    timeout_seconds: float = program.TIMEOUT_SECONDS,
    stop: threading.Event | None = None,
) -> Outcome:
    """Runs the program and judges how it ended. Raises what `program.run` raises."""
    ending = program.run(
        command,
        pieces,
        environment=environment,
        directory=directory,
        timeout_seconds=timeout_seconds,
        stop=stop,
    )
    return judge(os.path.basename(command[0]), ending)


def judge(name: str, ending: Ending) -> Outcome:
    """The outcome that the ending of a program stands for."""
    said = f": {ending.last_line}" if ending.last_line else ""
    if ending.code is None:
        return _deferred(f"{name} did not end in time{said}", Culprit.LOCAL)
    if ending.code < 0:
        return _deferred(f"{name} was ended by {signal_name(-ending.code)}{said}", Culprit.LOCAL)
    if ending.code == 0:
        return Delivered(Status(250, "2.0.0", f"Delivered to {name}"), handover=Handover.MAILBOX)
    if ending.code == EX_TEMPFAIL:
        return _deferred(ending.last_line or f"{name} asked to try again later", Culprit.RECIPIENT)
    meaning, enhanced = SYSEXITS.get(ending.code, ("", "5.3.0"))
    code = f"exit code {ending.code}" + (f", {meaning}" if meaning else "")
    reason = f"{ending.last_line} ({code})" if ending.last_line else f"{name} ended with {code}"
    return Failed(Status(554, enhanced, reason), Culprit.RECIPIENT, reason)


def _deferred(reason: str, culprit: Culprit) -> Deferred:
    return Deferred(LOCAL_ERROR.with_text(reason), culprit, reason)
