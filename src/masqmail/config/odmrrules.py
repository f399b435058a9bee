"""What must be true of routes whose mail its user fetches: `deliver = "odmr"`."""

from masqmail.config.faults import Faults, key_text, quote
from masqmail.config.model import Configuration
from masqmail.config.routes import RouteSection
from masqmail.routing.link import INTERNET
from masqmail.routing.route import Way

#: Settings that are about a connection of our own making.
_NO_USE = ("tls", "tls_fingerprint", "tls_ca", "bounce_on_connect_error")


def check_odmr(configuration: Configuration, faults: Faults) -> None:
    """Notes every broken rule."""
    seen: dict[str, str] = {}
    for route in configuration.routes.values():
        path = ("routes", route.name)
        if faults.at(*path, "deliver") or faults.at(*path, "for"):
            continue
        if route.way is not Way.ODMR:
            if route.for_ is not None:
                wrong = f"{key_text(path)}.for is about who fetches the mail"
                faults.add((*path, "for"), wrong, 'take it out, or write deliver = "odmr"')
            continue
        _check_user(route, seen, faults)
        _check_domains(route, faults)
        _check_connection(route, faults)


def _check_user(route: RouteSection, seen: dict[str, str], faults: Faults) -> None:
    """One route has all mail of a user, so that one ATRN gets it."""
    path = ("routes", route.name)
    if not route.for_:
        wrong = f'{key_text(path)}.deliver = "odmr", and nobody is named who fetches the mail'
        faults.add((*path, "deliver"), wrong, 'write for = "NAME" with one of the users of [smtp]')
        return
    other = seen.setdefault(route.for_, route.name)
    if other != route.name:
        wrong = f"{key_text(path)} is for {quote(route.for_)}, and so is {key_text(('routes', other))}"
        faults.add((*path, "for"), wrong, "write the recipients of both into one route")


def _check_domains(route: RouteSection, faults: Faults) -> None:
    """The patterns say which domains are the user's: each must name one."""
    path = ("routes", route.name, "recipients")
    if faults.at(*path):
        return
    here = key_text(path)
    if not route.recipients:
        faults.add(path, f"{here} is empty, so that all mail would wait", 'write it like ["*@customer.example"]')
    for pattern in route.recipients:
        local_part, at, domain = pattern.rpartition("@")
        if local_part != "*" or not at or not domain.strip("*?."):
            wrong = f"{here} has {quote(pattern)}, which is not about the whole of a domain"
            faults.add(path, wrong, 'write it like "*@customer.example"')


def _check_connection(route: RouteSection, faults: Faults) -> None:
    path = ("routes", route.name)
    here = key_text(path)
    if route.links != (INTERNET,) and not faults.at(*path, "links"):
        wrong = f"{here}.links has no use: the mail waits until it is fetched"
        faults.add((*path, "links"), wrong, "take it out")
    for key in _NO_USE:
        if getattr(route, key):
            wrong = f"{here}.{key} has no use: the connection is the one over which the user has logged in"
            faults.add((*path, key), wrong, "take it out")
