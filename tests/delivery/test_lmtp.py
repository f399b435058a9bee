"""Delivery to an LMTP server on a Unix socket or on loopback: one outcome, whatever the server does."""

import socket
import threading
from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest

from masqmail.delivery import lmtp
from masqmail.delivery.job import Content
from masqmail.delivery.lmtp import Letter
from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Envelope, Recipient
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, NotTried, Outcome
from support.scripted_server import ALL_KEYWORDS, DROP, TAKE_AND_DROP, ScriptedServer, listening

pytestmark = pytest.mark.anyio

HEADER = b"Delivered-To: bob@gw.example\r\nSubject: one\r\n"
BODY = b"one\r\n.two\r\n..\r\n"


def letter(body: bytes | Path = BODY) -> Letter:
    size = body.stat().st_size if isinstance(body, Path) else len(body)
    envelope = Envelope(Mailbox("ann", "home.example"), (Recipient(Mailbox("bob+x", "")),))
    return Letter(envelope, Content(HEADER, body).chunks(), len(HEADER) + 2 + size, needs_8bit=True)


async def deliver(address: str, what: Letter, stop: threading.Event | None = None) -> Outcome:
    """In a thread, as the agent does."""
    return await anyio.to_thread.run_sync(partial(lmtp.deliver, address, what, helo_name="gw.example", stop=stop))


async def hand(tmp_path: Path, server: ScriptedServer, what: Letter | None = None) -> Outcome:
    server.lmtp = True
    async with listening(lambda: server, path=tmp_path / "lmtp"):
        return await deliver(str(tmp_path / "lmtp"), what or letter())


def answering(step: str, reply: str, keywords: tuple[str, ...] = ALL_KEYWORDS) -> ScriptedServer:
    return ScriptedServer(keywords=keywords, policy=lambda at, _: reply if at == step else None)


@pytest.mark.parametrize("keywords", [ALL_KEYWORDS, ("PIPELINING", "8BITMIME"), ()])
async def test_the_message_arrives_over_a_unix_socket(tmp_path: Path, keywords: tuple[str, ...]) -> None:
    server = ScriptedServer(keywords=keywords)
    outcome = await hand(tmp_path, server)
    assert isinstance(outcome, Delivered)
    assert (outcome.handover, outcome.remote_host) == (Handover.MAILBOX, "")
    (taken,) = server.taken
    assert (taken.sender, taken.recipients) == ("ann@home.example", ("bob+x",))
    assert taken.content == HEADER + b"\r\n" + BODY
    assert server.commands[0] == "LHLO gw.example"
    assert ("BODY=8BITMIME" in server.commands[1]) == ("8BITMIME" in keywords)


async def test_host_and_port_do_as_well() -> None:
    server = ScriptedServer(lmtp=True)
    async with listening(lambda: server) as listener:
        outcome = await deliver(str(listener.address), letter())
    assert isinstance(outcome, Delivered)


@pytest.mark.parametrize("keywords", [ALL_KEYWORDS, ("PIPELINING",), ()])
async def test_a_big_body_is_read_from_its_file(tmp_path: Path, keywords: tuple[str, ...]) -> None:
    big = tmp_path / "body"
    big.write_bytes(b"x" * 70 + b"\r\n" + b".\r\n" * 100_000)
    server = ScriptedServer(keywords=keywords)
    assert isinstance(await hand(tmp_path, server, letter(big)), Delivered)
    assert server.taken[0].content == HEADER + b"\r\n" + big.read_bytes()


