"""Old globs as ours."""

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.importing.globs import common, common_pattern, covers, spread
from masqmail.routing.pattern import glob

SPREAD = [
    ("a*b?", ("a*b?",), False),
    ("[ab]c", ("ac", "bc"), False),
    ("x[0-2]", ("x0", "x1", "x2"), False),
    ("[!a]b", ("?b",), True),
    ("a[*]", ("a?",), True),
    (r"a\.b", ("a.b",), False),
    (r"a\*", ("a?",), True),
    ("[ab", ("[ab",), False),
    ("", ("",), False),
]


@pytest.mark.parametrize(("old", "ours", "is_wider"), SPREAD)
def test_brackets_become_a_pattern_for_each_letter(old: str, ours: tuple[str, ...], is_wider: bool) -> None:
    assert spread(old) == (ours, is_wider)


COMMON = [
    ("jane", "j*", ("jane",)),
    ("jane", "f*", ()),
    ("*", "a?c", ("a?c",)),
    ("a*", "*b", ("a*b",)),
    ("*.home.example", "*.example", ("*.home.example",)),
]


@pytest.mark.parametrize(("first", "second", "expected"), COMMON)
def test_what_two_globs_have_in_common(first: str, second: str, expected: tuple[str, ...]) -> None:
    assert sorted(common(first, second)) == sorted(expected)


GLOBS = st.text(alphabet="ab*?", max_size=5)
WORDS = st.text(alphabet="ab", max_size=6)


@given(GLOBS, GLOBS, WORDS)
def test_common_globs_match_exactly_what_both_match(first: str, second: str, word: str) -> None:
    both = bool(glob(first)(word)) and bool(glob(second)(word))
    assert any(glob(found)(word) for found in common(first, second)) is both


@given(GLOBS, GLOBS, WORDS)
def test_a_glob_that_covers_another_matches_all_that_it_does(wide: str, narrow: str, word: str) -> None:
    if covers(wide, narrow) and glob(narrow)(word):
        assert glob(wide)(word)


@given(st.text(alphabet="ab*?[]!-^", max_size=7), WORDS)
def test_our_patterns_match_at_least_what_the_old_glob_did(old: str, word: str) -> None:
    patterns, is_wider = spread(old)
    was = re.fullmatch(fnmatch.translate(old.replace("[^", "[!")), word) is not None
    now = any(glob(pattern)(word) for pattern in patterns)
    assert now or not was
    assert is_wider or now == was


PATTERNS = [
    ("jane", "j*@*", ("jane",)),
    ("jane", "*@a.example", ("jane@a.example",)),
    ("<>", "*@*", ()),
    ("<>", "<>", ("<>",)),
    ("*@*.example", "*@b.EXAMPLE", ("*@b.example",)),
    ("*", "<>", ("<>",)),
]


@pytest.mark.parametrize(("first", "second", "expected"), PATTERNS)
def test_what_two_address_patterns_have_in_common(first: str, second: str, expected: tuple[str, ...]) -> None:
    assert common_pattern(first, second) == expected
