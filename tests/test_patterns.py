"""What the regular expressions of the program must not contain."""

import re
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parent.parent / "src").rglob("*.py"))
POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)(?:[*+?]|\{[0-9,]+\})\+")


@pytest.mark.parametrize("text", [r"(?:a|b)*+", r"(a)++", r"(a){2,}+"])
def test_a_group_that_is_repeated_possessively_is_recognised(text: str) -> None:
    assert POSSESSIVE_GROUP.search(text)


def test_no_group_is_repeated_possessively() -> None:
    """Python 3.11.2, Debian 12's, matches such groups wrongly; `(?>(?:…)*)` means the same and works."""
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if POSSESSIVE_GROUP.search(line)
    ]
    assert found == []
