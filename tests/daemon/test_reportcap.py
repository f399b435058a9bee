"""No more than so many reports go out in an hour, and the postmaster hears of the others."""

from collections import Counter

import pytest

from masqmail.daemon.reportcap import MAX_NAMED, MAX_TO_ALL, MAX_TO_ONE, WINDOW_SECONDS, HeldReports, ReportCap
from masqmail.daemon.reports import HELD_BACK
from masqmail.mail.address import parse_mailbox
from masqmail.spool.api import Selection
from masqmail.spool.states import State
from masqmail.system.clock import FakeClock
from support.assembly import HOUR, MINUTE, NO_SUCH_USER, Assembly, rules, says, smarthost


def test_one_address_gets_so_many_within_the_window_and_others_are_not_concerned() -> None:
    cap = ReportCap(FakeClock())
    assert [cap.takes("ann@x") for _ in range(MAX_TO_ONE + 2)] == [True] * MAX_TO_ONE + [False] * 2
    assert cap.takes("bob@x")


def test_all_together_get_so_many() -> None:
    cap = ReportCap(FakeClock())
    taken = [cap.takes(f"u{number}@x") for number in range(MAX_TO_ALL + 3)]
    assert Counter(taken) == {True: MAX_TO_ALL, False: 3}


def test_the_window_moves_on_also_while_the_machine_sleeps() -> None:
    clock = FakeClock()
    cap = ReportCap(clock)
    for _ in range(MAX_TO_ONE):
        assert cap.takes("ann@x")
        clock.advance(MINUTE / 2)
    assert not cap.takes("ann@x")
    clock.suspend(HOUR - MAX_TO_ONE * MINUTE / 2)
    assert cap.takes("ann@x")
    assert not cap.takes("ann@x")


def test_what_was_sent_long_ago_takes_no_memory() -> None:
    clock = FakeClock()
    cap = ReportCap(clock)
    for number in range(3 * MAX_TO_ALL):
        cap.takes(f"u{number}@x")
        clock.advance(MINUTE)
    assert len(cap._sent) == len(cap._to) == WINDOW_SECONDS / 60


def test_the_postmaster_is_told_once_in_a_window_of_all_that_was_held() -> None:
    clock = FakeClock()
    cap = ReportCap(clock)
    assert cap.news() is None
    for _ in range(MAX_TO_ONE + 7):
        cap.takes("ann@x")
    news = cap.news()
    assert news == HeldReports(7, {"ann@x": 7})
    cap.takes("ann@x")
    cap.told(news)
    assert cap.news() is None
    clock.advance(HOUR)
    assert cap.news() == HeldReports(1, {"ann@x": 1})


def test_a_flood_to_many_addresses_names_only_some() -> None:
    cap = ReportCap(FakeClock())
    for number in range(MAX_TO_ALL + 3 * MAX_NAMED):
        cap.takes(f"u{number}@x")
    news = cap.news()
    assert news is not None
    assert (news.count, len(news.named)) == (3 * MAX_NAMED, MAX_NAMED)


@pytest.mark.anyio
async def test_reports_beyond_the_cap_are_held_and_one_notice_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = says(NO_SUCH_USER)
        for number in range(MAX_TO_ONE + 5):
            await daemon.accept(f"m{number}", "bob@far.example")
        assert len(daemon.reports()) == MAX_TO_ONE
        assert [(item.target, item.state, item.reason) for item in daemon.recipients()] == [
            ("ann", State.HELD, HELD_BACK)
        ] * 5
        assert [record.message for record in caplog.records].count("report held") == 5
        for _ in range(3):
            await daemon.housekeeper.look_around()
            await daemon.settle()
        who, notice = daemon.reports()[-1]
        assert (who, len(daemon.reports())) == ("root", MAX_TO_ONE + 1)
        assert "Subject: Reports are held back" in notice
        assert "  ann@home.example: 5\r\n" in notice


@pytest.mark.anyio
async def test_a_held_report_goes_out_when_it_is_released() -> None:
    """With the options that the notice names."""
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = says(NO_SUCH_USER)
        for _ in range(MAX_TO_ONE):
            daemon.reporter.cap.takes("ann@home.example")
        await daemon.accept("m1", "bob@far.example")
        assert daemon.reports() == []
        held = await daemon.spool.select(Selection(sender="<>", recipient="ann@home.example"))
        assert await daemon.spool.release(held) == 1
        daemon.scheduler.wake()
        await daemon.settle()
        ((who, report),) = daemon.reports()
        assert who == "ann" and "bob@far.example" in report
        assert daemon.recipients() == []


@pytest.mark.anyio
async def test_notices_about_mail_without_a_sender_count_too() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = says(NO_SUCH_USER)
        for _ in range(MAX_TO_ONE):
            daemon.reporter.cap.takes("postmaster@gw.home.example")
        await daemon.accept("m1", "bob@far.example", reverse_path=None)
        await daemon.accept("m2", "bob@far.example", reverse_path=parse_mailbox("ann@home.example"))
        assert [who for who, _ in daemon.reports()] == ["ann"]
        assert [(item.target, item.state) for item in daemon.recipients()] == [("root", State.HELD)]
