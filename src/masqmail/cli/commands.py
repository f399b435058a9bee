"""What `masqmail` does besides the queue: serve, check, status, links, flush, explain, log, demo, passwd, import.

What only some of them need is imported where it is used: most of them should be done before one could blink.
"""

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from masqmail.cli import show as render
from masqmail.cli import text
from masqmail.cli.client import NotRunning, Refused
from masqmail.cli.configuration import ConfigurationFaulty
from masqmail.cli.settings import configuration, daemon

if TYPE_CHECKING:
    from masqmail.config.model import Configuration
    from masqmail.daemon.tryout import Visit
    from masqmail.routing.link import Verdict


def serve(options: argparse.Namespace) -> int:
    """Runs the daemon until SIGTERM or SIGINT."""
    from masqmail.cli.serve import serve as run

    return run(options.config or "")


def check(options: argparse.Namespace) -> int:
    """Prints every fault of the configuration, then advice; `--show` the effective settings.

    `--connect` also logs in at each provider.
    """
    from dataclasses import asdict

    from masqmail.config.check import examine
    from masqmail.config.show import document, show
    from masqmail.config.surroundings import Surroundings

    surroundings = Surroundings.of_this_process()
    try:
        found = configuration(options, surroundings)
    except ConfigurationFaulty as faulty:
        if not options.json or options.show:
            raise
        print(json.dumps({"faults": [asdict(fault) for fault in faulty.faults], "advice": []}, indent=2))
        return os.EX_CONFIG
    if options.show:
        print(json.dumps(document(found), indent=2) + "\n" if options.json else show(found), end="")
        return os.EX_OK
    findings = examine(found, surroundings)
    visits = _visit_providers(found) if options.connect and not findings.faults else []
    if options.json:
        listed: dict[str, Any] = {"faults": findings.faults, "advice": findings.advice}
        if options.connect:
            listed["connections"] = visits
        print(json.dumps({name: [asdict(item) for item in items] for name, items in listed.items()}, indent=2))
    else:
        for fault in findings.faults:
            print(fault, file=sys.stderr)
        for advice in findings.advice:
            print(f"{advice} (advice)", file=sys.stderr)
    if findings.faults:
        return os.EX_CONFIG
    if not options.json:
        print(f"{found.path or 'the defaults, as there is no file'}: no faults")
        for visit in visits:
            print(render.visit(text.clean(asdict(visit))))
    return os.EX_UNAVAILABLE if any(visit.reason for visit in visits) else os.EX_OK


def _visit_providers(found: "Configuration") -> "list[Visit]":
    """Logs in at each of them."""
    import logging

    import anyio

    from masqmail.daemon.tryout import try_all

    logging.getLogger("masqmail").addHandler(logging.NullHandler())  # the reasons say what is worth knowing
    return anyio.run(try_all, found)


def status(options: argparse.Namespace) -> int:
    """Links, routes and the queue."""
    document = daemon(options).get("status")
    print(json.dumps(document, indent=2) if options.json else render.status(text.clean(document)))
    return os.EX_OK


def link_list(options: argparse.Namespace) -> int:
    """Every link with the reason for its state."""
    document = daemon(options).get("link")
    print(json.dumps(document, indent=2) if options.json else render.links(text.clean(document)))
    return os.EX_OK


def link_set(options: argparse.Namespace) -> int:
    """Declares a link up or down, or gives it back to its detector."""
    document = daemon(options).post("link", options.name, state=options.state)
    print(json.dumps(document, indent=2) if options.json else render.links([text.clean(document)]))
    return os.EX_OK


def log(options: argparse.Namespace) -> int:
    """What happened to a message, or lately."""
    document = daemon(options).get("log", id=options.id, limit=str(options.limit))
    print(json.dumps(document, indent=2) if options.json else render.history(text.clean(document)))
    return os.EX_OK


def flush(options: argparse.Namespace) -> int:
    """Tries everything that can go; with `--wait` shows how far it is, and says when something still waits."""
    names = ("link", "route", "assume_up")
    wanted: dict[str, object] = {name: getattr(options, name) for name in names if getattr(options, name)}
    wanted["wait"] = options.wait
    is_live = options.wait and not options.json and sys.stdout.isatty()
    last: dict[str, Any] = {}
    for last in daemon(options).follow("flush", **wanted):
        if is_live:
            print(f"\r{render.progress(last)}\x1b[K", end="", flush=True)
    if options.json:
        print(json.dumps(last, indent=2))
    elif options.wait:
        print(("\r" if is_live else "") + render.progress(last) + ("\x1b[K" if is_live else ""))
    return os.EX_TEMPFAIL if options.wait and last["waiting"] else os.EX_OK


