"""What the documentation promises and this version cannot do yet: refused by name, never silently ignored.

A setting that asks for nothing (`false`, an empty list or text) is accepted: it gets what it asks for.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from masqmail.config.faults import Faults, key_text, one_of, quote
from masqmail.config.model import DETECTOR_OPTIONS
from masqmail.config.routes import Mechanism

#: Stands for any name in the paths below.
ANY = "*"

#: Settings and sections that may not ask for anything.
KEYS: tuple[tuple[str, ...], ...] = (
    ("web",),
    ("links", ANY, "policy"),
    ("routes", ANY, "token_command"),
    ("routes", ANY, "dkim"),
)

#: Those of them that are sections.
SECTIONS = {("web",), ("links", ANY, "policy"), ("routes", ANY, "dkim")}

_NOT_YET = "is not supported yet in this version"
_DETECTORS = tuple(DETECTOR_OPTIONS)

#: Words that may not be the value, or among the values, of a setting; and what to write instead.
WORDS: Mapping[tuple[str, ...], tuple[frozenset[str], str]] = {
    ("smtp", "users"): (frozenset({"pam"}), "write the path of a file made by `masqmail passwd`"),
    ("links", ANY, "detect"): (
        frozenset({"networkmanager", "probe"}),
        f"write {one_of(_DETECTORS)}",
    ),
    ("routes", ANY, "auth"): (
        frozenset({"scram-sha-256", "scram-sha-1", "xoauth2", "oauthbearer"}),
        f"write {one_of(tuple(mechanism.value for mechanism in Mechanism))}",
    ),
}


def refuse_unsupported(document: dict[str, Any], faults: Faults) -> None:
    """Takes everything unsupported out of a document, with a fault for each thing that asks for something."""
    for path in KEYS:
        for table, place in _find(document, path):
            if table.pop(place[-1]):
                header = f"[{key_text(place)}]" if path in SECTIONS else key_text(place)
                faults.add(place, f"{header} {_NOT_YET}", "take it out")
    for path, (words, instead) in WORDS.items():
        for table, place in _find(document, path):
            _refuse_words(table, place, words, instead, faults)
    for table, place in _find(document, ("queue", "store")):
        store = table["store"]
        if isinstance(store, str) and store.startswith(("postgresql:", "postgres:")):
            del table["store"]  # the URL may hold a password, so it is not shown
            faults.add(place, f'queue.store = "postgresql:…" {_NOT_YET}', 'write "sqlite"')


def _find(document: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Every table that has the last key of a path, with the full path; `ANY` is replaced by the names found."""
    tables: list[tuple[dict[str, Any], tuple[str, ...]]] = [(document, ())]
    for part in path[:-1]:
        tables = [
            (table[name], (*place, name))
            for table, place in tables
            for name in (table if part == ANY else [part])
            if isinstance(table.get(name), dict)
        ]
    yield from ((table, (*place, path[-1])) for table, place in tables if path[-1] in table)


def _refuse_words(
    table: dict[str, Any], place: tuple[str, ...], words: frozenset[str], instead: str, faults: Faults
) -> None:
    """Takes unsupported words out of a value or list of values."""
    value = table[place[-1]]
    entries = value if isinstance(value, list) else [value]
    refused = [entry for entry in entries if isinstance(entry, str) and entry in words]
    for word in refused:
        faults.add(place, f"{key_text(place)} = {quote(word)} {_NOT_YET}", instead)
    if refused and isinstance(value, list):
        table[place[-1]] = [entry for entry in entries if entry not in refused]
    elif refused:
        del table[place[-1]]
