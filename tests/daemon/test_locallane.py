"""Many deliveries on this host at a time."""

from typing import Any

import anyio
import pytest

from masqmail.daemon.locallane import ENOUGH_JOBS, INTERRUPTED, LMTP_PLACES, MAILBOX_PLACES, PIPE_PLACES
from masqmail.daemon.rules import Rules
from masqmail.delivery.job import LocalJob, LocalMethod, Mailstore
from masqmail.mail.outcome import Culprit, Deferred, NotTried, Outcome
from masqmail.mail.status import MAILBOX_FULL
from masqmail.routing.local import LocalDomains
from masqmail.spool.api import TargetKind
from masqmail.spool.states import State
from support.assembly import MINUTE, Assembly, rules

pytestmark = pytest.mark.anyio


def assembly(the_rules: Rules | None = None) -> Assembly:
    return Assembly(the_rules or rules())


async def test_each_recipient_gets_the_message_with_its_own_trace() -> None:
    async with assembly().running() as daemon:
        await daemon.accept("m1", daemon.local("ann"), daemon.local("joe"))
        assert sorted(job.target for job in daemon.agent.jobs) == ["ann", "joe"]
        for job, content in zip(daemon.agent.jobs, daemon.agent.contents, strict=True):
            assert f"Delivered-To: {job.target}@gw.home.example\r\n".encode() in content.header
            assert content.header.startswith(b"Return-Path: <ann@home.example>\r\n")
        assert daemon.states() == []


async def test_recipients_of_one_message_end_independently() -> None:
    async with assembly().running() as daemon:

        async def answer(job: LocalJob) -> Outcome | None:
            if job.target == "joe":
                return Deferred(MAILBOX_FULL, Culprit.LOCAL, "the disk is full")
            return None

        daemon.agent.answer = answer
        await daemon.accept("m1", daemon.local("ann"), daemon.local("joe"))
        assert {item.target: item.state for item in daemon.recipients()} == {
            "ann": State.DELIVERED,
            "joe": State.DEFERRED,
        }
        daemon.agent.answer = None
        await daemon.advance(MINUTE)
        assert [job.target for job in daemon.agent.jobs] == ["ann", "joe"]


async def test_a_message_that_was_delivered_to_the_mailbox_before_is_in_a_loop() -> None:
    async with assembly().running() as daemon:
        header = b"Delivered-To: joe@gw.home.example\r\nSubject: again\r\n"
        await daemon.accept("m1", daemon.local("joe"), header=header)
        ((who, report),) = daemon.reports()
        assert who == "ann"
        assert "Status: 5.4.6" in report
        assert "in a loop" in report
        assert [job.target for job in daemon.agent.jobs] == ["ann"]


async def test_an_error_of_ours_puts_a_delivery_off() -> None:
    async with assembly().running() as daemon:

        async def answer(job: LocalJob) -> Outcome | None:
            raise RuntimeError("a bug")

        daemon.agent.answer = answer
        await daemon.accept("m1", daemon.local("ann"))
        (recipient,) = daemon.recipients()
        assert (recipient.state, recipient.attempts) == (State.DEFERRED, 1)
        assert "an error of ours" in recipient.reason


async def test_slow_programs_hold_up_no_mailbox_and_not_the_lane() -> None:
    async with assembly().running() as daemon:
        gate, waiting = anyio.Event(), 0

        async def answer(job: LocalJob) -> Outcome | None:
            nonlocal waiting
            if job.kind is TargetKind.PIPE:
                waiting += 1
                await gate.wait()
            return None

        daemon.agent.answer = answer
        for number in range(10):
            await daemon.accept(f"slow{number}", daemon.local("|slow", TargetKind.PIPE))
        assert waiting == PIPE_PLACES
        for number in range(100):
            await daemon.accept(f"m{number}", daemon.local("ann"))
        assert len(daemon.agent.jobs) == 100
        gate.set()
        await daemon.settle()
        assert len(daemon.agent.jobs) == 110


async def test_a_message_for_very_many_is_worked_off_in_bounds() -> None:
    async with assembly().running() as daemon:
        now, most = 0, 0

        async def answer(job: LocalJob) -> Outcome | None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await anyio.lowlevel.checkpoint()
            now -= 1
            return None

        daemon.agent.answer = answer
        await daemon.accept("m1", *(daemon.local(f"u{number}") for number in range(3 * ENOUGH_JOBS)))
        await daemon.accept("m2", daemon.local("ann"))
        await daemon.settle()
        assert len(daemon.agent.jobs) == 3 * ENOUGH_JOBS + 1
        assert most == MAILBOX_PLACES


