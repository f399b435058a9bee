"""Standard input becomes lines that end in CRLF, up to the end or a lone dot."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.cli import sendmail_message
from masqmail.cli.sendmail_message import Message
from masqmail.cli.sendmail_options import Failure


def converted(data: bytes, *, ignore_dots: bool = False) -> bytes:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    try:
        message = Message(reading, ignore_dots=ignore_dots)
        return b"".join(iter(message.read, b""))
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", b""),
        (b"a\nb\r\nc\rd", b"a\r\nb\r\nc\r\nd\r\n"),
        (b"a\r\r\n", b"a\r\n\r\n"),
        (b"a\n.\nb\n", b"a\r\n"),
        (b"a\r\n.\r\nb\n", b"a\r\n"),
        (b"a\n.", b"a\r\n"),
        (b".\nb\n", b""),
        (b"a\n..\n.b\nc.\n", b"a\r\n..\r\n.b\r\nc.\r\n"),
        (b"From bob Mon\nA: b\nFrom c\n", b"A: b\r\nFrom c\r\n"),
        (b">From bob Mon\r\nA: b\n", b"A: b\r\n"),
        (b"From: bob\n", b"From: bob\r\n"),
        (b"From bob", b"From bob\r\n"),
        (b"\x01\xff", b"\x01\xff\r\n"),
    ],
)
def test_line_ends_and_dots(data: bytes, text: bytes) -> None:
    assert converted(data) == text


def test_a_lone_dot_is_text_when_dots_are_ignored() -> None:
    assert converted(b"a\n.\nb\n.", ignore_dots=True) == b"a\r\n.\r\nb\r\n.\r\n"


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"From "]), max_size=20), st.booleans(), st.integers(1, 5))
def test_the_size_of_blocks_never_matters(parts: list[bytes], ignore_dots: bool, size: int) -> None:
    data = b"x\n" + b"".join(parts)
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines += b"" if lines.endswith(b"\n") else b"\n"
    if not ignore_dots and (end := lines.find(b"\n.\n")) >= 0:
        lines = lines[: end + 1]
    whole = sendmail_message.BLOCK_BYTES
    try:
        sendmail_message.BLOCK_BYTES = size
        assert converted(data, ignore_dots=ignore_dots) == lines.replace(b"\n", b"\r\n")
    finally:
        sendmail_message.BLOCK_BYTES = whole


def test_what_was_put_back_is_read_again_also_when_nothing_more_is_put_back() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"a\n")
    os.close(writing)
    try:
        message = Message(reading, ignore_dots=True)
        message.put_back(message.read())
        message.put_back(b"")  # by who has not come to read it
        assert [message.read(), message.read()] == [b"a\r\n", b""]
    finally:
        os.close(reading)


def test_an_input_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(Failure, match="cannot read the message: Is a directory") as caught:
            Message(folder, ignore_dots=False).read()
    finally:
        os.close(folder)
    assert caught.value.exit_code == os.EX_NOINPUT


def test_on_a_terminal_a_dot_ends_the_message_at_once() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"a\n.\n")  # and nobody closes the other end
    try:
        message = Message(reading, ignore_dots=False)
        assert message.read() == b"a\r\n"
        assert message.is_ended
    finally:
        os.close(reading)
        os.close(writing)
