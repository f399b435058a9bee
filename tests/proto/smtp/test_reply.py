"""Replies are written as RFC 5321 §4.2 wants them and read as servers really write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.status import Status
from masqmail.proto.errors import PeerError
from masqmail.proto.lines import MAX_RECEIVED_LINE_BYTES
from masqmail.proto.smtp import reply as reply_module
from masqmail.proto.smtp.reply import MAX_RECEIVED_LINES, ReplyParser, format_reply


def read_all(data: bytes) -> list[Status]:
    parser = ReplyParser()
    parser.receive(data)
    return list(iter(parser.next_reply, None))


@pytest.mark.parametrize(
    ("status", "wire"),
    [
        (Status(250, "2.1.5", "Fine"), b"250 2.1.5 Fine\r\n"),
        (Status(354, "", "Go on"), b"354 Go on\r\n"),
        (Status(250, "", "mx\nSIZE 1\nHELP"), b"250-mx\r\n250-SIZE 1\r\n250 HELP\r\n"),
        (Status(550, "5.7.1", "No\nreally"), b"550-5.7.1 No\r\n550 5.7.1 really\r\n"),
        (Status(250, "2.0.0", ""), b"250 2.0.0\r\n"),
        (Status(250, "", ""), b"250\r\n"),
        (Status(550, "5.1.1", "Jörg\x07 is\r\ngone"), b"550-5.1.1 J?rg? is\r\n550 5.1.1 gone\r\n"),
    ],
)
def test_a_status_is_written_as_a_reply(status: Status, wire: bytes) -> None:
    assert format_reply(status) == wire


def test_a_written_line_keeps_to_512_bytes() -> None:
    assert len(format_reply(Status(250, "2.0.0", "x" * 600))) == 512


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"250 2.1.5 Fine\r\n", Status(250, "2.1.5", "Fine")),
        (b"250\r\n", Status(250, "", "")),
        (b"250 \r\n", Status(250, "", "")),
        (b"250 2.0.0\r\n", Status(250, "2.0.0", "")),
        (b"550-5.7.1 No\r\n550 5.7.1 really\r\n", Status(550, "5.7.1", "No\nreally")),
        (b"550-5.7.1 No\r\n550 really\r\n", Status(550, "5.7.1", "No\nreally")),
        (b"250-mx\r\n250-SIZE 1\r\n250 HELP\r\n", Status(250, "", "mx\nSIZE 1\nHELP")),
        (b"250-\r\n250 end\r\n", Status(250, "", "\nend")),
        (b"250 5.1.1 odd\r\n", Status(250, "", "5.1.1 odd")),  # RFC 2034 §4: it must agree, so it is text
        (b"299 whatever\r\n", Status(299, "", "whatever")),
        (b"550 \x1b[2J\xc3\xbc\xff\tx\r\n", Status(550, "", "?[2Jü\ufffd x")),
        (b"550 2.5.1\r\n", Status(550, "", "2.5.1")),
        (b"250 2.0.0x\r\n", Status(250, "", "2.0.0x")),
    ],
)
def test_a_reply_is_read(wire: bytes, status: Status) -> None:
    assert read_all(wire) == [status]


def test_replies_come_one_by_one_and_only_when_complete() -> None:
    parser = ReplyParser()
    parser.receive(b"250-a\r\n250 b\r\n3")
    assert parser.next_reply() == Status(250, "", "a\nb")
    assert parser.next_reply() is None
    parser.receive(b"54 go\r")
    assert parser.next_reply() is None
    parser.receive(b"\n")
    assert parser.next_reply() == Status(354, "", "go")


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\r\n",
        b"25 x\r\n",
        b"2500 x\r\n",
        b"150 x\r\n",
        b"650 x\r\n",
        b"250_x\r\n",
        b"\x15\x03\x01\x00\x02\x02\r\n",
        b"250-a\r\n251 b\r\n",
        b"250 bare\n",
        b"250-a\n250 b\r\n",
        b"250 " + b"x" * MAX_RECEIVED_LINE_BYTES + b"\r\n",
        b"x" * (MAX_RECEIVED_LINE_BYTES + 1),
        b"250-x\r\n" * MAX_RECEIVED_LINES,
    ],
)
def test_what_is_no_reply_is_refused(wire: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        read_all(wire)
    assert caught.value.status.is_temporary
    assert caught.value.status.text.isprintable()


def test_nonsense_is_shown() -> None:
    with pytest.raises(
        PeerError, match=r"not an SMTP reply: 'HTTP/1.1 302 Found', as a web server .* a login in the browser"
    ):
        read_all(b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n")


def test_what_belongs_to_no_reply_yet_is_pending() -> None:
    parser = ReplyParser()
    parser.receive(b"220 go\r\n250-inj")
    assert parser.next_reply() == Status(220, "", "go")
    assert parser.pending == b"250-inj"
    parser.receive(b"ected\r\n")
    assert parser.next_reply() is None
    assert parser.pending == b"250-injected\r\n"


texts = st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30), min_size=1, max_size=4)


@given(st.integers(200, 599), st.booleans(), texts, st.lists(st.integers(1, 20), max_size=40))
def test_writing_and_reading_are_inverse_in_any_slices(
    code: int, has_enhanced: bool, lines: list[str], cuts: list[int]
) -> None:
    enhanced = f"{code // 100}.7.26" if has_enhanced and code // 100 != 3 else ""
    text = "\n".join("t" + line for line in lines)  # a line must not itself begin with an enhanced code
    wire = format_reply(Status(code, enhanced, text))
    parser = ReplyParser()
    found = []
    for cut in [*cuts, len(wire)]:
        parser.receive(wire[:cut])
        wire = wire[cut:]
        found += list(iter(parser.next_reply, None))
    assert found == [Status(code, enhanced, text)]
    assert parser.pending == b""


@given(
    st.binary(max_size=300) | st.lists(st.sampled_from([b"250", b"-", b" ", b"\r\n", b"2.0.0", b"\n"])).map(b"".join)
)
def test_nothing_but_replies_and_peer_errors_come_out(wire: bytes) -> None:
    try:
        replies = read_all(wire)
    except PeerError:
        return
    assert all(isinstance(reply, Status) for reply in replies)


@given(
    st.sampled_from([(250, "2.0.0"), (354, ""), (550, "5.7.1")]),
    st.text(max_size=20) | st.text(alphabet=" ab\n", max_size=20) | st.integers(390, 520).map("x".__mul__),
)
def test_the_short_way_of_writing_a_reply_comes_to_the_same_result(codes: tuple[int, str], text: str) -> None:
    status = Status(*codes, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reply_module, "_SHORT_TEXT_BYTES", -1)
        long_way = format_reply(status)
    assert format_reply(status) == long_way
