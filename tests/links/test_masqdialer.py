"""The detector with a real little server on loopback."""

import socket
from datetime import timedelta

import anyio
import pytest

from masqmail.links import masqdialer
from masqmail.links.detector import Observation
from masqmail.links.masqdialer import MasqdialerDetector, Options
from masqmail.routing.link import LinkState
from masqmail.settings import HostPort
from masqmail.system.clock import FakeClock
from support.mserver import masqdialer_server

pytestmark = pytest.mark.anyio


def detector(port: int, link: str = "modem", clock: FakeClock | None = None) -> MasqdialerDetector:
    return MasqdialerDetector(link, Options(HostPort("127.0.0.1", port)), clock or FakeClock())


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        (b"UP modem:33600\n", LinkState.UP, "names it"),
        (b"UP modem:0\r\n", LinkState.UP, "names it"),
        (b"UP:modem:33600\r\n", LinkState.UP, "names it"),
        (b"UP Modem:33600\n", LinkState.DOWN, 'names "Modem"'),
        (b"UP isdn:64000\n", LinkState.DOWN, 'names "isdn"'),
        (b"UP modem:-1\n", LinkState.DOWN, 'is still dialling "modem"'),
        (b"DOWN\n", LinkState.DOWN, "says that no line is up"),
        (b"UP modem\n", LinkState.UNKNOWN, 'answered "UP modem", which makes no sense'),
        (b"\xff\xfe\0\x1b[2J\n", LinkState.UNKNOWN, 'answered "\\ufffd\\ufffd\\x00\\x1b[2J", which makes no sense'),
        (b"x" * 1_000_000, LinkState.UNKNOWN, "sent a line of more than 255 bytes"),
        (b"\n" * 1_000_000, LinkState.UNKNOWN, "sends nothing but blank lines"),
    ],
)
async def test_what_the_server_says_is_the_state_of_the_link(answer: bytes, state: LinkState, reason: str) -> None:
    with masqdialer_server(b"READY\r\n", answer) as server:
        assert await detector(server.port).ask() == Observation(state, f"127.0.0.1:{server.port} {reason}")


async def test_the_dialogue_ends_with_quit_without_an_end_of_line() -> None:
    with masqdialer_server(b"READY\n", b"UP modem:1\n") as server:
        await detector(server.port).ask()
    assert server.hears == [b"STAT\nQUIT"]


@pytest.mark.parametrize("says", [(), (b"READY",), (b"READY\n", b"UP modem:1"), (b"READY\n", b"")])
async def test_a_server_that_closes_early_tells_nothing(says: tuple[bytes, ...]) -> None:
    with masqdialer_server(*says, waits=False) as server:
        assert await detector(server.port).ask() == Observation(
            LinkState.UNKNOWN, f"127.0.0.1:{server.port} hung up before it had answered"
        )


async def test_a_server_that_closes_right_after_its_answer_has_answered() -> None:
    with masqdialer_server(b"READY\n", b"UP modem:1\n", waits=False) as server:
        assert (await detector(server.port).ask()).state is LinkState.UP


