"""What `masqmail` does besides the queue: serve, check, status, links, flush, explain, log, demo, passwd."""

import argparse
import getpass
import json
import os
import sys
from typing import Any

from masqmail.cli import show as render
from masqmail.cli import text
from masqmail.cli.client import NotRunning
from masqmail.cli.settings import ConfigurationFaulty, checked_configuration, configuration, daemon
from masqmail.config.check import examine
from masqmail.config.model import Configuration
from masqmail.config.surroundings import Surroundings


def serve(options: argparse.Namespace) -> int:
    """Runs the daemon until SIGTERM or SIGINT."""
    from masqmail.daemon.serve import serve as run

    surroundings = Surroundings.of_this_process()  # before root is given up

    def load() -> Configuration:
        return checked_configuration(options, surroundings)

    try:
        return run(load(), load)
    except ConfigurationFaulty as faulty:
        return _report(faulty)


def check(options: argparse.Namespace) -> int:
    """Prints every fault of the configuration, then advice; `--show` the effective settings."""
    from masqmail.config.show import show

    surroundings = Surroundings.of_this_process()
    try:
        found = configuration(options, surroundings)
    except ConfigurationFaulty as faulty:
        return _report(faulty)
    if options.show:
        print(show(found), end="")
        return os.EX_OK
    findings = examine(found, surroundings)
    for line in [*findings.faults, *findings.advice]:
        print(line, file=sys.stderr)
    if findings.faults:
        return os.EX_CONFIG
    print(f"{found.path or 'the defaults'}: no faults")
    return os.EX_OK


def _report(faulty: ConfigurationFaulty) -> int:
    for fault in faulty.faults:
        print(fault, file=sys.stderr)
    return os.EX_CONFIG


def status(options: argparse.Namespace) -> int:
    document = daemon(options).get("status")
    print(json.dumps(document, indent=2) if options.json else render.status(document))
    return os.EX_OK


def link_list(options: argparse.Namespace) -> int:
    document = daemon(options).get("link")
    print(json.dumps(document, indent=2) if options.json else render.links(document))
    return os.EX_OK


def link_set(options: argparse.Namespace) -> int:
    """Declares a link up or down, or gives it back to its detector."""
    document = daemon(options).post("link", options.name, state=options.state)
    print(json.dumps(document, indent=2) if options.json else render.links([document]))
    return os.EX_OK


def log(options: argparse.Namespace) -> int:
    document = daemon(options).get("log", id=options.id, limit=str(options.limit))
    print(json.dumps(document, indent=2) if options.json else render.history(document))
    return os.EX_OK if document or not options.id else os.EX_DATAERR


def flush(options: argparse.Namespace) -> int:
    """Tries everything that can go; with `--wait` shows how far it is, and fails when something still waits."""
    wanted: dict[str, object] = {"wait": options.wait}
    for name in ("link", "route", "assume_up"):
        if getattr(options, name):
            wanted[name] = getattr(options, name)
    last: dict[str, Any] = {}
    for document in daemon(options).follow("flush", **wanted):
        last = document
        if not options.json and options.wait and sys.stdout.isatty():
            print(f"\r{document['delivered']} delivered, {document['waiting']} waiting \x1b[K", end="", flush=True)
    if options.json:
        print(json.dumps(last, indent=2))
    elif options.wait:
        print(("\r" if sys.stdout.isatty() else "") + f"{last['delivered']} delivered, {last['waiting']} waiting")
    return os.EX_OK


def explain(options: argparse.Namespace) -> int:
    """A dry run: asks the daemon for its verdicts, or works it out alone when none runs or links are given."""
    document = None
    if not options.link:
        try:
            document = daemon(options).get("explain", address=options.address, sender=options.sender)
        except NotRunning:
            document = None
    if document is None:
        from masqmail.daemon.plan import plan_alone
        from masqmail.daemon.wiring import directory_of

        try:
            found = configuration(options)
        except ConfigurationFaulty as faulty:
            return _report(faulty)
        try:
            document = plan_alone(found, directory_of(found), options.address, options.sender, options.link)
        except ValueError as error:
            print(f"masqmail: {error}", file=sys.stderr)
            return os.EX_USAGE
    print(json.dumps(document, indent=2) if options.json else render.explanation(document))
    return os.EX_OK


def passwd(options: argparse.Namespace) -> int:
    """Adds or changes one line of the `[smtp] users` file."""
    from masqmail.cli.passwords import set_password

    found = configuration(options)
    if found.smtp.users is None:
        print("masqmail: there is no `users` file in [smtp]; name one there first", file=sys.stderr)
        return os.EX_CONFIG
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password for {options.user}: ")
        if getpass.getpass("Once more: ") != password:
            print("masqmail: the two passwords differ", file=sys.stderr)
            return os.EX_DATAERR
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not password:
        print("masqmail: an empty password is no password", file=sys.stderr)
        return os.EX_DATAERR
    set_password(found.smtp.users, options.user, password)
    print(text.paint(f"{options.user} can log in now.", "green"))
    return os.EX_OK


def demo(options: argparse.Namespace) -> int:
    from masqmail.cli.demo import run

    return run(folder=options.folder, stay=options.serve)
