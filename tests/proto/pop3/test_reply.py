"""Texts behind a reply: the dots undone, the end found, whatever the slices they come in."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.proto.pop3.reply import ReplyParser

#: What is hard about texts, and something to fill in.
_BITS = st.sampled_from(
    [b".", b"..", b"\r\n", b"\r", b"\n", b"\r\n.", b"\n.\n", b"\r.\r", b"x", b"", b"\0", b"\xff" * 9]
)
_TEXTS = st.lists(_BITS, max_size=12).map(b"".join)


def travelling(text: bytes) -> bytes:
    """A text that ends in CRLF, or is empty, as a server sends it: line by line, which is slow and simple."""
    return b"".join(b"." * line.startswith(b".") + line + b"\r\n" for line in text.split(b"\r\n")[:-1]) + b".\r\n"


def read(data: bytes, cuts: list[int]) -> tuple[bytes, int, ReplyParser]:
    """The text, the number of its ends, and the parser with what is left."""
    parser, text, ends = ReplyParser(), b"", 0
    parser.begin_text()
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in pairwise(places):
        parser.receive(data[start:stop])
        while not ends and (piece := parser.next_text()) is not None:
            text += piece
            ends += not piece
    return text, ends, parser


@given(
    _TEXTS, st.lists(st.integers(0, 10_000), max_size=20), st.sampled_from([b"", b"+OK\r\n", b".\r\n", b"\r\n.\r\n"])
)
def test_a_text_comes_as_it_was_in_whatever_slices(text: bytes, cuts: list[int], rest: bytes) -> None:
    whole = text + b"\r\n" if text and not text.endswith(b"\r\n") else text
    found, ends, parser = read(travelling(whole) + rest, cuts)
    assert (found, ends) == (whole, 1)
    assert parser._inbox == rest


@given(_TEXTS)
def test_byte_by_byte_is_as_good_as_at_once(text: bytes) -> None:
    data = travelling(text + b"\r\n")
    assert read(data, list(range(len(data))))[:2] == (text + b"\r\n", 1)


@given(_TEXTS)
def test_nothing_ends_without_its_dot(text: bytes) -> None:
    data = travelling(text + b"\r\n").removesuffix(b".\r\n")
    assert read(data, [])[1] == 0


@pytest.mark.parametrize("data", [b".x\r\n.\r\n", b"x\r\n.x\r\n.\r\n"])
def test_a_dot_that_was_not_doubled_is_taken_all_the_same(data: bytes) -> None:
    """RFC 1939 §3: the first octet of such a line is stripped away."""
    assert b"." not in read(data, [])[0]


def test_hardly_anything_waits_in_the_machine_however_long_a_line_is() -> None:
    parser = ReplyParser()
    parser.begin_text()
    for _ in range(100):
        parser.receive(b"x" * 65536)
        assert parser.next_text() == b"x" * 65536
        assert parser.next_text() is None
        assert not parser.pending


def test_a_text_of_many_dots_is_read_in_no_time() -> None:
    data = b"..\r\n" * 100_000 + b".\r\n"
    assert read(data, [])[:2] == (b".\r\n" * 100_000, 1)
