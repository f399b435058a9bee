"""What `masqmail check` says about the programs that a configuration names: those that are not there to be run.

Only advice: a program may be installed later, and nothing bounces for one that is missing.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from masqmail.config.faults import Faults, quote
from masqmail.config.lines import KeyPath
from masqmail.config.model import Configuration
from masqmail.delivery.variables import PROGRAM_PATH

#: Settings of a route, a fetch account or a link that hold a command.
_KEYS = ("command", "wrapper", "password_command", "token_command")


def advise_on_programs(configuration: Configuration, advice: Faults) -> None:
    """Notes every program that cannot be started as things are."""
    for key, command in _commands(configuration):
        if wrong := _trouble(command[0], _is_for_mail(key)):
            advice.add(key, wrong, "install it, or write where it is")


def _commands(configuration: Configuration) -> Iterator[tuple[KeyPath, Sequence[str]]]:
    local = configuration.local
    if local.mda:
        yield ("local", "mda"), local.mda
    for name, user in local.users.items():
        if user.mda:
            yield ("local", "users", name, "mda"), user.mda
    sections: dict[KeyPath, object] = {("routes", name): route for name, route in configuration.routes.items()}
    sections |= {("fetch", name): account for name, account in configuration.fetch.items()}
    sections |= {("links", name): link.options for name, link in configuration.links.items()}
    for path, section in sections.items():
        for key in _KEYS:
            if command := getattr(section, key, None):
                yield (*path, key), command


def _is_for_mail(key: KeyPath) -> bool:
    """Whether the program gets a message, and with it the environment that is promised for that."""
    return key[0] == "local" or (key[0] == "routes" and key[-1] == "command")


def _trouble(program: str, is_for_mail: bool) -> str:
    """Why a program cannot be run, or nothing: also when that cannot be said from here."""
    if "${" in program:
        return ""
    if "/" not in program:
        folders = PROGRAM_PATH.split(":") if is_for_mail else [*os.get_exec_path(), *PROGRAM_PATH.split(":")]
        if any(_trouble_with_file(Path(folder, program)) == "" for folder in folders):
            return ""
        where = f" in {PROGRAM_PATH}" if is_for_mail else ""
        return f"there is no program {quote(program)}{where}"
    return _trouble_with_file(Path(program)) if program.startswith("/") else ""


def _trouble_with_file(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"there is no program {quote(str(path))}"
    except OSError:  # this account may not look; the one that runs it may
        return ""
    is_program = stat.S_ISREG(mode) and mode & 0o111
    return "" if is_program else f"{quote(str(path))} is no program that can be run"
