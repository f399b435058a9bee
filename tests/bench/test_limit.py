"""What a link allows at best, by hand for small numbers."""

import pytest
from harness.limit import HEADER_BYTES, Letter, Setting, least_bytes, least_seconds, session_bytes, stream_bytes
from harness.line import LinkKind

PLAIN = Setting("none", None)
STARTTLS = Setting("starttls", ("ann", "secret"))
IMPLICIT = Setting("implicit", ("ann", "secret"))


def letter(size: int = 100) -> Letter:
    return Letter("ann@example.org", "bob@example.net", b"x" * size)


def test_the_round_trips_before_the_first_message_are_counted_by_hand() -> None:
    # SYN, greeting, EHLO, STARTTLS, TLS, EHLO, AUTH; implicit TLS saves STARTTLS and an EHLO
    assert [PLAIN.round_trips, STARTTLS.round_trips, IMPLICIT.round_trips] == [3, 7, 5]


def test_a_letter_is_its_content_a_trace_field_and_its_commands() -> None:
    envelope = b"MAIL FROM:<ann@example.org>\r\nRCPT TO:<bob@example.net>\r\nBDAT 214 LAST\r\n"
    trace = letter().least_bytes - len(envelope) - 100
    assert 100 < trace < 120
    assert letter(200).least_bytes == letter(100).least_bytes + 100


def test_full_segments_and_records_are_counted() -> None:
    one = letter().least_bytes
    assert stream_bytes([letter()], PLAIN) == one + HEADER_BYTES
    assert stream_bytes([letter()], STARTTLS) == one + HEADER_BYTES + 22
    many = [letter(3072)] * 50
    payload = 50 * many[0].least_bytes
    assert stream_bytes(many, PLAIN) == payload + HEADER_BYTES * -(-payload // 1448)
    assert stream_bytes(many, STARTTLS) - stream_bytes(many, PLAIN) < 400


def test_a_session_with_less_to_say_has_fewer_bytes() -> None:
    assert session_bytes(PLAIN) < session_bytes(IMPLICIT) < session_bytes(STARTTLS) < 1500
    assert least_bytes([letter()], PLAIN) == session_bytes(PLAIN) + stream_bytes([letter()], PLAIN)


def test_the_time_is_round_trips_and_bytes_and_the_way_of_the_last() -> None:
    link = LinkKind("test", rate_bits=8000, delay_seconds=0.5)
    expected = 3.5 * 1.0 + least_bytes([letter()], PLAIN) / 1000
    assert least_seconds([letter()], PLAIN, link) == pytest.approx(expected)
