"""`masqmail fetch`: has the daemon fetch mail now, and shows how far it is."""

import argparse
import json
import os
import sys
from typing import Any

from masqmail.cli import text
from masqmail.cli.settings import daemon

_FINAL = frozenset({"done", "failed"})


def fetch(options: argparse.Namespace) -> int:
    """Waits for the end; 75 when an account failed."""
    if options.message and len(options.names) != 1:
        print("masqmail fetch: --message needs the name of the account that it is in", file=sys.stderr)
        return os.EX_USAGE
    wanted: dict[str, object] = {"accounts": options.names, "messages": options.message, "online": options.online}
    if options.link:
        wanted["link"] = options.link
    ended: list[dict[str, Any]] = []
    board = _Board()
    is_live = not options.json and sys.stdout.isatty()
    for document in daemon(options).follow("fetch", **wanted):
        if document["state"] in _FINAL:
            ended.append(document)
        if is_live:
            board.show(text.clean(document))
        elif not options.json and document["state"] in _FINAL:
            print(line(text.clean(document)), flush=True)
    if options.json:
        print(json.dumps(ended, indent=2))
    elif not ended and sys.stdout.isatty():
        print("There is no such fetch account.")
    return os.EX_TEMPFAIL if any(document["state"] == "failed" for document in ended) else os.EX_OK


def line(document: dict[str, Any]) -> str:
    """One account: how far it is, or how it ended."""
    state = document["state"]
    if state == "fetching":
        share = f"{document['taken']} of {document['expected']}, " if document["expected"] else ""
        return f"{document['account']}: {share}{text.size(document['bytes'])}"
    if state == "failed":
        taken = text.count(document["taken"], "message") + " taken, then " if document["taken"] else ""
        return f"{document['account']}: {text.paint_state(state)}: {taken}{document['reason']}"
    return f"{document['account']}: {document['reason']}"


class _Board:
    """One line for each account on a terminal, written anew whenever there is news of it."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def show(self, document: dict[str, Any]) -> None:
        """Shows the latest word on an account; what is too long for the terminal is cut off."""
        before = len(self._lines)
        self._lines[document["account"]] = line(document)
        up = f"\x1b[{before}A" if before else ""
        shown = "".join(f"\x1b[2K\x1b[?7l{one}\x1b[?7h\n" for one in self._lines.values())
        print(f"{up}\r{shown}", end="", flush=True)
