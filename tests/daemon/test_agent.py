"""Both agents give one outcome for every job, whatever happens to it."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from masqmail.daemon.agent import ParentAgent, ThreadAgent
from masqmail.daemon.parent import wire
from masqmail.daemon.parent.payload import decode_job, encode_outcome
from masqmail.delivery.forward import Forward
from masqmail.delivery.job import Content, LocalMethod
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Handover
from masqmail.mail.status import OK
from masqmail.net.errors import ListenFailure
from masqmail.settings import HostPort
from masqmail.spool.api import TargetKind
from support import local as support

pytestmark = pytest.mark.anyio

CONTENT = Content(b"Subject: one\r\n", b"body\r\n")
DELIVERED = Delivered(OK, handover=Handover.MAILBOX)
BOB = support.job(TargetKind.MAILBOX, "bob")


class Gone:
    """Counts how often the agent said that the parent is gone."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The daemon's end and the parent's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ours, theirs
    theirs.close()
    ours.close()


async def next_request(parent: socket.socket) -> tuple[wire.Request, list[int]]:
    await anyio.wait_readable(parent)
    packet, descriptors, _, _ = socket.recv_fds(parent, wire.MAX_PACKET_BYTES, wire.MAX_DESCRIPTORS)
    return wire.unpack_request(packet), descriptors


def reply(parent: socket.socket, request: wire.Request) -> None:
    parent.send(wire.pack_reply(request.number, encode_outcome(DELIVERED)))


# --- threads


def thread_agent(tmp_path: Path, uid: int = os.geteuid()) -> ThreadAgent:
    (tmp_path / "mail").mkdir()
    settings = support.settings(tmp_path, alias_user="bob", methods={"bob": LocalMethod.MAILDIR})
    return ThreadAgent(settings, {"bob": support.account("bob", uid, os.getegid(), tmp_path)}.get)


async def test_a_thread_delivers_to_our_own_user(tmp_path: Path) -> None:
    outcome = await thread_agent(tmp_path).deliver(BOB, CONTENT)
    assert isinstance(outcome, Delivered)
    (letter,) = (tmp_path / "mail" / "bob.d" / "new").iterdir()
    assert letter.read_bytes() == b"Subject: one\n\nbody\n"


async def test_without_root_nobody_else_gets_mail(tmp_path: Path) -> None:
    outcome = await thread_agent(tmp_path, os.geteuid() + 1).deliver(BOB, CONTENT)
    assert isinstance(outcome, Deferred)
    assert outcome.reason == "the daemon was not started as root, so it cannot deliver as bob"


async def test_a_missing_account_defers(tmp_path: Path) -> None:
    outcome = await thread_agent(tmp_path).deliver(support.job(TargetKind.MAILBOX, "carol"), CONTENT)
    assert isinstance(outcome, Deferred)
    assert outcome.culprit is Culprit.LOCAL


async def test_accounts_that_cannot_be_asked_defer(tmp_path: Path) -> None:
    def find(name: str) -> None:
        raise OSError(None, "the directory server does not answer")

    outcome = await ThreadAgent(support.settings(tmp_path), find).deliver(BOB, CONTENT)
    assert isinstance(outcome, Deferred)
    assert (outcome.culprit, outcome.reason) == (Culprit.LOCAL, "the directory server does not answer")


async def test_a_body_that_is_gone_defers(tmp_path: Path) -> None:
    outcome = await thread_agent(tmp_path).deliver(BOB, Content(b"", tmp_path / "gone"))
    assert isinstance(outcome, Deferred)
    assert outcome.reason == f"{tmp_path}/gone: no such file or directory"


async def test_a_bug_defers_and_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masqmail.delivery.maildir.put", lambda *_, **__: 1 / 0)
    outcome = await thread_agent(tmp_path).deliver(BOB, CONTENT)
    assert isinstance(outcome, Deferred)
    assert (outcome.culprit, "ZeroDivisionError" in outcome.reason) == (Culprit.US, True)


