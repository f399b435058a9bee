"""More connections where they pay, and no more under way on each than it needs."""

import pytest

from masqmail.delivery.parallel import Speed, connections_that_pay, messages_under_way

GEO_SETUP = 4.2
LTE_SETUP = 1.05


@pytest.mark.parametrize(
    ("waiting", "speed", "most", "wanted"),
    [
        pytest.param(50, Speed(GEO_SETUP, 0.6), 4, 4, id="without CHUNKING each message waits for a satellite"),
        pytest.param(50, Speed(GEO_SETUP, 0.6), 3, 3, id="never more than the route allows"),
        pytest.param(5, Speed(GEO_SETUP, 0.6), 4, 1, id="five are through before a second one is set up"),
        pytest.param(50, Speed(GEO_SETUP, 0.3, 0.1), 4, 3, id="three fill the line"),
        pytest.param(50, Speed(LTE_SETUP, 0.3, 0.025), 4, 4, id="the server is the slow part"),
        pytest.param(50, Speed(1.4, 0.46, 0.46), 4, 1, id="the line is the slow part"),
        pytest.param(50, Speed(LTE_SETUP, 0.002, 0.025), 4, 1, id="a quick server"),
        pytest.param(50, Speed(LTE_SETUP, 0.05), 4, 4, id="a server that is slow already with its first message"),
        pytest.param(60, Speed(0.005, 0.0005), 4, 1, id="nothing worth a connection is saved next door"),
        pytest.param(100_000, Speed(0.005, 0.003, 0.0001), 4, 4, id="a big queue next door"),
        pytest.param(0, Speed(0.005, 0.3), 4, 1, id="nothing waits"),
    ],
)
def test_as_many_connections_as_pay(waiting: int, speed: Speed, most: int, wanted: int) -> None:
    assert connections_that_pay(waiting, speed, most) == wanted


@pytest.mark.parametrize(
    ("speed", "round_trip", "wanted"),
    [
        (Speed(1, 0.3), 0.6, 4),
        (Speed(1, 0.3, 0.025), 0.15, 3),
        (Speed(1, 0.3, 0.46), 0.2, 4),
        (Speed(1, 0.01, 0.46), 0.2, 64),  # the line is all that counts: it must never be idle
        (Speed(1, 0.001, 0.0005), 0.6, 64),
        (Speed(1, 0.0), 0.6, 64),
    ],
)
def test_what_is_under_way_keeps_a_slow_server_at_work_and_is_not_missing_elsewhere(
    speed: Speed, round_trip: float, wanted: int
) -> None:
    assert messages_under_way(speed, round_trip, 64) == wanted


def test_a_host_is_slow_at_once_and_fast_only_when_it_is_proven() -> None:
    known = Speed(1, 0.1)
    assert Speed(1, 0.2).is_news(known)
    assert not Speed(1, 0.11).is_news(known)
    assert not Speed(1, 0.0, messages=2).is_news(known)
    assert Speed(1, 0.0, messages=3).is_news(known)
    assert Speed(1, 0.0).is_news(None)


def test_it_is_news_that_a_speed_is_proven() -> None:
    assert Speed(1, 0.1, messages=3).is_news(Speed(1, 0.1))
    assert not Speed(1, 0.1, messages=4).is_news(Speed(1, 0.1, messages=3))
