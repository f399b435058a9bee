"""What a program that we run has to say: its lines and its signals, as they may stand in a reason or the log."""

import re
import signal

MAX_LINE_CHARACTERS = 300

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def tidy(line: bytes) -> str:
    """A line that a program wrote."""
    return _CONTROL.sub(" ", line.decode("utf-8", "replace")).strip()[:MAX_LINE_CHARACTERS]


def signal_name(number: int) -> str:
    """The name of a signal, such as SIGTERM."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
