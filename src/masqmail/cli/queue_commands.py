"""`masqmail queue …`: see and act on what waits."""

import argparse
import json
import os
import sys
from typing import Any

from masqmail.cli import show as render
from masqmail.cli.settings import daemon

PAGE = 1000


def listing(options: argparse.Namespace) -> int:
    """Every message in the queue, in order of arrival."""
    document = daemon(options).get("queue")
    print(json.dumps(document, indent=2) if options.json else render.queue(document))
    return os.EX_OK


def show(options: argparse.Namespace) -> int:
    document = daemon(options).get("queue", options.id)
    print(json.dumps(document, indent=2) if options.json else render.message(document))
    return os.EX_OK


def headers(options: argparse.Namespace) -> int:
    return _write(daemon(options).get_raw("queue", options.id, "headers"))


def body(options: argparse.Namespace) -> int:
    return _write(daemon(options).get_raw("queue", options.id, "body"))


def _write(data: bytes) -> int:
    sys.stdout.buffer.write(data.replace(b"\r\n", b"\n"))
    return os.EX_OK


_DONE = {"hold": "held", "release": "released", "retry": "due now", "remove": "removed", "bounce": "given back"}


def act(options: argparse.Namespace) -> int:
    """hold, release, retry, remove or bounce what the arguments select."""
    conditions = ("sender", "recipient", "route", "older_than")
    if not (options.ids or options.all or any(getattr(options, name) for name in conditions)):
        print(
            f"masqmail: say which: queue IDs, or --all, --sender, --recipient, --route, --older-than", file=sys.stderr
        )
        return os.EX_USAGE
    wanted: dict[str, object] = {name: getattr(options, name) for name in conditions if getattr(options, name)}
    if options.ids:
        wanted["ids"] = options.ids
    result: dict[str, Any] = daemon(options).post("queue", options.action, **wanted)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        count = result["messages"]
        print(f"{count} message{'' if count == 1 else 's'} {_DONE[options.action]}")
    for unknown in result.get("unknown", []):
        print(f"masqmail: there is no message {unknown} in the queue", file=sys.stderr)
    return os.EX_DATAERR if result.get("unknown") else os.EX_OK