def with_lmtp() -> Assembly:
    """Where joe gets mail from an LMTP server, and ann does not."""
    local = LocalDomains("gw.home.example", ("home.example", "gw.home.example"), recipient_delimiter="+")
    stores = {"joe": Mailstore(LocalMethod.LMTP, "/run/lmtp")}
    return assembly(rules(local=local, mailbox_of=lambda user: stores.get(user, Mailstore(LocalMethod.MBOX))))


async def test_whoever_hands_a_message_to_an_lmtp_server_is_told_what_the_server_asks_for() -> None:
    async with with_lmtp().running() as daemon:
        await daemon.accept("m1", daemon.local("joe")._replace(original="Joe+lists@home.example"))
        assert daemon.states() == []
    (job,), (content,) = daemon.agent.jobs, daemon.agent.contents
    assert (job.kind, job.target, job.variables.recipient_local) == (TargetKind.MAILBOX, "joe", "Joe+lists")
    lines = content.header.split(b"\r\n")[:3]
    assert lines[1:] == [b"Delivered-To: joe@gw.home.example", b"Envelope-To: Joe+lists@home.example"]
    assert (job.size_bytes, job.is_8bit) == (len(b"".join(content.chunks())), False)


async def test_an_lmtp_server_that_is_away_puts_the_mail_off() -> None:
    async def answer(job: LocalJob) -> Outcome:
        return NotTried(Culprit.CONNECTION, "cannot connect to /run/lmtp")

    daemon = with_lmtp()
    daemon.agent.answer = answer
    async with daemon.running():
        await daemon.accept("m1", daemon.local("joe"))
        (recipient,) = daemon.recipients()
        assert (recipient.state, recipient.reason) == (State.DEFERRED, "cannot connect to /run/lmtp")


async def test_a_slow_lmtp_server_holds_up_no_mailbox() -> None:
    gate, waiting = anyio.Event(), 0

    async def answer(job: LocalJob) -> Outcome | None:
        nonlocal waiting
        if job.target == "joe":
            waiting += 1
            await gate.wait()
        return None

    daemon = with_lmtp()
    daemon.agent.answer = answer
    async with daemon.running():
        for number in range(2 * LMTP_PLACES):
            await daemon.accept(f"slow{number}", daemon.local("joe"))
        await daemon.accept("m1", daemon.local("ann"))
        assert (waiting, [job.target for job in daemon.agent.jobs]) == (LMTP_PLACES, ["ann"])
        gate.set()


async def test_slow_programs_of_users_hold_up_no_mailbox() -> None:
    """The same places as for the programs of aliases."""
    stores = {"joe": Mailstore(LocalMethod.MDA, command=("slow",))}
    the_rules = rules(mailbox_of=lambda user: stores.get(user, Mailstore(LocalMethod.MBOX)))
    async with assembly(the_rules).running() as daemon:
        gate = anyio.Event()

        async def answer(job: LocalJob) -> Outcome | None:
            if job.target == "joe":
                await gate.wait()
            return None

        daemon.agent.answer = answer
        for number in range(2 * PIPE_PLACES):
            await daemon.accept(f"slow{number}", daemon.local("joe"))
        await daemon.accept("m1", daemon.local("ann"))
        assert [job.target for job in daemon.agent.jobs] == ["ann"]
        gate.set()


async def test_a_stop_gives_back_what_was_under_way_and_remembers_that_it_had_begun() -> None:
    """Whoever tries again must look whether it is there already."""
    daemon = assembly()
    firsts: list[bool] = []

    async def hang(job: LocalJob) -> Any:
        firsts.append(job.is_first)
        await anyio.sleep_forever()

    daemon.agent.answer = hang
    async with daemon.running():
        for number in range(MAILBOX_PLACES + 2):
            await daemon.accept(f"m{number}", daemon.local("ann"))
    recipients = daemon.recipients()
    assert {(item.state, item.attempts) for item in recipients} == {(State.QUEUED, 0)}
    assert [item.reason for item in recipients] == [INTERRUPTED] * MAILBOX_PLACES + [""] * 2
    async with daemon.running():
        pass
    assert firsts == [True] * MAILBOX_PLACES + [False] * MAILBOX_PLACES
