"""Old configurations to import, and what becomes of them, also where the program cannot do all of it yet."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masqmail.config.faults import Faults
from masqmail.config.load import ConfigError
from masqmail.config.model import Configuration
from masqmail.config.reader import Reader
from masqmail.config.sections import assemble, header_of
from masqmail.config.unsupported import refuse_unsupported
from masqmail.daemon.plan import plan_for, supposed_links
from masqmail.daemon.wiring import directory_of
from masqmail.importing.dialect import Dialect
from masqmail.importing.kinds import find_kind, read_configuration
from masqmail.importing.migration import Outcome
from masqmail.importing.tree import import_masqmail
from support.configuration import AS_ROOT, FILE, configuration

TREES = Path(__file__).parent.parent / "importing/trees"
MAIN = "/etc/masqmail/masqmail.conf"
NOT_YET = "is not supported yet in this version"


class MemoryFiles:
    """Old files that are texts."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def read(self, path: str) -> str | None:
        return self._texts.get(path)


def import_texts(main: str, dialect: str = "", **files: str) -> Outcome:
    """What becomes of a main file and of route and get files: `a_route` is /etc/masqmail/a.route."""
    texts = {f"/etc/masqmail/{name.replace('_', '.')}": text for name, text in files.items()}
    return import_masqmail(MAIN, MemoryFiles({MAIN: main, **texts}), Dialect(dialect) if dialect else None)


def import_tree(name: str) -> Outcome:
    found = find_kind(TREES / name)
    assert found is not None
    return read_configuration(found)


def document(outcome: Outcome) -> dict[str, Any]:
    return tomllib.loads(outcome.toml)


def lines_about(outcome: Outcome, word: str) -> list[str]:
    """The lines of the report that name this."""
    return [str(note) for note in outcome.notes if word in str(note)]


def faults_of(outcome: Outcome) -> list[str]:
    """What our loader has against the outcome."""
    try:
        configuration(outcome.toml)
    except ConfigError as error:
        return [str(fault) for fault in error.faults]
    return []


def supported_part(outcome: Outcome) -> Configuration:
    """The configuration without what this version cannot do yet."""
    content, faults = document(outcome), Faults(str(FILE), outcome.toml)
    refuse_unsupported(content, faults)
    reader = Reader(faults, FILE.parent, AS_ROOT.home, header_of)
    return assemble(content, reader, AS_ROOT, folder=FILE.parent, path=FILE)


def explained(outcome: Outcome, address: str, sender: str, *up: str) -> dict[str, Any]:
    """What `masqmail explain` says about an address while these links are up."""
    found = supported_part(outcome)
    links = supposed_links(found, [link for link in up if link in found.links])
    return plan_for(address, sender, directory_of(found), links, {})


def way_of(outcome: Outcome, address: str, sender: str, *up: str) -> tuple[str, str | None]:
    """The action and the route of `explained`; whether a local user exists is not asked."""
    plan = explained(outcome, address, sender, *up)
    if plan["local"]:
        return "deliver-local", None
    [step] = plan["plan"]
    return step["action"], step["route"]
