"""The `masqmail` command: one sub-command per thing a person wants to do or know.

Each handler takes the parsed arguments and returns a sysexits code. Modules that only one command needs are
imported in its handler, so that `masqmail queue` starts fast.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from masqmail import __version__
from masqmail.cli.client import NotRunning, Refused

Handler = Callable[[argparse.Namespace], int]
_Commands = Any  # what add_subparsers returns has no public type


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.handler is None:
        parser.print_help()
        return os.EX_USAGE
    try:
        handler: Handler = options.handler
        return handler(options)
    except NotRunning as error:
        print(f"masqmail: {error}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    except Refused as error:
        print(f"masqmail: {error}", file=sys.stderr)
        return _REFUSALS.get(error.status, os.EX_TEMPFAIL)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # whoever read us has gone, as `| head` does; nothing is left to say, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return os.EX_OK


_REFUSALS = {400: os.EX_USAGE, 403: os.EX_NOPERM, 404: os.EX_DATAERR, 409: os.EX_TEMPFAIL}


def mailq() -> int:
    """The classic name for `masqmail queue list`."""
    return main(["queue", "list", *sys.argv[1:]])


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options, for `main`, the man page and completion."""
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument(
        "--config", "-C", metavar="FILE", default=argparse.SUPPRESS, help="read this configuration file"
    )
    everywhere.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="one JSON document for programs"
    )
    parser = argparse.ArgumentParser(
        prog="masqmail",
        parents=[everywhere],
        description="The mail server for hosts and networks that are not always online.",
    )
    parser.add_argument("--version", action="version", version=f"MasqMail {__version__}")
    parser.set_defaults(handler=None, config=None, json=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, handler: Handler, text: str, under: _Commands = commands) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = under.add_parser(name, help=text, description=text, parents=[everywhere])
        added.set_defaults(handler=handler)
        return added

    _add_running(command)
    _add_queue(command)
    _add_links(command)
    return parser


_Add = Callable[..., argparse.ArgumentParser]


def _add_running(command: _Add) -> None:
    from masqmail.cli import commands

    command("serve", commands.serve, "run the daemon in the foreground")
    check = command("check", commands.check, "read the configuration and print every fault in it")
    check.add_argument("--show", action="store_true", help="print the effective settings, secrets hidden")
    command("status", commands.status, "links, routes and queue, each with a reason")
    passwd = command("passwd", commands.passwd, "set the password of somebody who logs in to our SMTP server")
    passwd.add_argument("user")
    demo = command("demo", commands.demo, "a guided tour in a scratch folder: no root, no network")
    demo.add_argument("--serve", action="store_true", help="stay in the foreground and let me type")
    demo.add_argument("--folder", help="use this folder and keep it")
    log = command("log", commands.log, "what happened to a message, or lately")
    log.add_argument("id", nargs="?", default="")
    log.add_argument("--limit", type=int, default=50, help="how many lines (50)")


def _add_queue(command: _Add) -> None:
    from masqmail.cli import queue_commands

    queue = command("queue", queue_commands.listing, "what waits, since when, and for what")
    verbs = queue.add_subparsers(title="commands", metavar="COMMAND")
    command("list", queue_commands.listing, "what waits, since when, and for what", verbs)
    for name, handler, text in (
        ("show", queue_commands.show, "one message: every recipient, every attempt, and why it is where it is"),
        ("headers", queue_commands.headers, "the header section of one message"),
        ("body", queue_commands.body, "the body of one message"),
    ):
        command(name, handler, text, verbs).add_argument("id", metavar="ID")
    for name, text in (
        ("hold", "keep messages until they are released"),
        ("release", "let held messages go on"),
        ("retry", "make messages due now"),
        ("remove", "forget messages without a report"),
        ("bounce", "give messages back to their senders"),
    ):
        action = command(name, queue_commands.act, text, verbs)
        action.set_defaults(action=name)
        action.add_argument("ids", nargs="*", metavar="ID")
        action.add_argument("--all", action="store_true", help="every message")
        action.add_argument("--sender", default="", metavar="GLOB", help="only from this reverse-path")
        action.add_argument("--recipient", default="", metavar="GLOB", help="only to this address")
        action.add_argument("--route", default="", metavar="NAME", help="only what would take this route")
        action.add_argument("--older-than", default="", metavar="TIME", help='only what came before that, as "4h"')


def _add_links(command: _Add) -> None:
    from masqmail.cli import commands

    flush = command("flush", commands.flush, "try everything that can go, now")
    flush.add_argument("--link", default="", metavar="NAME", help="only over routes of this link")
    flush.add_argument("--route", default="", metavar="NAME", help="only over this route")
    flush.add_argument("--wait", action="store_true", help="wait until it was tried, and show progress")
    flush.add_argument("--assume-up", default="", metavar="LINK", help=argparse.SUPPRESS)  # sendmail -qo
    link = command("link", commands.link_list, "see links, declare one up or down")
    verbs = link.add_subparsers(title="commands", metavar="COMMAND")
    command("list", commands.link_list, "every link and why it is in its state", verbs)
    for name, text in (
        ("up", "declare a link up"),
        ("down", "declare a link down"),
        ("auto", "give a link back to its detector"),
    ):
        verb = command(name, commands.link_set, text, verbs)
        verb.set_defaults(state=name)
        verb.add_argument("name")
    explain = command("explain", commands.explain, "what would happen to mail for an address, and why")
    explain.add_argument("address")
    explain.add_argument("--from", dest="sender", default="", metavar="SENDER", help="the reverse-path")
    explain.add_argument(
        "--link", action="append", default=[], metavar="NAME", help="suppose that exactly these links are up"
    )


if __name__ == "__main__":
    sys.exit(main())
