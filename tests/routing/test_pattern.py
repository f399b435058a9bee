"""Patterns match what their table says, in linear time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.routing.pattern import check_pattern, first_match, glob, is_about_domains, matches, name_domain
from masqmail.settings import Pattern
from support.routes import path, patterns

ROWS = [
    # pattern, address, whether it matches
    ("*", "a@x", True),
    ("*", "<>", True),
    ("<>", "<>", True),
    ("<>", "a@x", False),
    ("*@*", "a@x", True),
    ("*@*", "<>", False),
    ("*@*", "a", True),
    ("?*", "<>", False),
    ("*@home.example", "<>", False),
    ("*@home.example", "a@Home.Example", True),
    ("*@HOME.example", "a@home.example", True),
    ("*@home.example", "a@sub.home.example", False),
    ("*@*.home.example", "a@sub.home.example", True),
    ("*@*.home.example", "a@home.example", False),
    ("root", "root@anywhere.example", True),
    ("root", "root", True),
    ("root", "Root@x", False),
    ("root", "groot@x", False),
    ("r??t", "root@x", True),
    ("r??t", "rot@x", False),
    ("a*b*c@x", "aXbYbZc@x", True),
    ("a*b*c@x", "acb@x", False),
    ("a+[x]@x", '"a+[x]"@x', True),
    ("a.b@x", "aXb@x", False),
    ("a@x.y", "a@xzy", False),
    ("a@b@x", '"a@b"@x', True),
    ("*@[192.0.2.*]", "a@[192.0.2.7]", True),
]


@pytest.mark.parametrize(("pattern", "address", "expected"), ROWS)
def test_a_pattern_matches_what_it_means(pattern: str, address: str, expected: bool) -> None:
    assert matches(Pattern(pattern), path(address)) is expected


def test_local_parts_are_matched_without_case_on_request() -> None:
    assert matches(Pattern("ROOT@x"), path("Root@x"), match_case=False)
    assert not matches(Pattern("ROOT@x"), path("Root@x"))


def test_the_first_pattern_that_matches_is_named() -> None:
    assert first_match(patterns("a", "*@x", "*"), path("b@x")) == "*@x"
    assert first_match(patterns("a"), path("b@x")) is None
    assert first_match((), path("b@x")) is None


@pytest.mark.parametrize("text", ["*", "<>", "root", "*@home.example", "a?c@x"])
def test_a_useful_pattern_is_accepted(text: str) -> None:
    assert check_pattern(text) == text


@pytest.mark.parametrize("text", ["", " ", "a b@x", "<a@x>", "@x", "a@", "a\n"])
def test_a_pattern_that_never_matches_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        check_pattern(text)


@pytest.mark.parametrize(
    ("pattern", "domain", "named"),
    [
        ("*@example.org", "Example.ORG", True),
        ("*@Example.org", "example.org", True),
        ("*@*.example.org", "x.example.org", True),
        ("*@*.example.org", "example.org", False),
        ("ann@example.org", "example.org", True),
        ("*@example.?rg", "example.org", True),
        ("*@example.com", "example.org", False),
        ("*", "example.org", False),
        ("*@*", "example.org", False),
        ("*@*.*", "example.org", False),
        ("root", "example.org", False),
        ("<>", "example.org", False),
    ],
)
def test_a_domain_is_named_by_patterns_that_are_not_about_all(pattern: str, domain: str, named: bool) -> None:
    assert name_domain([Pattern(pattern)], domain) is named
    assert name_domain([], domain) is False


def test_a_hostile_glob_takes_linear_time() -> None:
    assert not glob("*a" * 30 + "b")("a" * 5000)


@given(st.text("ab*?", max_size=8), st.text("ab\n", max_size=8))
def test_a_glob_agrees_with_the_plain_regular_expression(text: str, subject: str) -> None:
    plain = "".join({"*": ".*", "?": "."}.get(character, character) for character in text)
    assert bool(glob(text)(subject)) is bool(re.fullmatch(plain, subject, re.DOTALL))


@pytest.mark.parametrize(
    ("some", "expected"),
    [
        ((), True),
        (("*", "<>", "*@home.example", "*@*"), True),
        (("*@home.example", "root"), False),
        (("a*@x",), False),
    ],
)
def test_patterns_about_domains_tell_no_two_mailboxes_of_one_apart(some: tuple[str, ...], expected: bool) -> None:
    assert is_about_domains(map(Pattern, some)) is expected
