"""The page of bounds says what the code says."""

import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "limits.md").read_text()
ROWS = re.findall(r"^\| [^|]+ \| ([\d.]+)(?: \w+)? \| `([\w.]+)` \|$", PAGE, re.MULTILINE)


def test_every_row_names_a_constant() -> None:
    assert len(ROWS) == PAGE.count("` |")


@pytest.mark.parametrize(("value", "name"), ROWS, ids=[name for _, name in ROWS])
def test_a_bound_on_the_page_is_the_bound_in_the_code(value: str, name: str) -> None:
    module, _, constant = name.rpartition(".")
    assert str(getattr(import_module(f"masqmail.{module}"), constant)) == value
