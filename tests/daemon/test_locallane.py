"""Many deliveries on this host at a time."""

from typing import Any

import anyio
import pytest

from masqmail.daemon.locallane import ENOUGH_JOBS, INTERRUPTED, MAILBOX_PLACES, PIPE_PLACES
from masqmail.delivery.job import LocalJob
from masqmail.mail.outcome import Culprit, Deferred, Outcome
from masqmail.mail.status import MAILBOX_FULL
from masqmail.spool.api import TargetKind
from masqmail.spool.states import State
from support.assembly import MINUTE, Assembly, rules

pytestmark = pytest.mark.anyio


def assembly() -> Assembly:
    return Assembly(rules())


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
