"""How many connections a queue is sent over on different lines, and how long that takes."""

import asyncio
from typing import Any

import pytest

from masqmail.config.routes import Mechanism, Tls
from masqmail.delivery import meter, smtp
from masqmail.spool.states import State
from support.assembly import HOP, Assembly, rules, smarthost
from support.scripted_server import ALL_KEYWORDS
from support.slowline import Line, run_in_virtual_time

MESSAGES = 50
SIZE_BYTES = 3000
GEO = {"round_trip_seconds": 0.6, "bytes_per_second": 32_000}
LTE = {"round_trip_seconds": 0.15, "bytes_per_second": 125_000}
MODEM = {"round_trip_seconds": 0.2, "bytes_per_second": 7_000}
LEO = {"round_trip_seconds": 0.04, "bytes_per_second": 2_500_000}
LAN = {"round_trip_seconds": 0.0005, "bytes_per_second": 100_000_000}
WITHOUT_CHUNKING = tuple(word for word in (*ALL_KEYWORDS, "AUTH LOGIN") if word != "CHUNKING")
LOCK_STEP = ("AUTH LOGIN", "SIZE 50000000")
LOGIN_ALONE = ["EHLO", "AUTH", "bWU=", "c2VzYW1l", "QUIT"]


def connected(monkeypatch: pytest.MonkeyPatch, line: Line, *, connections: int) -> Assembly:
    """The middle of the daemon with real connections, over the line."""
    monkeypatch.setattr(smtp, "open_stream", line.connect)
    monkeypatch.setattr(meter, "tcp_info", lambda sock: sock.info())
    daemon = Assembly(rules(smarthost(), connections={"isp": connections}))
    daemon.lanes._send = smtp.send
    daemon.lanes.transports = daemon.transports(
        username="me", tls=Tls.NONE, auth=(Mechanism.LOGIN,), max_connections=connections
    )
    return daemon


def drain(
    monkeypatch: pytest.MonkeyPatch, line: Line, *, connections: int = 4, messages: int = MESSAGES, runs: int = 1
) -> float:
    """Sends a queue over a line; returns the seconds from the first packet to the last message taken."""

    async def work() -> float:
        daemon = connected(monkeypatch, line, connections=connections)
        began = 0.0
        async with daemon.running():
            for run in range(runs):
                line.servers.clear()
                line.connected_at.clear()
                for number in range(messages):
                    body = b"x" * (SIZE_BYTES - 2) + b"\r\n"
                    await daemon.accept(f"m{run}-{number}", "bob@far.example", tell=False, body=body)
                began = asyncio.get_running_loop().time()
                daemon.scheduler.note_classes({daemon.remote("bob@far.example").route_class})
                await asyncio.sleep(0.001)
                await daemon.scheduler.wait_until_idle()
                assert State.QUEUED not in daemon.states()
        assert len(line.taken) == messages
        return line.last_taken_at - began

    seconds: Any = run_in_virtual_time(work)
    return float(seconds)


@pytest.mark.parametrize(
    ("line", "connections", "limit"),
    [
        # A quick server with CHUNKING: one connection fills every line.
        pytest.param(Line(**GEO), 1, 10.0, id="geo"),
        pytest.param(Line(**LTE), 1, 2.7, id="lte"),
        pytest.param(Line(**MODEM), 1, 25.0, id="modem"),
        pytest.param(Line(**LEO), 1, 0.6, id="leo"),
        pytest.param(Line(**LAN), 1, 0.1, id="lan"),
        # A server that works 0.3 s on each message.
        pytest.param(Line(**GEO, message_seconds=0.3), 4, 12.1, id="geo-slow-server"),
        pytest.param(Line(**LTE, message_seconds=0.3), 4, 5.4, id="lte-slow-server"),
        pytest.param(Line(**MODEM, message_seconds=0.3), 1, 25.0, id="modem-slow-server"),
        pytest.param(Line(**LEO, message_seconds=0.3), 4, 4.8, id="leo-slow-server"),
        pytest.param(Line(**LAN, message_seconds=0.3), 4, 4.2, id="lan-slow-server"),
        # Without CHUNKING each message waits for the line.
        pytest.param(Line(**GEO, keywords=WITHOUT_CHUNKING), 4, 14.0, id="geo-data"),
        pytest.param(Line(**LTE, keywords=WITHOUT_CHUNKING), 4, 3.6, id="lte-data"),
        pytest.param(Line(**MODEM, keywords=WITHOUT_CHUNKING), 4, 26.0, id="modem-data"),
        pytest.param(Line(**LAN, keywords=WITHOUT_CHUNKING), 1, 0.1, id="lan-data"),
        pytest.param(Line(**GEO, keywords=LOCK_STEP), 4, 40.0, id="geo-lock-step"),
    ],
)
def test_as_many_connections_as_the_line_and_the_server_ask_for(
    monkeypatch: pytest.MonkeyPatch, line: Line, connections: int, limit: float
) -> None:
    assert drain(monkeypatch, line) < limit
    assert len(line.used) == connections
    assert line.most_open <= 4
    for server in line.servers:  # a connection that was not needed has cost a few small packets
        assert server.taken or [verb.split(" ")[0] for verb in server.commands] == LOGIN_ALONE


