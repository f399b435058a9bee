"""One answer of the control socket, however it is cut into pieces."""

from collections.abc import Iterator

import pytest

from masqmail.cli.answer import MAX_HEAD_BYTES, Answer, HalfAnswer

SIZED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nA: b\r\n\r\n"


def answer(data: bytes, size: int) -> Answer:
    pieces: Iterator[bytes] = (data[start : start + size] for start in range(0, len(data), size))
    return Answer(lambda: next(pieces, b""))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("data", "status", "reason"), [(SIZED, 200, "OK"), (CHUNKED, 404, "Not Found")])
def test_slicing_does_not_matter(data: bytes, status: int, reason: str, size: int) -> None:
    read = answer(data, size)
    assert (read.status, read.reason) == (status, reason)
    assert b"".join(read.pieces()) == b"hello"


@pytest.mark.parametrize("data", [SIZED, CHUNKED])
def test_an_answer_that_ends_anywhere_before_its_end_is_half_of_one(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(HalfAnswer):
            list(answer(data[:length], 1000).pieces())


@pytest.mark.parametrize(
    "data",
    [
        b"220 gw ESMTP\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        CHUNKED.replace(b"3\r\n", b"g\r\n"),
        CHUNKED.replace(b"hel\r\n", b"hello\r\n"),
        b"HTTP/1.1 200 OK\r\n" + b"x" * (MAX_HEAD_BYTES + 1000),
    ],
)
def test_what_is_no_answer_is_half_of_one(data: bytes) -> None:
    with pytest.raises(HalfAnswer):
        list(answer(data, 1000).pieces())
