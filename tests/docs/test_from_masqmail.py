"""The page for those who come from the old MasqMail is complete, and claims nothing that no test holds."""

import re
from functools import cache
from pathlib import Path

import pytest

from docs.inventory import FAULTS, INVENTORY
from masqmail.config.reader import settings_of
from masqmail.config.sections import HEADERS
from masqmail.config.unsupported import KEYS, SECTIONS, WORDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/from-masqmail.md").read_text()
MARKS = {"works", "differs", "gone", "not yet"}
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
TESTED = re.compile(r"^ *(?:async )?def (test_\w+)\(", re.MULTILINE)
_SECTIONS = "host|paths|submission|queue|smtp|links|routes|fetch|local|notices|log|web"
SETTING = re.compile(rf'`\[?((?:{_SECTIONS})(?:\.\w+)*)\]?(?: = "([\w-]+)")?`')

Row = tuple[str, ...]


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[Row]:
    """The cells of each row of a section's table."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines[1:]]


ROWS = [(title, row) for title in INVENTORY for row in rows(title)]
FAULT_ROWS = rows("Faults of the original")


def is_there(test: tuple[str, str]) -> bool:
    return test[1] in names_in(test[0])


@cache
def names_in(path: str) -> frozenset[str]:
    file = ROOT / path
    return frozenset(TESTED.findall(file.read_text()) if file.exists() else ())


@cache
def settings() -> frozenset[str]:
    """Every setting that this version has, as `routes.NAME.smarthost`, and its sections."""
    found = set()
    for header, kind in HEADERS.items():
        name = header.partition(",")[0]
        found |= {name, *(f"{name}.{key}" for key in settings_of(kind))}
    return frozenset(found | {"links.NAME.detect"})


def is_refused(setting: str, word: str) -> bool:
    """Whether this version knows the setting and does not take it, or not with this value."""
    names = {".".join(path).replace("*", "NAME"): path for path in KEYS}
    for name, path in names.items():
        if setting == name or (path in SECTIONS and setting.startswith(name + ".")):
            return True
    values = {".".join(path).replace("*", "NAME"): words for path, (words, _) in WORDS.items()}
    return word in values.get(setting, frozenset())


@pytest.mark.parametrize("title", INVENTORY)
def test_every_name_of_the_old_program_has_one_row(title: str) -> None:
    assert [row[0] for row in rows(title)] == list(INVENTORY[title])


def test_every_table_is_in_the_inventory() -> None:
    titles = [title for title in re.findall(r"^## (.*)$", PAGE, re.MULTILINE) if rows(title)]
    assert titles == [*INVENTORY, "Faults of the original"]
    assert all(len(set(names)) == len(names) for names in INVENTORY.values())


@pytest.mark.parametrize(("title", "row"), ROWS, ids=[f"{title}-{row[0]}" for title, row in ROWS])
def test_a_row_says_what_is_so(title: str, row: Row) -> None:
    now, mark, *remarks = row[1:]
    assert mark in MARKS
    named = TEST.findall(" ".join(remarks))
    assert [test for test in named if not is_there(test)] == []
    assert named if mark == "works" else not named
    here = SETTING.findall(now)
    unknown = [setting for setting, word in here if setting not in settings() and not is_refused(setting, word)]
    assert unknown == [], "no such setting"
    if mark == "works":
        assert [setting for setting, word in here if is_refused(setting, word)] == []
    if mark in ("gone", "not yet"):
        assert now != "—" or any(remarks), "say what to use instead"


def test_every_fault_has_one_row_and_a_test() -> None:
    assert [row[0] for row in FAULT_ROWS] == list(FAULTS)
    assert [row[0] for row in FAULT_ROWS if len(row) != 4 or not TEST.findall(row[3])] == []
    assert [test for row in FAULT_ROWS for test in TEST.findall(row[3]) if not is_there(test)] == []


def test_a_test_that_says_which_fault_it_is_about_is_named_at_that_fault() -> None:
    file = "tests/scenarios/test_old_faults.py"
    said = re.findall(r'def (test_\w+)\([^"]*"""(D\d+): ', (ROOT / file).read_text())
    assert len(said) > 10
    tests = {row[0]: TEST.findall(row[3]) for row in FAULT_ROWS}
    assert [pair for pair in said if (file, pair[0]) not in tests[pair[1]]] == []


def test_what_is_refused_is_recognised() -> None:
    assert is_refused("routes.NAME.dkim.domain", "")
    assert not is_refused("routes.NAME.smarthost", "")
    assert not is_there(("tests/docs/test_from_masqmail.py", "test_nothing"))
