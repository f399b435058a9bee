"""Finds the configuration a command was given, and the daemon it belongs to."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from masqmail.cli.client import Daemon
from masqmail.config.check import examine
from masqmail.config.load import ConfigError, Surroundings, load
from masqmail.config.model import Configuration


class ConfigurationFaulty(Exception):
    """The configuration cannot be used; `faults` are lines for a person."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(faults[0] if faults else "")
        self.faults = faults


def configuration(options: argparse.Namespace, surroundings: Surroundings | None = None) -> Configuration:
    """The configuration named by `--config`, by MASQMAIL_CONFIG, or at its default place."""
    try:
        return load(
            Path(options.config).absolute() if options.config else None,
            surroundings or Surroundings.of_this_process(),
        )
    except ConfigError as error:
        raise ConfigurationFaulty([str(fault) for fault in error.faults]) from error


def checked_configuration(options: argparse.Namespace, surroundings: Surroundings) -> Configuration:
    """The same with the files it names looked at too, as a daemon needs it."""
    found = configuration(options, surroundings)
    if faults := examine(found, surroundings).faults:
        raise ConfigurationFaulty([str(fault) for fault in faults])
    return found


def daemon(options: argparse.Namespace) -> Daemon:
    """The daemon of that configuration; without one of the user's own, the system's."""
    surroundings = Surroundings.of_this_process()
    found = configuration(options, surroundings)
    if found.path is None and not surroundings.is_root and not found.paths.control_socket.exists():
        system = configuration(options, replace(surroundings, is_root=True))
        if system.paths.control_socket.exists():
            return Daemon(system.paths.runtime)
    return Daemon(found.paths.runtime)