@pytest.mark.parametrize("says", [(), (b"READY",), (b"READY\n",), (b"READY\n", b"UP modem:1")])
async def test_a_silent_server_tells_nothing(says: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that sends half a line does."""
    open_socket = masqdialer.dial.open_socket
    monkeypatch.setattr(masqdialer, "LINE_SECONDS", 0.05)
    monkeypatch.setattr(  # to connect may take longer
        masqdialer.dial, "open_socket", lambda address, **_: open_socket(address, timeout_seconds=5)
    )
    with masqdialer_server(*says) as server, anyio.fail_after(5):
        assert await detector(server.port).ask() == Observation(
            LinkState.UNKNOWN, f"127.0.0.1:{server.port} sent no line within 15 s"
        )


async def test_a_slow_server_has_its_time_for_each_line_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines: list[float] = []
    move_on_after = anyio.move_on_after

    def recorded(seconds: float) -> anyio.CancelScope:
        deadlines.append(seconds)
        return move_on_after(seconds)

    monkeypatch.setattr(anyio, "move_on_after", recorded)
    with masqdialer_server(b"READY\n", b"UP modem:1\n") as server:
        assert (await detector(server.port).ask()).state is LinkState.UP
    assert deadlines[-2:] == [15.0, 15.0]


async def test_a_server_that_is_not_there_tells_nothing() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert await detector(port).ask() == Observation(
            LinkState.UNKNOWN, f"cannot connect to 127.0.0.1:{port}: connection refused"
        )


async def test_a_name_that_is_none_tells_nothing() -> None:
    options = Options(HostPort("masqdialer.invalid", 224))
    observation = await MasqdialerDetector("modem", options, FakeClock()).ask()
    assert observation.state is LinkState.UNKNOWN and "masqdialer.invalid" in observation.reason


async def test_the_port_is_224_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[HostPort] = []

    async def refuse(address: HostPort, **_: object) -> None:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(masqdialer.dial, "open_socket", refuse)
    for options in (Options(), Options(HostPort("gateway")), Options(HostPort("gateway", 7))):
        await MasqdialerDetector("modem", options, FakeClock()).ask()
    assert asked == [HostPort("localhost", 224), HostPort("gateway", 224), HostPort("gateway", 7)]


async def test_links_that_ask_at_the_same_time_share_one_answer() -> None:
    found: dict[str, LinkState] = {}

    async def ask(link: str) -> None:
        found[link] = (await detectors[link].ask()).state

    with masqdialer_server(b"READY\n", b"UP isdn:64000\n") as server:
        detectors = {link: detector(server.port, link) for link in ("modem", "isdn", "umts")}
        async with anyio.create_task_group() as group:
            for link in detectors:
                group.start_soon(ask, link)
        assert found == {"modem": LinkState.DOWN, "isdn": LinkState.UP, "umts": LinkState.DOWN}
        assert len(server.hears) == 1
        server.says = (b"READY\n", b"UP modem:33600\n")
        assert (await detectors["modem"].ask()).state is LinkState.UP
        assert (await detectors["isdn"].ask()).state is LinkState.DOWN


async def test_one_that_is_stopped_while_it_asks_leaves_the_others_an_answer() -> None:
    found: list[Observation] = []

    async def ask(asker: MasqdialerDetector) -> None:
        found.append(await asker.ask())

    with masqdialer_server() as server, anyio.fail_after(10):  # silent at first
        first, second = detector(server.port, "modem"), detector(server.port, "isdn")
        async with anyio.create_task_group() as group, anyio.create_task_group() as stopped:
            stopped.start_soon(first.ask)
            while not server.hears:
                await anyio.sleep(0)
            group.start_soon(ask, second)
            await anyio.sleep(0)
            server.says = (b"READY\n", b"UP isdn:64000\n")
            stopped.cancel_scope.cancel()
    assert [observation.state for observation in found] == [LinkState.UP]
    assert server.hears == [b"", b"STAT\nQUIT"]


async def test_it_is_asked_again_after_the_interval() -> None:
    clock = FakeClock()
    with masqdialer_server(b"READY\n", b"DOWN\n") as server:
        watch = detector(server.port, clock=clock).watch()
        found: list[LinkState] = []

        async def collect() -> None:
            async for observation in watch:
                found.append(observation.state)

        async with anyio.create_task_group() as group:
            group.start_soon(collect)
            for number in (1, 2):
                with anyio.fail_after(5):
                    while len(found) < number or not clock.sleepers:
                        await anyio.sleep(0)
                server.says = (b"READY\n", b"UP modem:33600\n")
                clock.advance(timedelta(seconds=5))
            group.cancel_scope.cancel()
        await watch.aclose()
    assert found[:2] == [LinkState.DOWN, LinkState.UP]
