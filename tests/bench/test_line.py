"""One direction of a slow link: when packets come out, which never do, and what is counted."""

import random

import pytest
from harness.line import LINKS, QUEUE_BYTES, Line, LinkKind, describe, is_syn

KIND = LinkKind("test", rate_bits=8000, delay_seconds=1.0)  # a byte each millisecond


def line(kind: LinkKind = KIND, **options: int) -> Line:
    return Line(kind, random.Random(1), **options)


def packet(size: int, flags: int = 0x10) -> bytes:
    """An IPv4 packet with a TCP segment from port 5 to port 25."""
    ip = bytes([0x45, 0, *size.to_bytes(2), 0, 0, 0, 0, 64, 6]) + bytes(10)
    tcp = (5).to_bytes(2) + (25).to_bytes(2) + (7).to_bytes(4) + (8).to_bytes(4) + bytes([0x50, flags]) + bytes(6)
    return (ip + tcp).ljust(size, b"x")


def test_a_packet_takes_its_time_on_the_line_and_the_delay() -> None:
    assert line().admit(packet(500), 10.0) == pytest.approx(11.5)


def test_packets_leave_one_after_the_other() -> None:
    busy = line()
    assert [busy.admit(packet(500), 10.0), busy.admit(packet(100), 10.1)] == pytest.approx([11.5, 11.6])
    assert busy.waiting_bytes(10.2) == pytest.approx(400)
    assert busy.admit(packet(100), 20.0) == pytest.approx(21.1)


def test_what_does_not_fit_into_the_queue_is_dropped_and_takes_no_time() -> None:
    full = line(queue_bytes=1000)
    assert full.admit(packet(900), 0.0) is not None
    assert full.admit(packet(200), 0.0) is None
    assert full.admit(packet(100), 0.0) == pytest.approx(2.0)
    assert (full.counts.packets, full.counts.bytes, full.counts.dropped) == (3, 1200, 1)


def test_a_lost_packet_has_taken_its_time() -> None:
    bad = line(LinkKind("bad", rate_bits=8000, delay_seconds=0.0, loss=1.0))
    assert bad.admit(packet(500), 0.0) is None
    assert bad.counts.lost == 1
    assert bad.waiting_bytes(0.0) == 500


def test_the_share_of_lost_packets_is_the_one_that_was_set() -> None:
    bad = line(LinkKind("bad", rate_bits=1e12, delay_seconds=0.0, loss=0.01))
    for second in range(10_000):
        bad.admit(packet(100), float(second))
    assert 70 <= bad.counts.lost <= 130


def test_only_a_syn_without_ack_is_an_attempt_to_connect() -> None:
    assert is_syn(packet(40, flags=0x02))
    assert not is_syn(packet(40, flags=0x12))
    assert not is_syn(packet(40))
    assert not is_syn(b"\x45" + bytes(60))  # no TCP
    counting = line()
    counting.admit(packet(40, flags=0x02), 3.0)
    counting.admit(packet(40, flags=0x02), 4.0)
    assert (counting.counts.syns, counting.counts.first_syn_at) == (2, 3.0)


def test_a_packet_is_described_in_words() -> None:
    assert describe(packet(60, flags=0x18)) == "5>25 PA  seq 7 ack 8 win 0 payload 20"
    assert describe(bytes([0x45, *bytes(8), 1, *bytes(30)])) == "protocol 1, 40 bytes"


def test_the_links_are_those_of_the_documentation() -> None:
    shown = {name: (kind.round_trip_seconds, kind.rate_bits, kind.loss) for name, kind in LINKS.items()}
    assert shown == {
        "geo": (0.6, 256_000, 0),
        "modem": (0.2, 56_000, 0),
        "lte": (0.15, 1_000_000, 0.01),
        "leo": (0.04, 20_000_000, 0),
        "overseas": (0.3, 10_000_000, 0),
    }
    assert QUEUE_BYTES == 96 * 1024