def explain(options: argparse.Namespace) -> int:
    """A dry run: the daemon's; our own when none runs, when links are given, or when it may not tell us."""
    sender = options.sender or _own_name()
    document = None
    if not options.link:
        try:
            document = daemon(options).get("explain", address=options.address, sender=sender)
        except NotRunning:
            pass
        except Refused as error:
            if error.status != 403:
                raise
    if document is None:
        try:
            document = _explain_alone(options, sender)
        except ValueError as error:
            print(f"masqmail: {error}", file=sys.stderr)
            return os.EX_DATAERR
    print(json.dumps(document, indent=2) if options.json else render.explanation(text.clean(document)))
    return os.EX_OK


def _explain_alone(options: argparse.Namespace, sender: str) -> dict[str, Any]:
    """Raises `ValueError` for an address that is none and a link there is not."""
    import logging

    from masqmail.daemon.plan import observed_links, plan_for, supposed_links
    from masqmail.daemon.wiring import directory_of
    from masqmail.system.accounts import SystemAccounts

    logging.getLogger("masqmail").addHandler(logging.NullHandler())  # the reasons say what is worth knowing
    found = configuration(options)
    directory, paused = directory_of(found), dict[str, str]()
    if options.link:
        links = supposed_links(found, options.link)
    else:
        try:
            links, paused = _ask_status(options)
            directory.accounts = SystemAccounts()  # a daemon that does not obey us is not our own
        except NotRunning:
            links = observed_links(found)
    return plan_for(options.address, sender, directory, links, paused)


def _ask_status(options: argparse.Namespace) -> "tuple[dict[str, Verdict], dict[str, str]]":
    """The daemon's verdicts on links, and the reason for each route that is paused."""
    from masqmail.daemon.plan import told_links

    document = daemon(options).get("status")
    paused = {route["name"]: route["reason"] for route in document["routes"] if route["state"] == "paused"}
    return told_links(document["links"]), paused


def _own_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def passwd(options: argparse.Namespace) -> int:
    """Adds or changes one line of the `[smtp] users` file."""
    from masqmail.cli.passwords import set_password

    found = configuration(options)
    if found.smtp.users is None:
        print("masqmail: there is no `users` file in [smtp]; name one there first", file=sys.stderr)
        return os.EX_CONFIG
    try:
        set_password(found.smtp.users, options.user, _ask_password(options.user), gid=_daemon_gid(found))
    except ValueError as error:
        print(f"masqmail: {error}", file=sys.stderr)
        return os.EX_DATAERR
    except OSError as error:
        print(f"masqmail: cannot write {found.smtp.users}: {error.strerror}", file=sys.stderr)
        return os.EX_NOPERM if isinstance(error, PermissionError) else os.EX_CANTCREAT
    print(f"{options.user} can log in now")
    return os.EX_OK


def _ask_password(user: str) -> str:
    """From the terminal, twice, or one line of standard input. Raises `ValueError` for what is no password."""
    if sys.stdin.isatty():
        import getpass

        password = getpass.getpass(f"Password for {user}: ")
        if getpass.getpass("Once more: ") != password:
            raise ValueError("the two passwords differ")
    else:
        line = sys.stdin.buffer.readline().removesuffix(b"\n").removesuffix(b"\r")
        try:
            password = line.decode()
        except UnicodeDecodeError:
            raise ValueError("the password is no UTF-8 text") from None
    if not password:
        raise ValueError("an empty password is no password")
    return password


def _daemon_gid(found: "Configuration") -> int:
    """The group that must read what root writes for the daemon; -1 leaves a file's group alone."""
    import grp

    try:
        return grp.getgrnam(found.host.group).gr_gid if os.geteuid() == 0 else -1
    except KeyError:
        return -1


def import_(options: argparse.Namespace) -> int:
    """Turns the configuration and the queue of another program into ours."""
    from masqmail.cli.import_command import run

    return run(options)


def demo(options: argparse.Namespace) -> int:
    """A guided tour in a scratch folder."""
    from masqmail.cli.demo import run

    return run(folder=options.folder, stay=options.serve)