def test_connections_that_paid_the_last_time_are_opened_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(**GEO, keywords=WITHOUT_CHUNKING)
    assert drain(monkeypatch, line, runs=2) < 14.0
    assert line.connected_at == pytest.approx([line.connected_at[0]] * 4)


def test_others_connect_as_soon_as_the_first_packet_has_no_answer_over_a_long_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Line(**GEO, keywords=WITHOUT_CHUNKING, extra_trips=0)
    drain(monkeypatch, line)
    assert line.connected_at == pytest.approx([0.0, 0.02, 0.02, 0.04], abs=0.01)


def test_nobody_else_connects_where_the_first_packet_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(**LAN)
    drain(monkeypatch, line)
    assert len(line.servers) == 1


def test_the_first_messages_of_all_connections_do_not_wait_on_the_line_for_further_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Line(**LTE, message_seconds=0.3)
    trips_until_ready, four_on_the_line = 6.5, 0.12
    per_connection = 13 * 0.3
    assert drain(monkeypatch, line, runs=2) < (trips_until_ready + 1) * 0.15 + four_on_the_line + per_connection


def test_no_connection_in_reserve_is_made_the_next_time_for_a_server_that_was_quick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Line(**GEO)
    drain(monkeypatch, line, runs=2)
    assert len(line.servers) == 1


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("limit", [1, 3])
def test_a_server_that_wants_fewer_connections_gets_all_over_those(
    monkeypatch: pytest.MonkeyPatch, limit: int, runs: int
) -> None:
    line = Line(**GEO, keywords=WITHOUT_CHUNKING, connection_limit=limit)
    drain(monkeypatch, line, runs=runs)
    assert len(line.used) == limit
    assert len(line.servers) <= 4 + 2


def test_a_server_that_refuses_all_gets_no_other_connection_from_those_in_reserve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Line(**GEO, connection_limit=0)

    async def work() -> None:
        daemon = connected(monkeypatch, line, connections=4)
        async with daemon.running():
            for number in range(MESSAGES):
                await daemon.accept(f"m{number}", "bob@far.example", tell=False)
            daemon.scheduler.note_classes({daemon.remote("bob@far.example").route_class})
            await asyncio.sleep(0.001)
            await daemon.scheduler.wait_until_idle()
            assert set(daemon.states()) == {State.QUEUED}
            assert daemon.pauses.of("isp", str(HOP))

    run_in_virtual_time(work)
    assert len(line.servers) == 4


def test_work_is_shared_fairly(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(**LTE, message_seconds=0.3)
    drain(monkeypatch, line, runs=2)
    assert sorted(len(server.taken) for server in line.servers) == [12, 12, 13, 13]


def test_messages_do_not_wait_for_a_connection_that_is_long_in_coming_while_another_has_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line, connect = Line(**GEO, keywords=WITHOUT_CHUNKING), Line.connect
    is_first = iter([True])

    async def connect_late(*details: Any) -> Any:
        details[-1]()  # dialling
        if next(is_first, False):
            await asyncio.sleep(30)
        return await connect(line, *details)

    monkeypatch.setattr(line, "connect", connect_late)
    assert drain(monkeypatch, line) < 20.0


@pytest.mark.parametrize("slow", [{"message_seconds": 0.3}, {"keywords": WITHOUT_CHUNKING}])
def test_one_connection_is_all_unless_the_route_allows_more(
    monkeypatch: pytest.MonkeyPatch, slow: dict[str, Any]
) -> None:
    line = Line(**GEO, **slow)
    drain(monkeypatch, line, connections=1)
    assert len(line.servers) == 1


def test_a_few_messages_are_not_worth_a_second_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(**GEO, keywords=WITHOUT_CHUNKING)
    drain(monkeypatch, line, messages=4)
    assert len(line.servers) == 1


def test_without_chunking_a_message_costs_one_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(round_trip_seconds=0.6, bytes_per_second=1e9, keywords=WITHOUT_CHUNKING, extra_trips=0)
    seconds = drain(monkeypatch, line, connections=1)
    trips_until_ready = 6
    assert (seconds / 0.6 - trips_until_ready) / MESSAGES <= 1.05


@pytest.mark.parametrize("keywords", [(*ALL_KEYWORDS, "AUTH LOGIN"), WITHOUT_CHUNKING], ids=["stream", "group"])
def test_what_comes_while_a_message_is_on_a_long_line_does_not_wait_for_its_reply(
    monkeypatch: pytest.MonkeyPatch, keywords: tuple[str, ...]
) -> None:
    line = Line(**GEO, keywords=keywords)

    async def work() -> None:
        daemon = connected(monkeypatch, line, connections=1)
        async with daemon.running():
            await daemon.accept("first", "bob@far.example", tell=False)
            daemon.scheduler.note_classes({daemon.remote("bob@far.example").route_class})
            while not line.taken:
                await asyncio.sleep(0.01)
            first_at = line.last_taken_at  # its reply is on the way back
            await daemon.accept("second", "bob@far.example", tell=False)
            daemon.scheduler.note_classes({daemon.remote("bob@far.example").route_class})
            while len(line.taken) < 2:
                await asyncio.sleep(0.01)
            trips = 0.5 if "CHUNKING" in keywords else 1.5
            assert line.last_taken_at - first_at == pytest.approx(trips * 0.6, abs=0.05)

    run_in_virtual_time(work)
