"""`masqmail queue …`: see and act on what waits."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from masqmail.cli import show as render
from masqmail.cli import text
from masqmail.cli.client import Daemon
from masqmail.cli.settings import daemon

#: Messages asked for at a time, fewer at first: so the first lines come at once however long the queue is.
FIRST_PAGE, PAGE = 100, 500


def listing(options: argparse.Namespace) -> int:
    """Every message in the queue, in order of arrival."""
    if options.json:
        for piece in daemon(options).stream("queue"):
            sys.stdout.buffer.write(piece)
    else:
        for line in render.queue(_messages(daemon(options))):
            print(line)
    return os.EX_OK


def _messages(running: Daemon) -> Iterator[dict[str, Any]]:
    after, size = "", FIRST_PAGE
    while True:
        page: list[dict[str, Any]] = text.clean(running.get("queue", limit=str(size), after=after))
        yield from page
        if len(page) < size:
            return
        after, size = page[-1]["id"], PAGE


def show(options: argparse.Namespace) -> int:
    """One message with all that is known of it."""
    document = daemon(options).get("queue", options.id)
    print(json.dumps(document, indent=2) if options.json else render.message(text.clean(document)))
    return os.EX_OK


def headers(options: argparse.Namespace) -> int:
    return _write(daemon(options).stream("queue", options.id, "headers"))


def body(options: argparse.Namespace) -> int:
    return _write(daemon(options).stream("queue", options.id, "body"))


def _write(pieces: Iterator[bytes]) -> int:
    """Text with LF line ends; on a terminal without what could harm it."""
    is_terminal, held_back = sys.stdout.isatty(), b""
    for piece in pieces:
        lines = (held_back + piece).replace(b"\r\n", b"\n")
        held_back = b"\r" if lines.endswith(b"\r") else b""  # perhaps half of a line end
        lines = lines.removesuffix(b"\r")
        sys.stdout.buffer.write(text.clean_lines(lines) if is_terminal else lines)
    sys.stdout.buffer.write(held_back)
    return os.EX_OK


_DONE = {"hold": "held", "release": "released", "retry": "due now", "remove": "removed", "bounce": "given back"}


def act(options: argparse.Namespace) -> int:
    """hold, release, retry, remove or bounce what the arguments select."""
    conditions = ("sender", "recipient", "route", "older_than")
    wanted: dict[str, object] = {name: getattr(options, name) for name in conditions if getattr(options, name)}
    if options.ids:
        wanted["ids"] = options.ids
    if options.all:
        wanted["all"] = True
    if not wanted:
        say = "say which: IDs, or --all, --sender, --recipient, --route, --older-than"
        print(f"masqmail: {say}", file=sys.stderr)
        return os.EX_USAGE
    result: dict[str, Any] = daemon(options).post("queue", options.action, **wanted)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"{text.count(result['messages'], 'message')} {_DONE[options.action]}")
    for unknown in result["unknown"]:
        print(f"masqmail: there is no message {unknown} in the queue", file=sys.stderr)
    return os.EX_DATAERR if result["unknown"] else os.EX_OK
