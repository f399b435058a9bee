"""The end of DATA, dots, and chunks, in any slices."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from masqmail.proto.lines import TextCheck
from masqmail.proto.smtp.data import ChunkReader, DataReader
from support.dialogue import slices


def read(pieces: list[bytes]) -> tuple[bytes, bytes | None, bool, bool]:
    """Text, what follows it (None: it has not ended), whether it is clean, whether its end is doubtful."""
    check = TextCheck()
    reader, text, rest = DataReader(check), b"", None
    for index, piece in enumerate(pieces):
        found, rest = reader.feed(piece)
        text += found
        if rest is not None:
            rest += b"".join(pieces[index + 1 :])
            break
    return text, rest, check.is_clean, reader.is_end_doubtful


@pytest.mark.parametrize(
    ("data", "text", "rest"),
    [
        (b".\r\n", b"", b""),
        (b"\r\n.\r\n", b"\r\n", b""),
        (b"a\r\n.\r\n", b"a\r\n", b""),
        (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n"),
        (b"..\r\n.\r\n", b".\r\n", b""),
        (b"..a\r\n...\r\n.\r\n", b".a\r\n..\r\n", b""),
        (b".a\r\n.\r\n", b"a\r\n", b""),
        (b"a\r\n.b\r\n.\r\n.\r\n", b"a\r\nb\r\n", b".\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n", b""),
        (b"a\r\n\r\n.\r\n", b"a\r\n\r\n", b""),
    ],
)
def test_dots_come_out_and_a_dot_alone_ends_the_text(data: bytes, text: bytes, rest: bytes) -> None:
    assert read([data]) == (text, rest, True, False)
    assert read([bytes([byte]) for byte in data]) == (text, rest, True, False)


@pytest.mark.parametrize(
    "data", [b"", b".", b".\r", b"a", b"a\r\n", b"a\r\n.", b"a\r\n.\r", b"a\r\n..\r\n", b". \r\n", b" .\r\n"]
)
def test_text_without_end_goes_on(data: bytes) -> None:
    assert read([data])[1] is None


@pytest.mark.parametrize(
    "end",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\r",
        b"\r.\n",
        b"\n.\r",
        b"\r\n.\r\r\n",
        b"\n\r.\r\n",
        b"\n\n.\r\n",
        b"\r\n\n.\r\n",
        b"\r\n\r.\r\n",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"\r\r\n.\n",
    ],
)
def test_nothing_else_ends_the_text_and_it_is_not_clean(end: bytes) -> None:
    data = b"a" + end + b"MAIL FROM:<eve@example.org>\r\n.\r\n"
    _, rest, clean, doubtful = read([data])
    assert (rest, clean, doubtful) == (b"", False, False)


@pytest.mark.parametrize("start", [b"a", b"a\r\n", b"", b"a\n"])
def test_an_end_behind_a_lone_cr_is_doubtful(start: bytes) -> None:
    data = start + b"\r\r\n.\r\nQUIT\r\n"
    for pieces in ([data], [bytes([byte]) for byte in data]):
        assert read(pieces)[1:] == (b"QUIT\r\n", False, True)


@given(st.text(alphabet="a.\r\n", max_size=40).map(str.encode), st.lists(st.integers(0, 50), max_size=6))
@example(b"\r\n.\r\r\n.\r\n", [5])
def test_slicing_never_matters(data: bytes, cuts: list[int]) -> None:
    data += b"\r\n.\r\nREST"
    assert read(slices(data, cuts)) == read([data])


@given(st.lists(st.text(alphabet="a.", max_size=5), max_size=6), st.lists(st.integers(0, 50), max_size=4))
def test_stuffing_is_undone(lines: list[str], cuts: list[int]) -> None:
    text = b"".join(line.encode() + b"\r\n" for line in lines)
    stuffed = b"".join((b"." if line.startswith(".") else b"") + line.encode() + b"\r\n" for line in lines)
    assert read(slices(stuffed + b".\r\nREST", cuts)) == (text, b"REST", True, False)


@pytest.mark.parametrize(
    ("chunks", "added", "clean"),
    [
        ([], b"", True),
        ([b""], b"", True),
        ([b"a\r\n"], b"", True),
        ([b"a"], b"\r\n", True),
        ([b"a\r", b"\n"], b"", True),
        ([b"a\r", b"", b"\n"], b"", True),
        ([b".\r\n.\r\n"], b"", True),
        ([b"a\r\n", b""], b"", True),
        ([b"a\r"], b"\r\n", False),
        ([b"a\r", b"b"], b"\r\n", False),
        ([b"a", b"\nb"], b"\r\n", False),
    ],
)
def test_chunks_are_judged_together_and_get_a_line_end(chunks: list[bytes], added: bytes, clean: bool) -> None:
    check = TextCheck()
    reader = ChunkReader(check)
    for chunk in chunks:
        reader.feed(chunk)
    assert reader.finish() == added
    assert check.is_clean is clean
