"""Outcomes become states, history and reports, in one transaction."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from masqmail.mail.envelope import Notify, Ret
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, NotTried, Outcome
from masqmail.mail.status import LOCAL_ERROR, OK
from masqmail.mail.wording import Letter
from masqmail.routing.route import QUEUE_ONLY
from masqmail.spool.api import Kind, NewMessage, Record
from masqmail.spool.states import State
from masqmail.system.clock import FakeClock
from support.assembly import (
    DAY,
    GREYLISTED,
    HOUR,
    MINUTE,
    NO_SUCH_USER,
    Assembly,
    CountingSpool,
    rules,
    smarthost,
)

pytestmark = pytest.mark.anyio

REFUSED = Failed(
    NO_SUCH_USER,
    Culprit.RECIPIENT,
    "mx refused the recipient: 550 5.1.1 No such user",
    "mx.far.example:25",
    said_by_peer=True,
)
LATER = Deferred(
    GREYLISTED,
    Culprit.RECIPIENT,
    "mx refused the recipient: 450 4.7.1 Come back later",
    "mx.far.example:25",
    said_by_peer=True,
)
TAKEN = Delivered(OK, "mx.far.example:25", Handover.RELAYED)
IN_DOUBT = Deferred(LOCAL_ERROR, Culprit.CONNECTION, "mx never answered", "mx.far.example:25", in_doubt=True)


class RecordingSpool(CountingSpool):
    """Remembers what was recorded together."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock.now)
        self.recorded: list[tuple[Sequence[Record], Sequence[NewMessage]]] = []

    def record(self, records: Sequence[Record], reports: Sequence[NewMessage] = ()) -> Any:
        self.recorded.append((records, reports))
        return super().record(records, reports)


class Table:
    """A desk with one leased message."""

    def __init__(self, **changes: Any) -> None:
        clock = FakeClock()
        self.spool = RecordingSpool(clock)
        self.daemon = Assembly(rules(smarthost(), **changes), spool=self.spool, clock=clock)

    async def settle(self, *outcomes: Outcome, age: Any = None, notify: Notify | None = None, **message: Any) -> None:
        daemon = self.daemon
        recipients = [daemon.remote(f"r{number}@far.example", notify=notify) for number in range(len(outcomes))]
        reported = message.pop("reported", True)
        if not reported:
            recipients = [daemon.remote("r0@far.example", reported=False)]
        await daemon.accept("m1", *recipients, tell=False, **message)
        if age:
            await daemon.spool.advance(age.total_seconds(), await daemon.spool.classes())
        (lease,) = await daemon.lease_all()
        self.spool.recorded.clear()
        daemon.desk.settle(lease, daemon.rules.routes[0], outcomes)
        await daemon.desk.finish()

    @property
    def reports(self) -> list[NewMessage]:
        ((_, reports),) = self.spool.recorded
        return list(reports)

    @property
    def actions(self) -> list[str]:
        """The Action fields of all reports."""
        lines = b"".join(_body(report) for report in self.reports).decode().split("\r\n")
        return [line.removeprefix("Action: ") for line in lines if line.startswith("Action: ")]


def _body(report: NewMessage) -> bytes:
    assert isinstance(report.body, bytes)
    return report.body


async def test_states_history_and_one_report_for_all_failures_are_recorded_together() -> None:
    table = Table()
    await table.settle(REFUSED, TAKEN, REFUSED, LATER)
    ((records, (report,)),) = table.spool.recorded
    assert [record.state for record in records] == [State.FAILED, State.DELIVERED, State.FAILED, State.DEFERRED]
    assert report.kind is Kind.REPORT
    assert report.reverse_path is None
    assert [item.target for item in report.recipients] == ["ann"]
    assert table.actions == ["failed", "failed"]
    assert b"\r\nRemote-MTA: dns; mx.far.example\r\n" in _body(report)


async def test_reports_of_different_kinds_are_different_messages() -> None:
    table = Table()
    await table.settle(REFUSED, TAKEN, LATER, age=5 * HOUR, notify=Notify.SUCCESS | Notify.FAILURE | Notify.DELAY)
    assert len(table.reports) == 3
    assert sorted(table.actions) == ["delayed", "failed", "relayed"]


@pytest.mark.parametrize(
    ("notify", "outcome", "actions"),
    [
        (None, REFUSED, ["failed"]),
        (None, TAKEN, []),
        (Notify.NEVER, REFUSED, []),
        (Notify.SUCCESS, REFUSED, []),
        (Notify.SUCCESS, TAKEN, ["relayed"]),
        (Notify.FAILURE, LATER, []),
        (Notify.DELAY, LATER, ["delayed"]),
        (Notify.FAILURE, TAKEN, []),
        (Notify.SUCCESS, Delivered(OK, handover=Handover.PASSED_ON), []),
        (Notify.SUCCESS, Delivered(OK, handover=Handover.MAILBOX), ["delivered"]),
    ],
)
async def test_the_originator_is_told_what_it_asked_for(
    notify: Notify | None, outcome: Outcome, actions: list[str]
) -> None:
    table = Table()
    await table.settle(outcome, notify=notify, age=5 * HOUR)
    assert table.actions == actions


async def test_a_delay_report_says_how_long_we_go_on() -> None:
    table = Table()
    await table.settle(LATER, age=DAY)
    (report,) = table.reports
    assert b"\r\nWill-Retry-Until: Mon, 05 Jan 2026" in _body(report)


