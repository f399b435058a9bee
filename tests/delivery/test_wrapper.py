"""SMTP over the standard input and output of a program, as `wrapper` asks for it."""

import os
import ssl
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
import trustme

from masqmail.delivery.connect import Memory, Options
from masqmail.delivery.smtp import SessionEnd, send
from masqmail.mail.outcome import Culprit, Delivered
from masqmail.net import wrapper
from masqmail.net.errors import ConnectFailure
from masqmail.net.session import TlsMode
from masqmail.net.wrapper import MAX_LINES, open_wrapped
from masqmail.settings import HostPort
from masqmail.system import events
from support.listfeed import ListFeed, transaction
from support.scripted_server import Listener, ScriptedServer, listening

pytestmark = pytest.mark.anyio

SHORE = HostPort("shore.test", 25)
OPTIONS = Options("laptop.test", tls=TlsMode.NONE, linger=timedelta(0))

#: What `nc` does: standard input and output are a connection.
RELAY = """
import os, socket, sys, threading
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
if "swallow" in sys.argv:
    sock.recv(1000)
def there():
    while data := os.read(0, 65536):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
threading.Thread(target=there, daemon=True).start()
while data := sock.recv(65536):
    os.write(1, data)
"""


def relay(listener: Listener, *words: str) -> Options:
    command = (sys.executable, "-ISc", RELAY, str(listener.address.port), *words)
    return replace(OPTIONS, wrapper=command)


def shell(script: str) -> Options:
    return replace(OPTIONS, wrapper=("/bin/sh", "-c", script))


async def deliver(options: Options, *names: str) -> tuple[SessionEnd, ListFeed]:
    feed = ListFeed(*(transaction(name) for name in names or ("m1",)))
    with anyio.fail_after(20):
        return await send(SHORE, options, feed, Memory()), feed


def unheard(program: str, line: str) -> None:
    raise AssertionError(f"{program} has said {line}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, object]]]:
    found: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(events, "emit", lambda name, **fields: found.append((name, fields)))
    return found


async def test_messages_go_through_the_program(tmp_path: Path) -> None:
    big = tmp_path / "body"
    big.write_bytes(b"0123456789abcdef\r\n" * 60_000)
    feed = ListFeed(transaction("m1"), transaction("m2", body=big), transaction("m3"))
    async with listening(ScriptedServer) as listener:
        end = await send(SHORE, relay(listener), feed, Memory())
    (server,) = listener.servers
    assert end == SessionEnd(progress=True)
    assert [len(taken.content) for taken in server.taken][1] > 1_000_000
    assert all(isinstance(outcome, Delivered) for (outcome,) in feed.outcomes.values())
    assert server.commands[-1] == "QUIT"


async def test_starttls_is_spoken_through_the_program_with_the_name_of_the_smarthost() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("shore.test").configure_cert(context)
    memory = Memory()
    options_tls = TlsMode.STARTTLS
    async with listening(lambda: ScriptedServer(keywords=("STARTTLS",)), tls=context) as listener:
        options = replace(relay(listener), tls=options_tls)
        trusting = await memory.context(options)
        authority.configure_trust(trusting)
        end = await send(SHORE, options, ListFeed(transaction("m1")), memory)
        other = await send(HostPort("sea.test", 25), options, ListFeed(transaction("m2")), memory)
    assert end == SessionEnd(progress=True)
    assert other.culprit is Culprit.TLS


async def test_without_starttls_on_offer_nothing_is_sent_unless_tls_is_written_off() -> None:
    async with listening(lambda: ScriptedServer(keywords=())) as listener:
        end, feed = await deliver(replace(relay(listener), tls=TlsMode.STARTTLS))
    assert (end.culprit, feed.taken) == (Culprit.TLS, [])


async def test_a_greeting_that_the_program_swallowed_is_not_waited_for() -> None:
    async with listening(ScriptedServer) as listener:
        end, _ = await deliver(replace(relay(listener, "swallow"), send_first=True))
        assert end == SessionEnd(progress=True)
        end, _ = await deliver(replace(relay(listener), send_first=True))  # one that is sent does no harm
        assert end == SessionEnd(progress=True)


@pytest.mark.parametrize("command", ["/nonexistent/ssh", "/etc/passwd"])
async def test_a_program_that_cannot_be_started_is_a_failed_connection(command: str) -> None:
    end, feed = await deliver(replace(OPTIONS, wrapper=(command,)))
    assert end.culprit is Culprit.CONNECTION and end.reason.startswith(f"cannot run {command}: ")
    assert feed.taken == []


async def test_a_program_that_ends_is_a_failed_connection_with_its_last_words_as_the_reason(
    log: list[tuple[str, dict[str, object]]],
) -> None:
    end, _ = await deliver(shell("echo trying >&2; printf 'no route to shore' >&2; exit 255"))
    assert (end.culprit, end.progress) == (Culprit.CONNECTION, False)
    assert end.reason.endswith("; sh ended with exit code 255: no route to shore")
    assert [fields["line"] for name, fields in log if name == events.PROGRAM_SAID] == ["trying", "no route to shore"]


async def test_what_a_program_says_is_bounded_and_made_harmless(log: list[tuple[str, dict[str, object]]]) -> None:
    await deliver(
        shell("printf '\\033[2Jred\\n' >&2; i=0; while [ $i -lt 99 ]; do echo $i >&2; i=$((i+1)); done; exit 1")
    )
    lines = [str(fields["line"]) for name, fields in log if name == events.PROGRAM_SAID]
    assert lines[:2] == ["[2Jred", "0"] and len(lines) == MAX_LINES
    log.clear()
    end, _ = await deliver(shell("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1"))
    assert all(len(str(fields["line"])) <= 300 for name, fields in log if name == events.PROGRAM_SAID)
    assert len(end.reason) < 500


async def test_its_standard_error_is_no_part_of_the_session() -> None:
    async with listening(ScriptedServer) as listener:
        options = relay(listener)
        script = 'echo "250 this is no reply" >&2; exec "$@"'
        end, _ = await deliver(replace(options, wrapper=("/bin/sh", "-c", script, "sh", *options.wrapper)))
    assert end == SessionEnd(progress=True)


async def test_a_program_that_does_not_end_by_itself_is_ended_with_all_that_it_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(wrapper, "GRACE_SECONDS", 0.05)
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 1000 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait; sleep 1000"
    stream, _, program = await open_wrapped(("/bin/sh", "-c", script), unheard)
    with anyio.fail_after(10):
        while not pids.exists():
            await anyio.sleep(0.005)
    stream.abort()
    await program.end(0.0)
    assert program.verdict == ""  # that was our doing
    for pid in map(int, pids.read_text().split()):
        await _gone(pid)


async def test_a_session_that_is_cancelled_ends_its_program(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    options = shell(f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 1000")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send, SHORE, options, ListFeed(transaction("m1")), Memory())
        with anyio.fail_after(10):
            while not pid.exists():
                await anyio.sleep(0.005)
        tasks.cancel_scope.cancel()
    await _gone(int(pid.read_text()))


async def test_nothing_stays_open_when_the_program_cannot_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(24, "Too many open files")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(ConnectFailure, match="cannot run sleep: Too many open files"):
        await open_wrapped(("sleep", "1000"), unheard)
    assert len(os.listdir("/proc/self/fd")) == before


async def _gone(pid: int) -> None:
    """Returns when there is no such process any more: one that was killed still has to die."""
    with anyio.fail_after(5):
        while _is_running(pid):
            await anyio.sleep(0.005)


def _is_running(pid: int) -> bool:
    """Whether there is such a process; a dead one that nobody has waited for does not count."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
