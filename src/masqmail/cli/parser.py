"""Every command of `masqmail` with its options: for `main`, the reference page and completion."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from masqmail import __version__
from masqmail.cli import commands as general
from masqmail.cli import fetch_command, queue_commands

Handler = Callable[[argparse.Namespace], int]
_Commands = Any  # what add_subparsers returns has no public type


class _Parser(argparse.ArgumentParser):
    """An argument parser that speaks sysexits."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options, for `main`, the man page and completion."""
    parser = _Parser(
        prog="masqmail", description="The mail server for hosts and networks that are not always online."
    )
    parser.set_defaults(handler=None)
    parser.add_argument("-v", action="store_true", help=argparse.SUPPRESS)  # a habit from other programs
    parser.add_argument("--version", action="version", version=f"MasqMail {__version__}")
    _add_everywhere(parser, config=None, json=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, handler: Handler, what: str, under: _Commands = commands) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = under.add_parser(name, help=what, description=what)
        added.set_defaults(handler=handler)
        _add_everywhere(added, config=argparse.SUPPRESS, json=argparse.SUPPRESS)  # keeps what stood before it
        return added

    _add_running(command)
    _add_queue(command)
    _add_links(command)
    return parser


def _add_everywhere(parser: argparse.ArgumentParser, *, config: object, json: object) -> None:
    """The options of every command, with their defaults."""
    parser.add_argument("--config", "-C", metavar="FILE", default=config, help="read this configuration file")
    parser.add_argument("--json", action="store_true", default=json, help="one JSON document for programs")


def _given(text: str) -> str:
    """An argument with something in it: one from a variable that is not set must not mean "all of them"."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; is a variable not set?")
    return text


_Add = Callable[..., argparse.ArgumentParser]


def _add_running(command: _Add) -> None:
    command("serve", general.serve, "run the daemon in the foreground")
    check = command("check", general.check, "read the configuration and print every fault in it")
    check.add_argument("--show", action="store_true", help="print the effective settings, secrets hidden")
    check.add_argument("--connect", action="store_true", help="also log in at each provider, and out again")
    command("status", general.status, "links, routes and queue, each with a reason")
    passwd = command("passwd", general.passwd, "set the password of somebody who logs in to our SMTP server")
    passwd.add_argument("user", type=_given, metavar="USER")
    imported = command("import", general.import_, "turn the configuration and queue of another program into ours")
    imported.add_argument("path", metavar="PATH", help="a main file, or the folder it is in")
    imported.add_argument("--output", metavar="FILE", help="write the new file here, and secrets beside it")
    imported.add_argument("--queue", metavar="DIR", help="hand over what waits in this old spool folder")
    imported.add_argument("--dialect", choices=("0.2", "0.3", "1.0"), help="read it as this version of MasqMail")
    demo = command("demo", general.demo, "a guided tour in a scratch folder: no root, no network")
    demo.add_argument("--serve", action="store_true", help="stay in the foreground and let me type")
    demo.add_argument("--folder", metavar="FOLDER", help="use this folder and keep it")
    log = command("log", general.log, "what happened to a message, or lately")
    log.add_argument("id", nargs="?", type=_given, metavar="ID")
    log.add_argument("--limit", type=int, default=50, metavar="NUMBER", help="how many lines (50)")


def _add_queue(command: _Add) -> None:
    queue = command("queue", queue_commands.listing, "what waits, since when, and for what")
    verbs = queue.add_subparsers(title="commands", metavar="COMMAND")
    command("list", queue_commands.listing, "what waits, since when, and for what", verbs)
    for name, handler, what in (
        ("show", queue_commands.show, "one message: every recipient, every attempt, and why it is where it is"),
        ("headers", queue_commands.headers, "the header section of one message"),
        ("body", queue_commands.body, "the body of one message"),
    ):
        command(name, handler, what, verbs).add_argument("id", type=_given, metavar="ID")
    for name, what in (
        ("hold", "keep messages until they are released"),
        ("release", "let held messages go on"),
        ("retry", "make messages due now"),
        ("remove", "forget messages without a report"),
        ("bounce", "give messages back to their senders"),
    ):
        action = command(name, queue_commands.act, what, verbs)
        action.set_defaults(action=name)
        action.add_argument("ids", nargs="*", type=_given, metavar="ID")
        action.add_argument("--all", action="store_true", help="every message")
        action.add_argument("--sender", type=_given, metavar="GLOB", help="only from this reverse-path")
        action.add_argument("--recipient", type=_given, metavar="GLOB", help="only to this address")
        action.add_argument("--route", type=_given, metavar="NAME", help="only what would take this route")
        action.add_argument("--older-than", type=_given, metavar="TIME", help="only what came longer ago, as 4h")


def _add_links(command: _Add) -> None:
    flush = command("flush", general.flush, "try everything that can go, now")
    flush.add_argument("--link", type=_given, metavar="NAME", help="only over routes of this link")
    flush.add_argument("--route", type=_given, metavar="NAME", help="only over this route")
    flush.add_argument("--wait", action="store_true", help="wait until it was tried, and show progress")
    what = "treat this link as up until all that waits for it was tried"
    flush.add_argument("--assume-up", type=_given, metavar="LINK", help=what)
    fetch = command("fetch", fetch_command.fetch, "fetch mail now, from all accounts or those named")
    fetch.add_argument("names", nargs="*", type=_given, metavar="NAME")
    what = "only this one, which was left for its size"
    fetch.add_argument("--message", action="append", type=_given, default=[], metavar="ID", help=what)
    fetch.add_argument("--link", type=_given, metavar="NAME", help="only the accounts of this link")
    fetch.add_argument("--online", action="store_true", help="only what has a link that is up and is not manual")
    link = command("link", general.link_list, "see links, declare one up or down")
    verbs = link.add_subparsers(title="commands", metavar="COMMAND")
    command("list", general.link_list, "every link and why it is in its state", verbs)
    for name, what in (
        ("up", "declare a link up"),
        ("down", "declare a link down"),
        ("auto", "give a link back to its detector"),
    ):
        verb = command(name, general.link_set, what, verbs)
        verb.set_defaults(state=name)
        verb.add_argument("name", type=_given, metavar="NAME")
    explain = command("explain", general.explain, "what would happen to mail for an address, and why")
    explain.add_argument("address", metavar="ADDRESS")
    what = "the reverse-path (yourself)"
    explain.add_argument("--from", dest="sender", type=_given, metavar="SENDER", help=what)
    what = "suppose that exactly these links are up"
    explain.add_argument("--link", action="append", type=_given, default=[], metavar="NAME", help=what)
