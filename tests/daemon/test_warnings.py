"""The ladder of warnings, and reports that cannot be delivered: told once, to somebody, and then it ends."""

import logging
from datetime import timedelta

import pytest

from masqmail.delivery.job import LocalJob, Transaction
from masqmail.mail.address import parse_mailbox
from masqmail.mail.envelope import Notify
from masqmail.mail.outcome import Culprit, Deferred, Failed, Outcome
from masqmail.mail.status import LOCAL_ERROR, Status
from masqmail.net.errors import NameFailure
from masqmail.net.fake import FakeResolver
from masqmail.routing.link import LinkState
from masqmail.routing.schedule import RetrySchedule
from masqmail.spool.api import Kind
from support.assembly import DAY, GREYLISTED, HOUR, MINUTE, NO_SUCH_USER, Assembly, direct, rules, says, smarthost

pytestmark = pytest.mark.anyio

LATER = says(GREYLISTED)
LOST = Deferred(LOCAL_ERROR, Culprit.CONNECTION, "mail.isp.example never answered", "mail.isp.example", in_doubt=True)


def actions(daemon: Assembly) -> list[str]:
    """The kind of each report that was delivered, in order."""
    return [
        line.removeprefix("Action: ")
        for _, text in daemon.reports()
        for line in text.split("\r\n")
        if line.startswith("Action: ")
    ]


async def test_the_sender_is_warned_at_each_rung_and_told_of_the_end() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = LATER
        await daemon.accept("m1", "bob@far.example")
        told = []
        for hours in (3, 2, 17, 4, 90, 6):
            await daemon.advance(hours * HOUR, HOUR)
            told.append(list(actions(daemon)))
        assert told == [
            [],
            ["delayed"],
            ["delayed"],
            ["delayed", "delayed"],
            ["delayed", "delayed"],
            ["delayed", "delayed", "failed"],
        ]


async def test_time_without_a_link_is_no_reason_to_warn() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = LATER
        await daemon.accept("m1", "bob@far.example")
        await daemon.advance(2 * HOUR, 10 * MINUTE)
        await daemon.link("dsl", LinkState.DOWN)
        await daemon.advance(30 * DAY, HOUR)
        await daemon.link("dsl", LinkState.UP)
        await daemon.advance(HOUR, 10 * MINUTE)
        assert actions(daemon) == []
        await daemon.advance(2 * HOUR, 10 * MINUTE)
        assert actions(daemon) == ["delayed"]


async def test_all_rungs_that_were_missed_are_one_warning() -> None:
    rare = RetrySchedule((2 * DAY,))
    async with Assembly(rules(smarthost(), schedule=rare)).running() as daemon:
        daemon.peers.answer = LATER
        await daemon.accept("m1", "bob@far.example")
        await daemon.advance(DAY, HOUR)
        assert actions(daemon) == []
        await daemon.advance(2 * DAY, HOUR)
        assert actions(daemon) == ["delayed"]
        await daemon.advance(2 * DAY, HOUR)
        assert actions(daemon) == ["delayed"]


async def test_one_warning_lists_all_that_wait_of_a_message() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = LATER
        never = daemon.remote("never@far.example", notify=Notify.NEVER)
        await daemon.accept("m1", "bob@far.example", "joe@other.example", never)
        await daemon.advance(5 * HOUR, 10 * MINUTE)
        ((who, text),) = daemon.reports()
        assert who == "ann"
        assert text.count("Final-Recipient:") == 2
        assert "bob@far.example" in text and "joe@other.example" in text and "never@" not in text


async def test_a_connection_that_is_lost_again_and_again_repeats_no_warning() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = lambda transaction, address: LOST
        await daemon.accept("m1", "bob@far.example")
        await daemon.advance(6 * DAY, HOUR)
        assert actions(daemon) == ["delayed", "delayed", "failed"]


