"""Runs one command in a `sandbox`: `python -m harness.inside exim -- exim4 -bV`. SIGTERM ends it."""

import signal
import subprocess
import sys
from types import FrameType

from harness.sandbox import sandbox


def main(arguments: list[str]) -> int:
    """`arguments` are the peers whose files the command needs, `--`, and the command."""
    end = arguments.index("--")
    signal.signal(signal.SIGTERM, _stop)
    with sandbox(arguments[:end]), subprocess.Popen(arguments[end + 1 :]) as process:
        try:
            return process.wait()
        finally:
            process.terminate()


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
