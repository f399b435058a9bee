import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from masqmail.net import dial
from masqmail.net.dial import Endpoint, explain, look_up, open_socket, open_unix_socket
from masqmail.net.errors import ConnectFailure, NameFailure
from masqmail.settings import HostPort

pytestmark = pytest.mark.anyio


def v4(host: str, port: int = 0) -> Endpoint:
    return Endpoint(socket.AF_INET, (host, port))


def v6(host: str, port: int = 0) -> Endpoint:
    return Endpoint(socket.AF_INET6, (host, port, 0, 0))


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port where nobody listens, and nobody else can meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def resolves_to(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def set_endpoints(*endpoints: Endpoint) -> None:
        async def fake_look_up(host: str, port: int = 0) -> list[Endpoint]:
            return list(endpoints)

        monkeypatch.setattr(dial, "look_up", fake_look_up)

    return set_endpoints


@pytest.mark.parametrize(("host", "expected"), [("192.0.2.7", v4("192.0.2.7", 25)), ("::1", v6("::1", 25))])
async def test_a_numeric_address_is_itself(host: str, expected: Endpoint) -> None:
    assert await look_up(host, 25) == [expected]


@pytest.mark.parametrize("host", ["a" * 64 + ".example.org", "mail..example.org"])
async def test_what_cannot_be_a_name_is_a_name_failure(host: str) -> None:
    with pytest.raises(NameFailure, match="cannot be the name of a host"):
        await look_up(host)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (socket.EAI_AGAIN, "no answer from a name server"),
        (socket.EAI_NONAME, "has no address"),
        (socket.EAI_FAIL, "could not be resolved: some trouble"),
    ],
)
async def test_trouble_with_a_name_is_told_in_words(monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "Some trouble")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(NameFailure, match=words):
        await look_up("mail.example.org")


async def test_a_refused_connection_is_told_in_words(unused_port: int) -> None:
    with pytest.raises(ConnectFailure) as raised:
        await open_socket(HostPort("127.0.0.1", unused_port), timeout_seconds=5)
    assert raised.value.reason == f"cannot connect to 127.0.0.1:{unused_port}: connection refused"


async def test_every_address_that_failed_is_told_with_its_reason(
    resolves_to,  # type: ignore[no-untyped-def]
    unused_port: int,
) -> None:
    resolves_to(v4("127.0.0.1", unused_port), v4("255.255.255.255", 25))
    with pytest.raises(ConnectFailure) as raised:
        await open_socket(HostPort("mail.example.org", 25), timeout_seconds=5)
    assert "127.0.0.1: connection refused; 255.255.255.255: " in raised.value.reason


async def test_the_beginning_of_the_first_attempt_is_told_when_the_name_is_known(
    resolves_to,  # type: ignore[no-untyped-def]
) -> None:
    told: list[str] = []
    with pytest.raises(NameFailure):
        await open_socket(HostPort("nowhere.invalid", 25), timeout_seconds=5, begun=lambda: told.append("no address"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        resolves_to(v4("127.0.0.1", port))
        address = HostPort("mail.example.org", port)
        with await open_socket(address, timeout_seconds=5, begun=lambda: told.append("begun")):
            assert told == ["begun"]


async def test_the_next_address_is_tried_at_once_after_a_refusal(
    resolves_to,  # type: ignore[no-untyped-def]
    unused_port: int,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        resolves_to(v4("127.0.0.2", unused_port), v4("127.0.0.1", port))
        with await open_socket(HostPort("mail.example.org", port), timeout_seconds=5) as sock:
            assert sock.getpeername() == ("127.0.0.1", port)


async def test_a_silent_address_does_not_hold_up_the_next(
    resolves_to,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect = dial._connect

    async def connect_or_hang(endpoint: Endpoint, local_address: str) -> socket.socket:
        if endpoint.host == "127.0.0.2":
            await anyio.sleep_forever()
        return await connect(endpoint, local_address)

    monkeypatch.setattr(dial, "_connect", connect_or_hang)
    monkeypatch.setattr(dial, "ATTEMPT_DELAY_SECONDS", 0.001)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        resolves_to(v4("127.0.0.2", port), v4("127.0.0.1", port))
        with await open_socket(HostPort("mail.example.org", port), timeout_seconds=5) as sock:
            assert sock.getpeername() == ("127.0.0.1", port)


async def test_an_address_that_stays_silent_timed_out(
    resolves_to,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(endpoint: Endpoint, local_address: str) -> socket.socket:
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(dial, "_connect", hang)
    resolves_to(v4("192.0.2.1", 25))
    with pytest.raises(ConnectFailure, match=r"cannot connect to mail\.example\.org:25: timed out after 0\.001 s"):
        await open_socket(HostPort("mail.example.org", 25), timeout_seconds=0.001)


async def test_a_name_that_takes_too_long_is_a_name_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(host: str, port: int = 0) -> list[Endpoint]:
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(dial, "look_up", hang)
    with pytest.raises(NameFailure, match=r"could not be resolved within 0\.001 s"):
        await open_socket(HostPort("mail.example.org", 25), timeout_seconds=0.001)


async def test_the_local_address_is_the_one_asked_for(resolves_to) -> None:  # type: ignore[no-untyped-def]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        resolves_to(v6("::1", port), v4("127.0.0.1", port))
        with await open_socket(
            HostPort("mail.example.org", port), timeout_seconds=5, local_address="127.0.0.9"
        ) as sock:
            assert sock.getsockname()[0] == "127.0.0.9"
        resolves_to(v4("127.0.0.1", port))
        with pytest.raises(ConnectFailure, match="no address that can be reached from ::2"):
            await open_socket(HostPort("mail.example.org", port), timeout_seconds=5, local_address="::2")


def test_the_two_kinds_of_address_take_turns() -> None:
    found = [v6("::1"), v6("::2"), v6("::3"), v4("192.0.2.1")]
    assert [end.host for end in dial._in_turns(found)] == ["::1", "192.0.2.1", "::2", "::3"]


async def test_a_missing_unix_socket_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConnectFailure, match=r"submit\.sock: no such file or directory"):
        await open_unix_socket(tmp_path / "submit.sock", timeout_seconds=5)


async def test_a_unix_listener_that_is_too_busy_timed_out(tmp_path: Path) -> None:
    path = str(tmp_path / "submit.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with (
            await open_unix_socket(Path(path), timeout_seconds=5),
            pytest.raises(ConnectFailure, match=r"timed out after 0\.001 s"),
        ):
            await open_unix_socket(Path(path), timeout_seconds=0.001)


def test_errors_of_the_network_are_explained() -> None:
    assert explain(OSError(errno.EHOSTUNREACH, "x")) == "no route to host"
    assert explain(OSError(errno.EIO, "x")) == "input/output error"
    assert explain(OSError("something else")) == "something else"