async def test_a_domain_that_cannot_be_reached_repeats_no_warning() -> None:
    async with Assembly(rules(direct())).running() as daemon:
        daemon.lanes._resolver = FakeResolver({"far.example": NameFailure("no name server answered for far.example")})
        await daemon.accept("m1", "bob@far.example")
        await daemon.advance(6 * DAY, HOUR)
        assert actions(daemon) == ["delayed", "delayed", "failed"]


async def test_each_recipient_has_its_own_answer_and_its_own_reason() -> None:
    answers = {
        "gone@far.example": Status(550, "5.1.1", "Nobody of that name"),
        "full@far.example": Status(452, "4.2.2", "No room for full"),
        "spam@far.example": Status(554, "5.7.1", "Not from you"),
    }

    def answer(transaction: Transaction, address: str) -> Outcome:
        return says(answers[address])(transaction, address)

    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = answer
        await daemon.accept("m1", *answers)
        (_, text), *others = daemon.reports()
        assert others == []
        gone, spam = text.partition("delivery-status")[2].split("Final-Recipient: ")[1:]
        assert "gone@far.example" in gone and "Diagnostic-Code: smtp; 550 5.1.1 Nobody of that name" in gone
        assert "spam@far.example" in spam and "Diagnostic-Code: smtp; 554 5.7.1 Not from you" in spam
        assert "      550 5.1.1 Nobody of that name\r\n" in text and "      554 5.7.1 Not from you\r\n" in text
        assert [item.target for item in daemon.recipients("m1") if not item.state.is_ended] == ["full@far.example"]
        await daemon.advance(5 * HOUR, 10 * MINUTE)
        warning = daemon.reports()[-1][1]
        assert "Diagnostic-Code: smtp; 452 4.2.2 No room for full" in warning
        assert warning.count("Final-Recipient: ") == 1


async def test_nobody_is_warned_about_a_report_or_a_message_without_a_sender() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = LATER
        await daemon.accept("m1", "bob@far.example", reverse_path=None, kind=Kind.REPORT)
        await daemon.accept("m2", "bob@far.example", reverse_path=None)
        await daemon.advance(4 * DAY, HOUR)
        assert daemon.reports() == []


async def test_a_report_that_cannot_be_delivered_goes_to_the_postmaster() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = says(NO_SUCH_USER)
        await daemon.accept("m1", "bob@far.example", reverse_path=parse_mailbox("forged@far.example"))
        ((who, text),) = daemon.reports()
        assert who == "root"
        assert "Final-Recipient: rfc822; forged@far.example" in text
        assert "Final-Recipient: rfc822; bob@far.example" in text  # in the report that is attached
        assert daemon.recipients() == []


async def test_a_notice_that_cannot_be_delivered_ends_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(job: LocalJob) -> Outcome:
        return Failed(Status(550, "5.2.1", "closed"), Culprit.RECIPIENT, "the mailbox is closed")

    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = says(NO_SUCH_USER)
        daemon.agent.answer = refuse
        await daemon.accept("m1", "bob@far.example")
        await daemon.advance(DAY, HOUR)
        assert daemon.recipients() == []
    (lost,) = [record for record in caplog.records if record.message == "notice lost"]
    assert lost.levelno == logging.ERROR
    assert lost.fields["reason"] == "root@gw.home.example: the mailbox is closed"  # type: ignore[attr-defined]


async def test_a_postmaster_who_is_far_away_and_refuses_ends_it_too(caplog: pytest.LogCaptureFixture) -> None:
    away = rules(smarthost(), postmaster=parse_mailbox("me@isp.example"))
    async with Assembly(away).running() as daemon:
        daemon.peers.answer = says(NO_SUCH_USER)
        await daemon.accept("m1", "bob@far.example", reverse_path=parse_mailbox("forged@far.example"))
        await daemon.advance(timedelta(hours=1), 10 * MINUTE)
        assert daemon.recipients() == []
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == ["notice lost"]
