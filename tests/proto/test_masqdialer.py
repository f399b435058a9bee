"""The dialogue with a masqdialer server, as bytes."""

import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.proto.masqdialer import MAX_BLANK_BYTES, MAX_LINE_BYTES, Inquiry


@dataclass(frozen=True)
class Found:
    """What an inquiry came to."""

    online: str = ""
    dialling: str = ""
    fault: str = ""


def ask(*received: bytes) -> tuple[Found, bytes]:
    """The end of a dialogue with a server that says this, and all that was said to it."""
    inquiry = Inquiry()
    said = b"".join(inquiry.receive(data) for data in received)
    assert inquiry.is_over
    return Found(inquiry.online, inquiry.dialling, inquiry.fault), said


ANSWERS: list[tuple[bytes, Found]] = [
    (b"UP foo:1\n", Found(online="foo")),
    (b"UP foo:0\n", Found(online="foo")),
    (b"UP foo:+7\n", Found(online="foo")),
    (b"UP foo: 33600/ARQ\n", Found(online="foo")),
    (b"UP:foo:115200\n", Found(online="foo")),
    (b"UP foo:1\r\n", Found(online="foo")),
    (b"\r\n \r\n UP foo:1 \r\n", Found(online="foo")),
    (b"UP  my line :1\n", Found(online="my line")),
    ("UP Bücher:1\n".encode(), Found(online="Bücher")),
    (b"UP foo:-1\n", Found(dialling="foo")),
    (b"UP:foo:-1\r\n", Found(dialling="foo")),
    (b"DOWN\n", Found()),
    (b"DOWN\r\n", Found()),
    (b"DOWN:\n", Found()),
    (b"UP\n", Found(fault='answered "UP", which makes no sense')),
    (b"UP foo\n", Found(fault='answered "UP foo", which makes no sense')),
    (b"UP foo:\n", Found(fault='answered "UP foo:", which makes no sense')),
    (b"UP foo:-\n", Found(fault='answered "UP foo:-", which makes no sense')),
    (b"UP foo:fast\n", Found(fault='answered "UP foo:fast", which makes no sense')),
    (b"UP :1\n", Found(fault='answered "UP :1", which makes no sense')),
    (b"UPS foo:1\n", Found(fault='answered "UPS foo:1", which makes no sense')),
    (b"up foo:1\n", Found(fault='answered "up foo:1", which makes no sense')),
    (b"UP f\x1bo:1\n", Found(fault='answered "UP f\\x1bo:1", which makes no sense')),
    (b"UP f\0o:1\n", Found(fault='answered "UP f\\x00o:1", which makes no sense')),
    (b"UP f\xffo:1\n", Found(fault='answered "UP f\\ufffdo:1", which makes no sense')),
    (b"ERROR: no\n", Found(fault='answered "ERROR: no", which makes no sense')),
    (b"READY\n", Found(fault='answered "READY", which makes no sense')),
    (b"x" * 50 + b"\n", Found(fault=f'answered "{"x" * 40}…", which makes no sense')),
]


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
def test_the_answer_to_stat_is_understood_or_is_a_fault(answer: bytes, expected: Found) -> None:
    assert ask(b"READY\n", answer) == (expected, b"STAT\nQUIT")


@pytest.mark.parametrize("greeting", [b"READY\n", b"READY\r\n", b"\n\nREADY\n", b"READY 0.97e\n"])
def test_every_greeting_of_a_ready_server_will_do(greeting: bytes) -> None:
    assert ask(greeting, b"UP foo:1\n") == (Found(online="foo"), b"STAT\nQUIT")


def test_a_server_that_is_not_ready_is_not_asked() -> None:
    assert ask(b"220 mx.example.org ESMTP\r\n") == (
        Found(fault='said "220 mx.example.org ESMTP" instead of READY'),
        b"QUIT",
    )


@pytest.mark.parametrize(
    "received", [[b""], [b"READY"], [b"READY\n"], [b"READY\n", b"UP foo:1"], [b"READY\n", b"DOWN"]]
)
def test_a_line_without_an_end_never_counts(received: list[bytes]) -> None:
    assert ask(*received, b"")[0] == Found(fault="hung up before it had answered")


@pytest.mark.parametrize("received", [[], [b"READY"], [b"READY\n"], [b"READY\n", b"UP foo:1"]])
def test_silence_never_counts(received: list[bytes]) -> None:
    inquiry = Inquiry()
    for data in received:
        inquiry.receive(data)
    inquiry.expire()
    assert inquiry.is_over
    assert (inquiry.online, inquiry.fault) == ("", "sent no line within 15 s")


def test_silence_after_the_answer_changes_nothing() -> None:
    inquiry = Inquiry()
    inquiry.receive(b"READY\n")
    inquiry.receive(b"UP foo:1\n")
    inquiry.expire()
    assert inquiry.receive(b"") == b""
    assert (inquiry.online, inquiry.fault) == ("foo", "")


def test_a_line_has_a_bound() -> None:
    longest = b"UP " + b"x" * (MAX_LINE_BYTES - 6) + b":1\n"
    assert ask(b"READY\n", longest)[0].online == "x" * (MAX_LINE_BYTES - 6)
    for too_long in (longest.replace(b":", b"x:"), b"x" * MAX_LINE_BYTES):
        assert ask(b"READY\n", too_long + b"x")[0] == Found(fault="sent a line of more than 255 bytes")


def test_blank_lines_have_a_bound() -> None:
    assert ask(b"\n" * MAX_BLANK_BYTES, b"\r\n")[0] == Found(fault="sends nothing but blank lines")


@given(st.sampled_from([answer for answer, _ in ANSWERS]), st.lists(st.integers(0, 60), max_size=6))
def test_the_slices_do_not_matter(answer: bytes, cuts: list[int]) -> None:
    """Not even a server that says everything at once."""
    data = b"READY\r\n" + answer
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    assert ask(*(data[start:end] for start, end in pairwise(places))) == ask(data)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20))
def test_whatever_comes_is_bounded_and_only_a_whole_answer_counts(received: list[bytes]) -> None:
    found, said = ask(*received, b"")
    assert said in (b"", b"STAT\n", b"QUIT", b"STAT\nQUIT")
    assert not (found.online or found.dialling) or b"UP" in b"".join(received)


def test_it_imports_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import masqmail.proto.masqdialer; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"masqmail", "masqmail.proto", "masqmail.proto.masqdialer"}
