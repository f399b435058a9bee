"""The line buffer and the check of line ends, with every slice and every kind of bad line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.status import Status
from masqmail.proto.errors import PeerError
from masqmail.proto.lines import (
    BAD_LINE_END,
    ENDLESS_LINE,
    LINE_TOO_LONG,
    MAX_SKIPPED_BYTES,
    LineBuffer,
    TextCheck,
)


def read_all(pieces: list[bytes], max_bytes: int = 10) -> list[bytes | Status]:
    """Every line and every complaint."""
    buffer, found = LineBuffer(), []
    for piece in pieces:
        buffer.feed(piece)
        while True:
            try:
                line = buffer.take_line(max_bytes)
            except PeerError as error:
                found.append(error.status)
                continue
            if line is None:
                break
            found.append(line)
    return found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"QUIT", []),
        (b"QUIT\r", []),
        (b"QUIT\r\n", [b"QUIT"]),
        (b"\r\n", [b""]),
        (b"a\r\nb\r\nc", [b"a", b"b"]),
        (b"1234567890\r\n", [b"1234567890"]),
        (b"12345678901\r\nok\r\n", [LINE_TOO_LONG, b"ok"]),
        (b"12345678901", [LINE_TOO_LONG]),
        (b"1234567890\r", []),
        (b"1234567890\n\r\nok\r\n", [BAD_LINE_END, b"ok"]),
        (b"12345678901\n\r\nok\r\n", [LINE_TOO_LONG, b"ok"]),
        (b"a\nb\r\nok\r\n", [BAD_LINE_END, b"ok"]),
        (b"a\n", [BAD_LINE_END]),
        (b"a\rb\r\nok\r\n", [BAD_LINE_END, b"ok"]),
        (b"a\r\r\nok\r\n", [BAD_LINE_END, b"ok"]),
        (b"\n\r\nok\r\n", [BAD_LINE_END, b"ok"]),
        (b"a\nb\nc\nd\r\nok\r\n", [BAD_LINE_END, b"ok"]),
        (b"a\nb\rc\r\r\nok\r\n", [BAD_LINE_END, b"ok"]),
    ],
)
def test_lines_end_in_crlf_and_nothing_else(data: bytes, expected: list[bytes | Status]) -> None:
    assert read_all([data]) == expected
    assert read_all([bytes([byte]) for byte in data]) == expected


@pytest.mark.parametrize("slice_bytes", [1, 3, 100])
def test_some_lines_may_be_longer(slice_bytes: int) -> None:
    data = b"1234567\r\nauth x 89\r\nAUTH x 890\r\nok\r\n"
    buffer = LineBuffer()
    found: list[bytes | Status] = []
    for start in range(0, len(data), slice_bytes):
        buffer.feed(data[start : start + slice_bytes])
        while not buffer.is_empty:
            try:
                line = buffer.take_line(6, {b"AUTH ": 9})
            except PeerError as error:
                found.append(error.status)
                continue
            if line is None:
                break
            found.append(line)
    assert found == [LINE_TOO_LONG, b"auth x 89", LINE_TOO_LONG, b"ok"]


@given(st.lists(st.text(alphabet="ab\r\n", max_size=8).map(str.encode), max_size=8))
def test_slicing_never_matters(pieces: list[bytes]) -> None:
    assert read_all(pieces, 5) == read_all([b"".join(pieces)], 5)


def test_a_line_without_end_is_skipped_without_being_kept_and_ends_the_session_at_last() -> None:
    buffer = LineBuffer()
    buffer.feed(b"x" * 11)
    with pytest.raises(PeerError) as caught:
        buffer.take_line(10)
    assert caught.value.status is LINE_TOO_LONG
    for _ in range(MAX_SKIPPED_BYTES // 65536):
        buffer.feed(b"x" * 65536)
        assert buffer.take_line(10) is None
        assert len(buffer) == 0
    buffer.feed(b"x\r\n")
    with pytest.raises(PeerError) as caught:
        buffer.take_line(10)
    assert caught.value.status is ENDLESS_LINE


def test_what_begins_the_next_line_is_seen_only_when_a_bad_line_is_over() -> None:
    buffer = LineBuffer()
    buffer.feed(b"a\nb")
    with pytest.raises(PeerError):
        buffer.take_line(10)
    assert buffer.peek(4) == b""
    buffer.feed(b"c\r\nMAIL FROM")
    assert buffer.peek(4) == b"MAIL"
    assert buffer.take_line(10) is None


def test_raw_bytes_are_taken_between_lines() -> None:
    buffer = LineBuffer()
    buffer.feed(b"BDAT 3\r\nabcNOOP\r\nrest")
    assert buffer.take_line(10) == b"BDAT 3"
    assert buffer.take(2) == b"ab"
    assert buffer.take(1) == b"c"
    assert buffer.take_line(10) == b"NOOP"
    assert buffer.take_all() == b"rest"
    assert len(buffer) == 0


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"", b"abc", b"NOOP\r\n", b"x" * 12, b"y\r\nz"])), st.data())
def test_a_buffer_knows_whether_it_is_empty(pieces: list[bytes], data: st.DataObject) -> None:
    buffer = LineBuffer()
    assert buffer.is_empty
    for piece in pieces:
        buffer.feed(piece)
        assert buffer.is_empty == (len(buffer) == 0)
        try:
            match data.draw(st.sampled_from(["line", "raw", "all", "peek"])):
                case "line":
                    buffer.take_line(10)
                case "raw":
                    buffer.take(2)
                case "all":
                    buffer.take_all()
                case "peek":
                    buffer.peek(5)
        except PeerError:
            pass
        assert buffer.is_empty == (len(buffer) == 0)


def is_clean(pieces: list[bytes]) -> bool:
    check = TextCheck()
    for piece in pieces:
        check.feed(piece)
    check.finish()
    return check.is_clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (b"", True),
        (b"text", True),
        (b"a\r\nb\r\n", True),
        (b"\r\n\r\n\r\n", True),
        (b"\xff\x01\t", True),
        (b"a\nb", False),
        (b"a\rb", False),
        (b"a\r", False),
        (b"\n", False),
        (b"a\r\r\n", False),
        (b"a\n\r", False),
        (b"a\n\rb\r\n", False),
        (b"\r\n\n", False),
        (b"nul\0\r\n", False),
    ],
)
def test_cr_and_lf_come_in_pairs_only(text: bytes, clean: bool) -> None:
    assert is_clean([text]) is clean
    assert is_clean([bytes([byte]) for byte in text]) is clean


@given(st.lists(st.text(alphabet="a\r\n\0", max_size=6).map(str.encode), max_size=6))
def test_slicing_does_not_change_the_verdict_on_text(pieces: list[bytes]) -> None:
    text = b"".join(pieces)
    rest = text.replace(b"\r\n", b"")
    assert is_clean(pieces) is not any(byte in rest for byte in b"\r\n\0")