async def test_giving_up_is_our_own_verdict_and_not_the_host_s() -> None:
    table = Table()
    await table.settle(LATER, age=5 * DAY)
    body = _body(table.reports[0])
    assert b"Status: 5.4.7" in body
    assert b"Remote-MTA" not in body
    assert b"450 4.7.1 Come back later" in body


@pytest.mark.parametrize(
    ("outcome", "quoted"),
    [
        (LATER, b"The mail server mx.far.example said:"),
        (TAKEN, b"The mail server mx.far.example said:"),
        (IN_DOUBT, b"Reason: mx never answered"),
    ],
)
async def test_a_report_quotes_a_host_for_its_own_words_alone(outcome: Outcome, quoted: bytes) -> None:
    table = Table()
    await table.settle(outcome, age=5 * HOUR, notify=Notify.SUCCESS | Notify.DELAY)
    body = _body(table.reports[0])
    assert quoted in body
    assert (b"Remote-MTA" in body) is (b"said" in quoted)


async def test_the_history_names_the_host_whoever_said_so() -> None:
    table = Table()
    await table.settle(IN_DOUBT)
    ((records, _),) = table.spool.recorded
    assert records[0].attempt is not None and records[0].attempt.remote_host == "mx.far.example:25"


async def test_an_archive_copy_makes_no_reports() -> None:
    table = Table()
    await table.settle(REFUSED, reported=False)
    assert table.reports == []


@pytest.mark.parametrize(
    ("ret", "size", "is_whole"),
    [(None, 100, True), (None, 60_000, False), (Ret.HDRS, 100, False), (Ret.FULL, 60_000, True)],
)
async def test_ret_decides_how_much_comes_back(ret: Ret | None, size: int, is_whole: bool) -> None:
    table = Table()
    await table.settle(REFUSED, ret=ret, body=b"x" * size)
    assert (b"x" * size in _body(table.reports[0])) is is_whole


async def test_a_failed_report_becomes_a_notice_and_a_failed_notice_nothing() -> None:
    for kind, notices in ((Kind.REPORT, [Kind.NOTICE]), (Kind.NOTICE, [])):
        table = Table()
        await table.settle(REFUSED, reverse_path=None, kind=kind)
        assert [report.kind for report in table.reports] == notices
        assert all(report.recipients[0].target == "root" for report in table.reports)


async def test_the_null_sender_is_never_written_to() -> None:
    table = Table()
    await table.settle(LATER, TAKEN, reverse_path=None, age=DAY, notify=Notify.SUCCESS | Notify.DELAY)
    assert table.reports == []


async def test_nothing_fails_without_its_report_because_of_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def compose(report: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("masqmail.daemon.reports.compose", compose)
    table = Table()
    await table.settle(REFUSED, TAKEN)
    refused, taken = table.daemon.recipients()
    assert (refused.state, refused.due) == (State.DEFERRED, table.daemon.clock.now() + HOUR)
    assert refused.reason.startswith("mx refused the recipient: 550 5.1.1 No such user; the report to its sender")
    assert taken.state is State.DELIVERED


async def test_with_on_flush_what_waits_again_and_reports_wait_for_a_flush() -> None:
    table = Table(sends_at_once=False)
    await table.settle(REFUSED, LATER, reverse_path=table.daemon.directory.rules.local.qualify(_bob()))
    assert table.daemon.recipients("m1")[1].route_class.mark == QUEUE_ONLY
    (report,) = table.reports
    assert report.recipients[0].route_class.mark == QUEUE_ONLY


def _bob() -> Any:
    from masqmail.mail.address import parse_mailbox

    return parse_mailbox("bob@far.example")


async def test_events_have_only_fields_that_say_something(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "masqmail")
    await Table().settle(NotTried(Culprit.SESSION, "not reached"))
    (record,) = [record for record in caplog.records if record.message == "recipient queued again"]
    shown = {name for name, value in record.fields.items() if value is not None}  # type: ignore[attr-defined]
    assert shown == {"queue_id", "recipient", "route", "reason"}


async def test_a_bounce_by_hand_tells_those_who_want_to_know() -> None:
    daemon = Assembly(rules(smarthost()))
    never = daemon.remote("never@far.example", notify=Notify.NEVER)
    copy = daemon.remote("copy@far.example", reported=False)
    await daemon.accept("m1", "bob@far.example", never, copy, tell=False)
    await daemon.spool.hold(["m1"], "held")
    queued = await daemon.spool.find("m1")
    assert queued is not None
    await daemon.desk.bounce(queued, "root")
    assert daemon.recipients("m1") == []
    (report,) = await daemon.lease_all()
    assert isinstance(report.message.body, bytes)
    assert report.message.body.count(b"Final-Recipient:") == 1
    assert b"Given back by hand, by root" in report.message.body
    assert b"The administrator of this mail server" in report.message.body


async def test_a_notice_that_finds_no_room_harms_nothing() -> None:
    daemon = Assembly(rules(smarthost()))
    daemon.spool.capacity_bytes = 0
    assert await daemon.desk.post_notice(Letter("Hello", "A text.\n")) is False
    daemon.spool.capacity_bytes = 1 << 20
    assert await daemon.desk.post_notice(Letter("Hello", "A text.\n")) is True
    assert [item.target for item in daemon.recipients()] == ["root"]
    assert daemon.troubles == []


async def test_the_waits_follow_the_schedule() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.answer = lambda transaction, address: LATER
        await daemon.accept("m1", "bob@far.example")
        waits = []
        for _ in range(6):
            due = daemon.recipients()[0].due
            assert due is not None
            waits.append(due - daemon.clock.now())
            await daemon.advance(waits[-1])
        assert waits == [MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, HOUR]
