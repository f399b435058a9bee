"""`mservdetect` as a process, with a real little server on loopback."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from masqmail.cli import mservdetect as module
from support.mserver import masqdialer_server

SOURCES = Path(__file__).parents[2] / "src"
PROGRAM = (
    f"import sys; sys.path.insert(0, {str(SOURCES)!r}); from masqmail.cli.mservdetect import main; sys.exit(main())"
)


def mservdetect(*words: str) -> tuple[int, str, str]:
    """Exit code, output and complaint."""
    command = [sys.executable, "-I", "-c", PROGRAM, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"UP modem:33600\r\n", (0, "modem\n", "")),
        (b"UP my line:0\n", (0, "my line\n", "")),
        (b"UP modem:-1\n", (1, "", "")),
        (b"DOWN\n", (1, "", "")),
    ],
)
def test_it_prints_the_connection_that_is_up_and_nothing_else(answer: bytes, expected: tuple[int, str, str]) -> None:
    with masqdialer_server(b"READY\r\n", answer) as server:
        assert mservdetect("localhost", str(server.port)) == expected
    assert server.hears == [b"STAT\nQUIT"]


@pytest.mark.parametrize(
    ("says", "complaint"),
    [
        ((b"READY\n", b"what?\n"), 'answered "what?", which makes no sense'),
        ((b"READY\n", b"UP modem:1"), "hung up before it had answered"),
        ((b"220 hello\n",), 'said "220 hello" instead of READY'),
        ((b"READY\n", b"x" * 100_000), "sent a line of more than 255 bytes"),
    ],
)
def test_a_server_that_gives_no_answer_is_an_error(says: tuple[bytes, ...], complaint: str) -> None:
    with masqdialer_server(*says, waits=False) as server:
        found = mservdetect("127.0.0.1", str(server.port))
        assert found == (69, "", f"mservdetect: 127.0.0.1 port {server.port} {complaint}\n")


def test_a_silent_server_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "LINE_SECONDS", 0.05)
    with masqdialer_server(b"READY\n", b"UP modem:1") as server:
        monkeypatch.setattr(sys, "argv", ["mservdetect", "127.0.0.1", str(server.port)])
        assert module.main() == 69
    assert capsys.readouterr().err == f"mservdetect: 127.0.0.1 port {server.port} sent no line within 15 s\n"


def test_a_server_that_is_not_there_is_an_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        complaint = f"mservdetect: cannot connect to 127.0.0.1 port {port}: Connection refused\n"
        assert mservdetect("127.0.0.1", str(port)) == (69, "", complaint)


@pytest.mark.parametrize("host", ["masqdialer.invalid", "a" * 300, "bücher..example"])
def test_a_host_that_is_not_there_is_an_error(host: str) -> None:
    code, output, complaint = mservdetect(host, "224")
    assert (code, output) == (69, "")
    assert complaint.startswith(f"mservdetect: {host} cannot be found: ")
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    "words", [[], ["localhost"], ["localhost", "0"], ["localhost", "x"], ["a", "65536"], ["a", "1", "b"]]
)
def test_it_wants_a_host_and_a_port(words: list[str]) -> None:
    assert mservdetect(*words) == (64, "", module.USAGE)


def test_it_explains_itself() -> None:
    assert mservdetect("--help") == (0, module.USAGE, "")


def test_it_loads_little() -> None:
    code = f"{PROGRAM.partition('from')[0]}import os, _socket; before = set(sys.modules)\n"
    code += "import masqmail.cli.mservdetect as m; sys.argv = ['', '127.0.0.1', '1']; m.main()\n"
    code += "print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    own = {"masqmail", "masqmail.cli", "masqmail.cli.mservdetect", "masqmail.proto", "masqmail.proto.masqdialer"}
    assert set(done.stdout.split()) == own
