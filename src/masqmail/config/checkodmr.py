"""What `masqmail check` says about routes whose mail its user fetches, beyond what cannot be."""

from pathlib import Path

from masqmail.config.faults import Faults, key_text, quote
from masqmail.config.model import Configuration
from masqmail.routing.route import Conditions, Route, Way
from masqmail.system.userfile import read_users


def advise_on_odmr(configuration: Configuration, advice: Faults) -> None:
    """Notes what is unwise."""
    before: Route | None = None  # the first that is meant for all mail
    for route in configuration.policies:
        if route.way is Way.ODMR:
            _advise_on_user(route, configuration.smtp.users, advice)
            if before is not None:
                wrong = f"{_name(before)} stands before {_name(route)}, and takes its mail while the link is up"
                advice.add(("routes", route.name), wrong, f"write {_name(route)} before it")
        elif before is None and route.conditions == Conditions():
            before = route


def _advise_on_user(route: Route, file: Path | None, advice: Faults) -> None:
    """Who fetches the mail has to log in, which only a user of the file can."""
    if file is None:
        return
    try:
        users = read_users(file)
    except FileNotFoundError:
        users = {}
    except OSError:
        return  # this account may not look
    if route.user not in users:
        wrong = f"{_name(route)}.for is {quote(route.user)}, who is not in {quote(str(file))} and cannot log in"
        advice.add(("routes", route.name, "for"), wrong, f"write: masqmail passwd {route.user}")


def _name(route: Route) -> str:
    return key_text(("routes", route.name))