@pytest.mark.parametrize("step", ["RCPT", "CONTENT"])
@pytest.mark.parametrize("keywords", [ALL_KEYWORDS, ("PIPELINING",), ()])
async def test_the_verdict_of_the_mailbox_fails_or_defers(
    tmp_path: Path, step: str, keywords: tuple[str, ...]
) -> None:
    failed = await hand(tmp_path, answering(step, "550 5.1.1 Who is that?", keywords))
    assert isinstance(failed, Failed)
    assert "550 5.1.1 Who is that?" in failed.reason
    assert not failed.said_by_peer, "no report may name the socket as a host"
    (tmp_path / "lmtp").unlink(missing_ok=True)
    deferred = await hand(tmp_path, answering(step, "452 4.2.2 Mailbox full", keywords))
    assert isinstance(deferred, Deferred)
    assert (deferred.status.enhanced, deferred.in_doubt) == ("4.2.2", False)


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("CONNECT", "421 4.3.2 Not now"),
        ("CONNECT", "554 5.3.2 Not for you"),
        ("CONNECT", "220"),
        ("CONNECT", "hello"),
        ("CONNECT", DROP),
        ("LHLO", "500 5.5.1 What?"),
        ("RCPT", DROP),
    ],
)
async def test_trouble_with_the_server_is_none_of_the_message(tmp_path: Path, step: str, reply: str) -> None:
    server = answering(step, reply)
    if reply == "220":
        server.keywords = ("PIPELINING",)
        assert isinstance(await hand(tmp_path, server), Delivered)
        return
    outcome = await hand(tmp_path, server)
    assert isinstance(outcome, NotTried | Deferred)
    assert server.taken == []


async def test_a_server_that_goes_before_its_answer_leaves_a_doubt(tmp_path: Path) -> None:
    outcome = await hand(tmp_path, answering("CONTENT", TAKE_AND_DROP))
    assert isinstance(outcome, Deferred)
    assert outcome.in_doubt


@pytest.mark.parametrize("address", ["/nonexistent/lmtp", "127.0.0.1:1"])
async def test_no_server_is_no_failure(address: str) -> None:
    outcome = await deliver(address, letter())
    assert isinstance(outcome, NotTried)
    assert outcome.culprit is Culprit.CONNECTION
    assert address in outcome.reason


async def test_a_server_that_keeps_silent_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmtp, "LONGEST_WAIT_SECONDS", 0.02)
    outcome = await hand(tmp_path, answering("LHLO", "250-not finished"))
    assert isinstance(outcome, NotTried)
    assert outcome.reason == f"{tmp_path}/lmtp: no answer within 0.02 s"


async def test_a_message_that_cannot_be_read_is_put_off(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x\r\n")
    what = letter(body)
    body.unlink()
    server = ScriptedServer(keywords=("PIPELINING",))
    outcome = await hand(tmp_path, server, what)
    assert isinstance(outcome, NotTried)
    assert (outcome.culprit, server.taken) == (Culprit.LOCAL, [])


async def test_a_delivery_that_is_stopped_ends_soon(tmp_path: Path) -> None:
    stop = threading.Event()

    def answer(step: str, subject: str) -> str | None:
        stop.set()
        return "250-not finished" if step == "LHLO" else None

    server = ScriptedServer(policy=answer, lmtp=True)
    async with listening(lambda: server, path=tmp_path / "lmtp"):
        outcome = await deliver(str(tmp_path / "lmtp"), letter(), stop)
    assert isinstance(outcome, NotTried)
    assert outcome.reason == f"{tmp_path}/lmtp: the delivery was stopped"


async def test_what_the_server_said_before_it_hung_up_in_the_middle_of_the_message_counts(tmp_path: Path) -> None:
    """It refuses the recipient, and does not read the rest."""

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as sock:
            sock.sendall(b"220 x\r\n")
            sock.recv(1000)
            sock.sendall(b"250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
            sock.recv(10)
            sock.sendall(b"250 sender\r\n552 5.2.2 Mailbox full\r\n503 5.5.1 no recipient\r\n")

    big = tmp_path / "body"
    big.write_bytes(b"x" * 70 + b"\r\n" + b"y\r\n" * 1_000_000)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "lmtp"))
        listener.listen()
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        outcome = await deliver(str(tmp_path / "lmtp"), letter(big))
        server.join(10)
    assert isinstance(outcome, Failed)
    assert "552 5.2.2 Mailbox full" in outcome.reason
