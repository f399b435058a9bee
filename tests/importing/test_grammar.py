"""Old files as text: the grammar with its traps, and nothing that breaks it breaks us."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.importing.dialect import Dialect
from masqmail.importing.grammar import read_statements

V02, V03, V10 = Dialect.V02, Dialect.V03, Dialect.V10

READ: list[tuple[str, Dialect, list[tuple[str, str]]]] = [
    ("a = b", V02, [("a", "b")]),
    ("a=b\nc=d", V02, [("a", "b"), ("c", "d")]),
    ("a\n=\nb", V02, [("a", "b")]),
    ("# a = b\n  # c = d\n\nx = y # z", V02, [("x", "y")]),
    ('a = "b c"', V02, [("a", "b c")]),
    ('a = "b # c"', V02, [("a", "b # c")]),
    (r'a = "b \"c\" \\ \n"', V02, [("a", r'b "c" \ n')]),
    ("a = /usr/bin/x -d y", V02, [("a", "/usr/bin/x")]),
    ("b = yes;c = 2", V02, [("b", "yes;c")]),
    ("a = host:25", V02, [("a", "host:25")]),
    ("a = host:25", V10, [("a", "host:25")]),
    ('a = "b;\n c"', V02, [("a", "b; c")]),
    ('a = "b;\n c"', V03, [("a", "b; c")]),
    ('a = "b;\n c"', V10, [("a", "b;\n c")]),
    ('a = "b\nc = d', V02, [("a", "bc = d")]),
    ("a =\nb = c", V02, [("a", "b")]),
    ("a b\nc = d", V10, [("c", "d")]),
    ("a = b\r\nc = d\r\n", V10, [("a", "b"), ("c", "d")]),
    ("", V10, []),
]


@pytest.mark.parametrize(("text", "dialect", "expected"), READ)
def test_a_file_is_read_as_the_old_program_read_it(
    text: str, dialect: Dialect, expected: list[tuple[str, str]]
) -> None:
    found = read_statements(text, dialect).statements
    assert [(statement.name, statement.value) for statement in found] == expected


@pytest.mark.parametrize("dialect", [V02, V03])
def test_what_stands_behind_a_missing_equals_sign_never_counted(dialect: Dialect) -> None:
    reading = read_statements("a = b\nc d\ne = f\n", dialect)
    assert [(statement.name, statement.alive) for statement in reading.statements] == [("a", True), ("e", False)]
    assert len(reading.remarks) == 1
    assert reading.remarks[0].line == 2


REMARKED = [
    ("a = x y", V02, "never read"),
    ("a = b:c", V02, "before 0.2.25"),
    ('a = "b', V02, "closing quote"),
    ("a b", V10, "no = after"),
    ("!", V02, "begins no setting"),
    ("a = " + "x" * 3000, V02, "cut at 2047"),
    ('a = "b\nc"', V03, "line breaks"),
]


@pytest.mark.parametrize(("text", "dialect", "words"), REMARKED)
def test_what_was_read_otherwise_than_meant_is_remarked(text: str, dialect: Dialect, words: str) -> None:
    remark = read_statements(text, dialect).remarks[0]
    assert words in remark.text


def test_no_remark_shows_a_secret() -> None:
    reading = read_statements("auth_secret = my secret\npass = two words\n", V02)
    assert len(reading.remarks) == 2
    assert not any("words" in remark.text or '"secret"' in remark.text for remark in reading.remarks)


def test_statements_know_their_lines() -> None:
    reading = read_statements('# one\na = "b\n\nc"\n\nd = e\n', V10)
    assert [statement.line for statement in reading.statements] == [2, 6]


@given(st.text(alphabet=st.sampled_from(list('ab_.=;:"\\#/ \n\r\t!@ü\0')), max_size=80), st.sampled_from(Dialect))
def test_any_text_is_read(text: str, dialect: Dialect) -> None:
    reading = read_statements(text, dialect)
    lines = text.count("\n") + 1
    assert all(1 <= statement.line <= lines for statement in reading.statements)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), st.text(max_size=20), max_size=5))
def test_quoted_values_come_back_as_they_were(values: dict[str, str]) -> None:
    values = {name: value.replace("\r", "") for name, value in values.items()}
    quoted = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in values.items()}
    text = "".join(f'{name} = "{value}"\n' for name, value in quoted.items())
    found = read_statements(text, V10).statements
    assert {statement.name: statement.value for statement in found} == values
