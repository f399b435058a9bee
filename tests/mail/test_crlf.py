import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.crlf import LineEnds


def mended(text: bytes) -> bytes:
    """The same, found in another way."""
    return re.sub(rb"\r\n|\r|\n", b"\r\n", text)


def fed(slices: list[bytes]) -> bytes:
    ends = LineEnds()
    return b"".join([*map(ends.feed, slices), ends.finish()])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"", b""),
        (b"\n", b"\r\n"),
        (b"\r", b"\r\n"),
        (b"\r\n", b"\r\n"),
        (b"\n\r", b"\r\n\r\n"),
        (b"\r\r\n", b"\r\n\r\n"),
        (b"\r\n\n\r\r", b"\r\n\r\n\r\n\r\n"),
        (b"a\rb\nc\r\nd", b"a\r\nb\r\nc\r\nd"),
        (b"\x00\xff\x0b\x0c\x85", b"\x00\xff\x0b\x0c\x85"),
    ],
)
def test_a_lone_cr_or_lf_becomes_crlf(text: bytes, wanted: bytes) -> None:
    assert fed([text]) == wanted
    assert fed([bytes([octet]) for octet in text]) == wanted


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"", b"text\r\n", b"\xff\x00"]), max_size=12), st.data()
)
def test_slices_do_not_matter(pieces: list[bytes], data: st.DataObject) -> None:
    text = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    slices = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
    assert fed(slices) == mended(text)


def test_text_that_is_right_is_not_copied() -> None:
    ends = LineEnds()
    text = b"Subject: x\r\n\r\nlines\r\nand the beginning of one"
    assert ends.feed(text) is text
