"""Many deliveries on this host at a time."""

from dataclasses import replace
from typing import Any

import anyio
import pytest

from masqmail.daemon.locallane import ENOUGH_JOBS, INTERRUPTED, MAILBOX_PLACES, PIPE_PLACES
from masqmail.daemon.rules import Rules
from masqmail.delivery.job import LocalJob, LocalMethod, Mailstore
from masqmail.delivery.lmtp import Letter
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Handover, NotTried, Outcome
from masqmail.mail.status import MAILBOX_FULL, OK
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


LMTP = Mailstore(LocalMethod.LMTP, "/run/${user}/lmtp")


def with_lmtp(handed: list[tuple[str, Letter, str]], outcome: Outcome) -> Assembly:
    """Where joe and root get mail from an LMTP server, and ann does not."""

    async def hand(address: str, letter: Letter, *, helo_name: str) -> Outcome:
        handed.append((address, letter, helo_name))
        return outcome

    local = LocalDomains("gw.home.example", ("home.example", "gw.home.example"), recipient_delimiter="+")
    stores = {"joe": LMTP, "root": LMTP}
    the_rules = rules(local=local, mailbox_of=lambda user: stores.get(user, Mailstore(LocalMethod.MBOX)))
    daemon = assembly(the_rules)
    daemon.lanes._local._hand_to_lmtp = hand
    return daemon


async def test_a_user_of_an_lmtp_server_gets_mail_through_it_by_name_with_the_detail() -> None:
    handed: list[tuple[str, Letter, str]] = []
    async with with_lmtp(handed, Delivered(OK, handover=Handover.MAILBOX)).running() as daemon:
        await daemon.accept("m1", daemon.local("joe")._replace(original="Joe+lists@home.example"))
        await daemon.accept(
            "m2", daemon.local("root")._replace(original="postmaster@home.example"), daemon.local("ann")
        )
    assert [job.target for job in daemon.agent.jobs] == ["ann"]
    (address, letter, name), (other, second, _) = handed
    assert (address, other, name) == ("/run/joe/lmtp", "/run/root/lmtp", "gw.home.example")
    assert [str(item.envelope.recipients[0].mailbox) for item in (letter, second)] == ["joe+lists", "root"]
    lines = letter.content.header.split(b"\r\n")[:3]
    assert lines[1:] == [b"Delivered-To: joe@gw.home.example", b"Envelope-To: Joe+lists@home.example"]
    assert letter.size_bytes == len(b"".join(letter.content.chunks()))
    assert daemon.states() == []


async def test_an_lmtp_server_that_is_away_puts_the_mail_off() -> None:
    async with with_lmtp([], NotTried(Culprit.CONNECTION, "cannot connect to /run/joe/lmtp")).running() as daemon:
        await daemon.accept("m1", daemon.local("joe"))
        (recipient,) = daemon.recipients()
        assert (recipient.state, recipient.reason) == (State.DEFERRED, "cannot connect to /run/joe/lmtp")


async def test_a_name_that_would_lead_to_another_socket_puts_the_mail_off() -> None:
    daemon = with_lmtp([], Delivered(OK))
    async with daemon.running():
        daemon.accounts.names += ("../x",)
        stores = Mailstore(LocalMethod.LMTP, "/run/${recipient_local}/lmtp")
        daemon.directory.rules = replace(daemon.rules, mailbox_of=lambda user: stores)
        await daemon.accept("m1", daemon.local("joe")._replace(original='"../x"@home.example'))
        (recipient,) = daemon.recipients()
        assert recipient.state is State.DEFERRED
        assert "cannot be part of a path" in recipient.reason


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
