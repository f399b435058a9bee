"""Line ends and quoted From lines come out the same, wherever the pieces are cut."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.delivery.text import with_lf, with_quoted_from

LINES = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"From ", b"From", b"F", b">", b" ", b"x"]), max_size=30)
MESSAGES = LINES.map(b"".join)


def cut(message: bytes, cuts: list[int]) -> list[bytes]:
    """The message in pieces, empty ones included."""
    places = [0, *sorted(place % (len(message) + 1) for place in cuts), len(message)]
    return [message[start:end] for start, end in pairwise(places)]


@pytest.mark.parametrize(
    ("message", "result"),
    [
        (b"a\r\nb\r\n", b"a\nb\n"),
        (b"a\nb\rc", b"a\nb\rc"),
        (b"a\r\r\n", b"a\r\n"),
        (b"a\r", b"a\r"),
        (b"", b""),
    ],
)
def test_only_the_cr_of_a_crlf_goes(message: bytes, result: bytes) -> None:
    assert b"".join(with_lf([message])) == result


@given(MESSAGES, st.lists(st.integers(0, 200), max_size=8))
def test_line_ends_do_not_depend_on_the_cuts(message: bytes, cuts: list[int]) -> None:
    assert b"".join(with_lf(cut(message, cuts))) == message.replace(b"\r\n", b"\n")


@pytest.mark.parametrize(
    ("message", "result"),
    [
        (b"From me\n", b">From me\n"),
        (b"a\n>>From me\n", b"a\n>>>From me\n"),
        (b"from me\n From me\nFrom\n", b"from me\n From me\nFrom\n"),
        (b"a From me\n", b"a From me\n"),
    ],
)
def test_from_lines_are_quoted(message: bytes, result: bytes) -> None:
    assert b"".join(with_quoted_from([message])) == result


@given(MESSAGES, st.lists(st.integers(0, 200), max_size=8))
def test_quoting_does_not_depend_on_the_cuts(message: bytes, cuts: list[int]) -> None:
    assert b"".join(with_quoted_from(cut(message, cuts))) == b"".join(with_quoted_from([message]))


@given(MESSAGES, st.lists(st.integers(0, 200), max_size=8))
def test_quoting_is_undone_by_taking_one_bracket(message: bytes, cuts: list[int]) -> None:
    quoted = b"".join(with_quoted_from(cut(message, cuts)))
    assert not re.search(rb"(?m)^From ", quoted)
    assert re.sub(rb"(?m)^>(>*From )", rb"\1", quoted) == message


def test_a_line_of_brackets_is_not_kept_in_memory() -> None:
    pieces = with_quoted_from(iter([b"\n" + b">" * 1000, b">" * 1000, b"From x"]))
    assert [len(piece) for piece in pieces] == [1001, 1000, 7]
