"""Runs one command of `masqmail`: parses its words, calls its handler, and says what went wrong.

Each handler takes the parsed arguments and returns a sysexits code; what goes wrong on the way becomes a line and a
code here. Modules that only one command needs are imported in its handler, so that `masqmail queue` starts fast.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from masqmail.cli import text
from masqmail.cli.client import BrokenOff, NotRunning, Refused
from masqmail.cli.configuration import ConfigurationFaulty
from masqmail.cli.parser import Handler, build_parser
from masqmail.cli.settings import configuration

#: What a refusal of the daemon means, by its HTTP status; any other is worth another try.
_REFUSALS = {400: os.EX_USAGE, 403: os.EX_NOPERM, 404: os.EX_DATAERR, 422: os.EX_DATAERR}

_INTERRUPTED = 130  # as shells say it: 128 and SIGINT


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.handler is None:
        parser.print_help(sys.stderr)
        return os.EX_USAGE
    try:
        status = _run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read us has gone, as `| head` does
        status = os.EX_OK
    except OSError as error:
        status = _complain(f"cannot write: {error.strerror}", os.EX_CANTCREAT)
    else:
        return status
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not said at exit either
    return status


def _run(options: argparse.Namespace) -> int:
    handler: Handler = options.handler
    try:
        return handler(options)
    except ConfigurationFaulty as faulty:
        return _report(faulty)
    except NotRunning as error:
        try:
            configuration(options)  # may well be why
        except ConfigurationFaulty as faulty:
            return _report(faulty)
        return _complain(str(error), os.EX_UNAVAILABLE)
    except BrokenOff as error:
        return _complain(str(error), os.EX_TEMPFAIL)
    except Refused as error:
        return _complain(str(error), _REFUSALS.get(error.status, os.EX_TEMPFAIL))


def _report(faulty: ConfigurationFaulty) -> int:
    for fault in faulty.faults:
        print(fault, file=sys.stderr)
    return os.EX_CONFIG


def _complain(what: str, status: int) -> int:
    print(f"masqmail: {text.clean(what)}", file=sys.stderr)
    return status
