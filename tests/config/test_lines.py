"""The scanner that finds the lines of keys."""

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masqmail.config.lines import KeyPath, line_of, locate
from masqmail.config.show import toml

SOURCE = '''\
# a comment with [brackets] = "and quotes
top = 1
[host]   # [not.this]
name = "a # b"
list = [
  "one", # ]
  [ "two",
    3 ],
  { x = 1, y = [
    9 ] },
]
last = 1.5

[routes."a b".rewrite]
from = { "john" = "a, b", 'paul' = { x = 1 } } # }
"quoted\\u0041" = 1
text = """
[no.table]
key = 1 \\""" """""
after.dotted . key = true
[ local . users ]
\'\'\'\'\'\' = 1
'''.replace("''''''", "''")

LINES: list[tuple[KeyPath, int]] = [
    (("top",), 2),
    (("host",), 3),
    (("host", "name"), 4),
    (("host", "list"), 5),
    (("host", "list", 0), 6),
    (("host", "list", 1), 7),
    (("host", "list", 1, 0), 7),
    (("host", "list", 1, 1), 8),
    (("host", "list", 2), 9),
    (("host", "list", 2, "x"), 9),
    (("host", "list", 2, "y"), 9),
    (("host", "list", 2, "y", 0), 10),
    (("host", "last"), 12),
    (("routes",), 14),
    (("routes", "a b"), 14),
    (("routes", "a b", "rewrite"), 14),
    (("routes", "a b", "rewrite", "from", "john"), 15),
    (("routes", "a b", "rewrite", "from", "paul", "x"), 15),
    (("routes", "a b", "rewrite", "quotedA"), 16),
    (("routes", "a b", "rewrite", "text"), 17),
    (("routes", "a b", "rewrite", "after", "dotted", "key"), 20),
    (("local",), 21),
    (("local", "users"), 21),
    (("local", "users", ""), 22),
]


def test_the_source_of_these_tests_is_toml() -> None:
    assert set(tomllib.loads(SOURCE)) == {"top", "host", "routes", "local"}


@pytest.mark.parametrize(("path", "line"), LINES, ids=str)
def test_a_key_is_found_on_its_line(path: KeyPath, line: int) -> None:
    assert locate(SOURCE)[path] == line


def test_nothing_is_found_that_is_not_there() -> None:
    rewrite = ("routes", "a b", "rewrite")
    tables = {(*rewrite, "from"), (*rewrite, "from", "paul"), (*rewrite, "after"), (*rewrite, "after", "dotted")}
    assert set(locate(SOURCE)) == {path for path, _ in LINES} | tables


def test_windows_line_ends_count_once() -> None:
    assert locate("[a]\r\nb = 1\r\n\r\nc = 2\r\n") == {("a",): 1, ("a", "b"): 2, ("a", "c"): 4}


def test_a_key_that_is_not_there_has_the_line_of_what_is_around_it() -> None:
    lines = locate("x = 1\n[a]\nb = 2\n")
    assert line_of(lines, ("a", "missing", 3)) == 2
    assert line_of(lines, ("nothing",)) == 1


_VALUES = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def _paths(value: Any, path: KeyPath) -> list[KeyPath]:
    match value:
        case dict():
            return [path] + [found for key, entry in value.items() for found in _paths(entry, (*path, key))]
        case list():
            return [path] + [found for index, entry in enumerate(value) for found in _paths(entry, (*path, index))]
        case _:
            return [path]


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=6), _VALUES, max_size=5))
def test_every_key_of_any_file_is_found_and_no_other(document: dict[str, Any]) -> None:
    source = "\n".join(f"{toml(key)} = {toml(value)}" for key, value in document.items())
    expected = {
        path: number
        for number, (key, value) in enumerate(document.items(), start=1)
        for path in _paths(value, (key,))
    }
    assert locate(source) == expected
