"""The table of standards says what the code says."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "reference" / "rfc.md").read_text()
ROWS = {int(number): state for number, state in re.findall(r"^\| (\d+) \| [^|]+ \| (\w+) \|", TABLE, re.MULTILINE)}


def cited() -> set[int]:
    """Every RFC that the program's code names."""
    files = (ROOT / "src").rglob("*.py")
    return {int(number) for file in files for number in re.findall(r"RFC (\d{3,5})", file.read_text())}


def test_every_rfc_the_code_names_is_in_the_table() -> None:
    assert cited() - ROWS.keys() == set()


def test_what_is_kept_is_cited_where_it_is_kept() -> None:
    kept = {number for number, state in ROWS.items() if state in ("yes", "partial")}
    assert kept - cited() == set()


def test_every_row_has_one_of_four_states() -> None:
    assert set(ROWS.values()) <= {"yes", "partial", "planned", "no"}
    assert len(ROWS) == TABLE.count("\n| ") - 3
