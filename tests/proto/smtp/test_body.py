"""Content leaves unchanged for BDAT and dot-stuffed for DATA, in whatever slices it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.proto.errors import UsageError
from masqmail.proto.smtp.body import Chunk, DotStuffing


def stuff(pieces: list[bytes]) -> bytes:
    stuffing = DotStuffing(sum(map(len, pieces)))
    return b"".join(map(stuffing.write, pieces)) + stuffing.end()


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"", b".\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.b\r\n", b"a\r\n..b\r\n.\r\n"),
        (b"a\r\n.\r\n.\r\n", b"a\r\n..\r\n..\r\n.\r\n"),
        (b"a.b\r\n", b"a.b\r\n.\r\n"),
        (b"no end", b"no end\r\n.\r\n"),
        (b"a\r\n..", b"a\r\n...\r\n.\r\n"),
    ],
)
def test_a_line_that_begins_with_a_dot_gets_another(content: bytes, wire: bytes) -> None:
    assert stuff([content]) == wire
    assert stuff([content[i : i + 1] for i in range(len(content))]) == wire


@given(st.lists(st.sampled_from([b".", b"\r\n", b"\r", b"\n", b"x", b"", b"\r\n.", b"\n."]), max_size=30))
def test_slices_never_matter(pieces: list[bytes]) -> None:
    assert stuff(pieces) == stuff([b"".join(pieces)])


@given(st.lists(st.sampled_from([b"", b".", b"..", b"x", b".x", b"x."]), max_size=10))
def test_removing_the_dots_gives_the_content_back(lines: list[bytes]) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    wire = stuff([content])
    assert wire.endswith(b".\r\n") and b"\r\n.\r\n" not in (b"\r\n" + wire)[:-3]
    assert b"".join(line[line.startswith(b".") :] for line in wire[:-3].splitlines(keepends=True)) == content


def test_a_chunk_is_its_content() -> None:
    chunk = Chunk(5)
    assert chunk.write(b".\r\n") + chunk.write(b".x") + chunk.end() == b".\r\n.x"


@pytest.mark.parametrize("writer", [Chunk, DotStuffing])
def test_content_of_another_length_is_never_completed(writer: type[Chunk] | type[DotStuffing]) -> None:
    short = writer(5)
    short.write(b"abcd")
    with pytest.raises(UsageError, match="1 bytes shorter"):
        short.end()
    with pytest.raises(UsageError, match="longer"):
        writer(5).write(b"abcdef")


def test_a_message_is_whole_with_the_last_octet_of_a_chunk_and_with_the_final_dot() -> None:
    chunk, stuffing = Chunk(2), DotStuffing(2)
    for writer in (chunk, stuffing):
        writer.write(b"\r")
        assert not writer.is_complete
        writer.write(b"\n")
    assert (chunk.is_complete, stuffing.is_complete) == (True, False)
    stuffing.end()
    assert stuffing.is_complete
