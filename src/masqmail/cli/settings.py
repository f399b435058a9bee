"""Finds the configuration a command was given, and the daemon it belongs to.

Reading the whole configuration takes longer than most commands; what only talks to the daemon finds its socket as
`sendmail` does. The modules of `masqmail.config` are therefore imported where they are needed.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from masqmail.cli.client import Daemon
from masqmail.cli.sendmail_places import find_places

if TYPE_CHECKING:
    from masqmail.config.model import Configuration
    from masqmail.config.surroundings import Surroundings


class ConfigurationFaulty(Exception):
    """The configuration cannot be used; `faults` are lines for a person."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def configuration(options: argparse.Namespace, surroundings: "Surroundings | None" = None) -> "Configuration":
    """The configuration named by `--config`, by MASQMAIL_CONFIG, or at its default place."""
    from masqmail.config.load import ConfigError, Surroundings, load

    try:
        return load(
            Path(options.config).absolute() if options.config else None,
            surroundings or Surroundings.of_this_process(),
        )
    except ConfigError as error:
        raise ConfigurationFaulty([str(fault) for fault in error.faults]) from error


def checked_configuration(options: argparse.Namespace, surroundings: "Surroundings") -> "Configuration":
    """The same with the files it names looked at too, as a daemon needs it."""
    from masqmail.config.check import examine

    found = configuration(options, surroundings)
    if faults := examine(found, surroundings).faults:
        raise ConfigurationFaulty([str(fault) for fault in faults])
    return found


def daemon(options: argparse.Namespace) -> Daemon:
    """The daemon of that configuration; without one of the user's own, the system's if it runs."""
    try:
        places = find_places(options.config or "")
    except OSError:
        configuration(options)  # says what is wrong with it
        raise
    running = (place for place in places if os.path.exists(place.control))
    return Daemon(next(running, places[0]).control)
