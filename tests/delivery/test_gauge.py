"""What the time of a connection goes into."""

import pytest

from masqmail.delivery.gauge import Gauge
from masqmail.proto.smtp.pipeline import Pace


def ready_gauge(*, round_trip: float = 0.5) -> Gauge:
    gauge = Gauge(0.0)
    gauge.note_heard(round_trip)
    gauge.note_ready(7 * round_trip)
    return gauge


def test_the_shortest_reply_is_the_round_trip() -> None:
    gauge = Gauge(0.0)
    gauge.note_heard(3.0)  # with a name to look up
    gauge.note_asked(3.0)
    gauge.note_heard(3.6)
    gauge.note_asked(3.6)
    gauge.note_heard(5.0)  # a server that thought about it
    assert gauge.round_trip_seconds == pytest.approx(0.6)


def test_without_chunking_every_message_is_expected_to_wait() -> None:
    gauge = Gauge(0.0)
    gauge.note_heard(0.6)
    assert gauge.expected(Pace.STREAM, 1.8).message_seconds == 0
    assert gauge.expected(Pace.GROUP, 1.8).message_seconds == pytest.approx(0.6)
    assert gauge.expected(Pace.LOCK_STEP, 1.8).message_seconds == pytest.approx(2.4)
    assert gauge.expected(Pace.GROUP, 1.8).setup_seconds == pytest.approx(4.2)


def test_what_a_connection_waited_for_its_call_is_not_its_set_up() -> None:
    gauge = Gauge(0.0)
    gauge.note_heard(0.6)
    gauge.note_waited(5.0)
    gauge.note_ready(9.2)
    assert gauge.expected(Pace.GROUP, 20.0).setup_seconds == pytest.approx(4.2)


def test_a_server_is_busy_from_the_arrival_of_a_message_to_its_reply() -> None:
    gauge = ready_gauge()
    gauge.note_sent(1)
    gauge.note_flushed(3000)
    gauge.note_sent(2)
    gauge.note_flushed(6000)
    gauge.note_sent(3)
    gauge.note_flushed(6000)
    gauge.note_acked(3000, 5.0)
    gauge.note_acked(6000, 5.1)
    assert gauge.measured(Pace.STREAM, 5.2).message_seconds == pytest.approx(0.2)
    gauge.note_answered(1, 5.3, is_streaming=True)
    gauge.note_answered(2, 5.6, is_streaming=True)  # it waited for its turn until 5.3
    gauge.note_answered(3, 5.9, is_streaming=True)
    speed = gauge.measured(Pace.STREAM, 9.0)
    assert speed.message_seconds == pytest.approx(0.3)
    assert speed.messages == 3


def test_what_is_still_on_the_line_is_not_the_servers_fault() -> None:
    gauge = ready_gauge()
    gauge.note_sent(1)
    gauge.note_flushed(3000)
    gauge.note_acked(1500, 5.0)
    assert gauge.measured(Pace.STREAM, 60.0).message_seconds == 0
    gauge.note_answered(1, 61.0, is_streaming=True)  # its acknowledgement comes with the reply
    assert gauge.measured(Pace.STREAM, 61.0).message_seconds == 0


def test_without_chunking_a_message_takes_from_reply_to_reply() -> None:
    gauge = ready_gauge()
    gauge.note_idle(10.0)
    gauge.note_sent(1)
    gauge.note_flushed(3000)
    gauge.note_answered(1, 11.0, is_streaming=False)
    gauge.note_sent(2)
    gauge.note_flushed(6000)
    gauge.note_answered(2, 12.0, is_streaming=False)
    assert gauge.measured(Pace.GROUP, 12.0).message_seconds == pytest.approx(1.0)


def test_where_the_server_waits_for_the_line_the_line_is_the_slow_part() -> None:
    gauge = ready_gauge()
    for number in range(1, 5):  # one a second arrives, and is worked on for 0.3 s
        gauge.note_sent(number)
        gauge.note_flushed(number * 1000)
        gauge.note_acked(number * 1000, 10.0 + number)
        gauge.note_answered(number, 10.3 + number, is_streaming=True)
    assert gauge.measured(Pace.STREAM, 15.0).message_seconds == pytest.approx(0.3)
    assert gauge.measured(Pace.STREAM, 15.0).line_seconds == pytest.approx(0.83, abs=0.01)


def test_where_the_server_always_has_something_to_do_it_is_the_slow_part() -> None:
    gauge = ready_gauge()
    for number in range(1, 5):
        gauge.note_sent(number)
        gauge.note_flushed(number * 1000)
    gauge.note_acked(4000, 10.0)
    for number in range(1, 5):
        gauge.note_answered(number, 10.0 + 0.3 * number, is_streaming=True)
    assert gauge.measured(Pace.STREAM, 15.0).message_seconds == pytest.approx(0.3)
    assert gauge.measured(Pace.STREAM, 15.0).line_seconds == 0


def test_a_time_without_mail_is_not_held_against_the_line() -> None:
    gauge = ready_gauge()
    for number in range(1, 5):
        gauge.note_idle(100.0 * number)
        gauge.note_sent(number)
        gauge.note_flushed(number * 1000)
        gauge.note_acked(number * 1000, 100.0 * number + 1)
        gauge.note_answered(number, 100.0 * number + 1.3, is_streaming=True)
    assert gauge.measured(Pace.STREAM, 900.0).line_seconds == 0


def test_messages_that_left_together_arrive_together() -> None:
    """They may be in one TLS record."""
    gauge = ready_gauge()
    gauge.note_sent(1)
    gauge.note_sent(2)
    gauge.note_acked(9000, 4.0)
    gauge.note_flushed(5000)
    gauge.note_acked(3000, 5.0)
    assert gauge.measured(Pace.STREAM, 6.0).message_seconds == 0
    gauge.note_acked(5000, 6.0)
    assert gauge.measured(Pace.STREAM, 6.5).message_seconds == pytest.approx(0.5)


def test_a_message_that_was_never_sent_is_no_measure() -> None:
    gauge = ready_gauge()
    gauge.note_answered(1, 9.0, is_streaming=True)
    gauge.note_sent(3)
    gauge.note_flushed(10)
    gauge.note_answered(2, 9.0, is_streaming=True)
    assert gauge.measured(Pace.STREAM, 9.0).messages == 0
