"""Reads the configuration for a command; what is wrong with it becomes lines for a person.

The modules of `masqmail.config` are imported where they are needed: reading the whole configuration takes longer
than most commands.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masqmail.config.faults import Fault
    from masqmail.config.model import Configuration
    from masqmail.config.surroundings import Surroundings


class ConfigurationFaulty(Exception):
    """The configuration cannot be used; each of `faults` is a line for a person."""

    def __init__(self, faults: "Sequence[Fault]") -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


def load_named(config: str, surroundings: "Surroundings | None" = None) -> "Configuration":
    """The configuration in this file; without a name that of MASQMAIL_CONFIG, or at its default place."""
    from pathlib import Path

    from masqmail.config.load import ConfigError, Surroundings, load

    try:
        return load(Path(config).absolute() if config else None, surroundings or Surroundings.of_this_process())
    except ConfigError as error:
        raise ConfigurationFaulty(error.faults) from error


def load_checked(config: str, surroundings: "Surroundings") -> "Configuration":
    """The same with the files it names looked at too, as a daemon needs it."""
    from masqmail.config.check import examine

    found = load_named(config, surroundings)
    if faults := examine(found, surroundings).faults:
        raise ConfigurationFaulty(faults)
    return found
