"""Finds the configuration a command was given, and the daemon it belongs to.

What only talks to the daemon finds its socket as `sendmail` does, without reading the whole configuration.
"""

import argparse
import os
from typing import TYPE_CHECKING

from masqmail.cli.client import Daemon
from masqmail.cli.configuration import load_named
from masqmail.cli.sendmail_places import find_places

if TYPE_CHECKING:
    from masqmail.config.model import Configuration
    from masqmail.config.surroundings import Surroundings


def configuration(options: argparse.Namespace, surroundings: "Surroundings | None" = None) -> "Configuration":
    """The configuration named by `--config`, by MASQMAIL_CONFIG, or at its default place."""
    return load_named(options.config or "", surroundings)


def daemon(options: argparse.Namespace) -> Daemon:
    """The daemon of that configuration; without one of the user's own, the system's if it runs."""
    try:
        places = find_places(options.config or "")
    except OSError:
        configuration(options)  # says what is wrong with it
        raise
    running = (place for place in places if os.path.exists(place.control))
    return Daemon(next(running, places[0]).control)