async def test_a_cancelled_delivery_is_told_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, stopped = threading.Event(), threading.Event()

    def deliver(plan: object, pieces: object, stop: threading.Event) -> Delivered:
        started.set()
        if stop.wait(30):
            stopped.set()
        return DELIVERED

    monkeypatch.setattr("masqmail.daemon.agent.deliver", deliver)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(thread_agent(tmp_path).deliver, BOB, CONTENT)
        await anyio.to_thread.run_sync(started.wait)
        tasks.cancel_scope.cancel()
    assert stopped.wait(30)


# --- the parent


async def test_the_parent_gets_the_job_and_the_content(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    agent = ParentAgent(pair[0], Gone())
    (tmp_path / "body").write_bytes(b"big\r\n")
    for content, parts in [
        (CONTENT, [b"Subject: one\r\n\r\nbody\r\n"]),
        (Content(b"Subject: one\r\n", tmp_path / "body"), [b"Subject: one\r\n\r\n", b"big\r\n"]),
    ]:
        delivery = asyncio.create_task(agent.deliver(BOB, content))
        request, descriptors = await next_request(pair[1])
        assert request.verb is wire.Verb.DELIVER
        assert decode_job(request.payload) == BOB
        assert [os.pread(descriptor, 100, 0) for descriptor in descriptors] == parts
        for descriptor in descriptors:
            os.close(descriptor)
        reply(pair[1], request)
        assert await delivery == DELIVERED
    agent.close()


async def test_replies_in_another_order_find_their_requests(pair: tuple[socket.socket, socket.socket]) -> None:
    agent = ParentAgent(pair[0], Gone())
    done: list[str] = []

    async def deliver(user: str) -> None:
        await agent.deliver(support.job(TargetKind.MAILBOX, user), CONTENT)
        done.append(user)

    async with anyio.create_task_group() as tasks:
        for user in ("a", "b", "c"):
            tasks.start_soon(deliver, user)
        requests = {}
        for _ in range(3):
            request, descriptors = await next_request(pair[1])
            os.close(descriptors[0])
            requests[decode_job(request.payload).target] = request
        for user in ("c", "a", "b"):
            reply(pair[1], requests[user])
    assert done == ["c", "a", "b"]
    agent.close()


async def test_a_late_reply_to_a_cancelled_request_is_dropped_with_its_descriptors(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    agent = ParentAgent(pair[0], Gone())
    opening = asyncio.create_task(agent.listen(HostPort("127.0.0.1", 25)))
    request, _ = await next_request(pair[1])
    assert request.payload == b"127.0.0.1:25"
    opening.cancel()
    await asyncio.wait([opening])
    before = os.listdir("/proc/self/fd")
    with open(os.devnull) as file:
        socket.send_fds(pair[1], [wire.pack_reply(request.number, b"")], [file.fileno()])
    delivery = asyncio.create_task(agent.deliver(BOB, CONTENT))
    request, descriptors = await next_request(pair[1])
    os.close(descriptors[0])
    reply(pair[1], request)
    assert await delivery == DELIVERED
    assert os.listdir("/proc/self/fd") == before
    agent.close()


async def test_requests_wait_while_the_parent_does_not_read(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    agent = ParentAgent(pair[0], Gone())
    deliveries = [asyncio.create_task(agent.deliver(BOB, CONTENT)) for _ in range(40)]
    await asyncio.sleep(0)
    for _ in deliveries:
        request, descriptors = await next_request(pair[1])
        os.close(descriptors[0])
        reply(pair[1], request)
    assert await asyncio.gather(*deliveries) == [DELIVERED] * 40
    agent.close()


async def test_when_the_parent_is_gone_everything_is_deferred(pair: tuple[socket.socket, socket.socket]) -> None:
    gone = Gone()
    agent = ParentAgent(pair[0], gone)
    delivery = asyncio.create_task(agent.deliver(BOB, CONTENT))
    await next_request(pair[1])
    pair[1].close()
    for outcome in (await delivery, await agent.deliver(BOB, CONTENT)):
        assert isinstance(outcome, Deferred)
        assert outcome.reason == "the privileged parent has ended"
    with pytest.raises(ListenFailure, match="has ended"):
        await agent.listen(HostPort("127.0.0.1", 25))
    assert gone.calls == 1


async def test_an_agent_that_is_closed_does_not_blame_the_parent(pair: tuple[socket.socket, socket.socket]) -> None:
    gone = Gone()
    agent = ParentAgent(pair[0], gone)
    agent.close()
    agent.close()
    assert isinstance(await agent.deliver(BOB, CONTENT), Deferred)
    assert gone.calls == 0


async def test_what_cannot_be_opened_is_an_os_error(pair: tuple[socket.socket, socket.socket]) -> None:
    agent = ParentAgent(pair[0], Gone())
    opening = asyncio.create_task(agent.open_secret("/etc/x"))
    request, _ = await next_request(pair[1])
    pair[1].send(wire.pack_reply(request.number, wire.encode_fault("/etc/x: Permission denied")))
    with pytest.raises(OSError, match="Permission denied"):
        await opening
    agent.close()


async def test_a_reply_that_makes_no_sense_defers(pair: tuple[socket.socket, socket.socket]) -> None:
    agent = ParentAgent(pair[0], Gone())
    delivery = asyncio.create_task(agent.deliver(BOB, CONTENT))
    request, descriptors = await next_request(pair[1])
    os.close(descriptors[0])
    pair[1].send(wire.pack_reply(request.number, b"{}"))
    outcome = await delivery
    assert isinstance(outcome, Deferred)
    assert outcome.culprit is Culprit.US
    agent.close()


async def test_a_job_that_is_too_big_defers(pair: tuple[socket.socket, socket.socket]) -> None:
    agent = ParentAgent(pair[0], Gone())
    before = os.listdir("/proc/self/fd")
    outcome = await agent.deliver(support.job(TargetKind.PIPE, "|" + "x" * 40000), CONTENT)
    assert isinstance(outcome, Deferred)
    assert os.listdir("/proc/self/fd") == before
    agent.close()


# --- a user's .forward


async def ask(tmp_path: Path, text: str | None, mode: int = 0o600) -> object:
    if text is not None:
        (tmp_path / ".forward").write_text(text)
        (tmp_path / ".forward").chmod(mode)
    return await thread_agent(tmp_path).deliver(replace(BOB, asks_forward=True), CONTENT)


async def test_a_thread_asks_the_forward_file_before_the_mailbox(tmp_path: Path) -> None:
    found = await ask(tmp_path, "ann@isp.example\n")
    assert found == Forward(((f"{tmp_path}/.forward", "ann@isp.example\n"),))
    assert not (tmp_path / "mail" / "bob.d").exists()


async def test_without_a_forward_file_the_mailbox_gets_the_message(tmp_path: Path) -> None:
    assert isinstance(await ask(tmp_path, None), Delivered)
    assert len(list((tmp_path / "mail" / "bob.d" / "new").iterdir())) == 1


async def test_an_unsafe_forward_file_is_told_of_and_the_mailbox_gets_the_message(tmp_path: Path) -> None:
    outcome = await ask(tmp_path, "ann@isp.example\n", 0o666)
    assert isinstance(outcome, Delivered)
    assert outcome.reason == (
        f"250 2.0.0 Delivered to {tmp_path}/mail/bob.d; {tmp_path}/.forward was passed over: "
        "others may write to it; chmod go-w makes it count"
    )


async def test_a_home_that_does_not_answer_puts_the_mail_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr("masqmail.daemon.agent.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("masqmail.daemon.agent.ask_forward", lambda plan: answered.wait(30))
    try:
        outcome = await ask(tmp_path, None)
    finally:
        answered.set()
    assert isinstance(outcome, Deferred)
    assert outcome.reason == f"{tmp_path} does not answer, so its .forward cannot be read"


async def test_a_home_that_cannot_be_read_puts_the_mail_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str, account: object) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("masqmail.delivery.forward._read_own", fail)
    outcome = await ask(tmp_path, None)
    assert isinstance(outcome, Deferred)
    assert outcome.reason == f"{tmp_path}/.forward: input/output error"
