"""Reports and notices as messages ready to be stored."""

import pytest

from masqmail.daemon.directory import LOCAL_CLASS
from masqmail.daemon.subject import Subject
from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.mail.dsn import Action, ReportedRecipient
from masqmail.mail.envelope import Body, Notify
from masqmail.mail.wording import Letter
from masqmail.spool.api import Kind, NewMessage, NewRecipient, TargetKind
from masqmail.spool.states import State
from masqmail.system.clock import FakeClock
from support.assembly import NO_SUCH_USER, Assembly, rules, smarthost

ABOUT = ReportedRecipient("bob@far.example", NO_SUCH_USER, "no such user")


def subject(reverse_path: str = "ann@home.example", kind: Kind = Kind.MAIL) -> Subject:
    return Subject(
        "m1",
        parse_mailbox(reverse_path) if reverse_path else None,
        "",
        None,
        False,
        kind,
        FakeClock().now(),
        b"Subject: hello\r\n",
    )


def made(about: Subject, action: Action = Action.FAILED, daemon: Assembly | None = None) -> NewMessage | None:
    return (daemon or Assembly(rules(smarthost()))).reporter.make(about, action, [ABOUT])


def test_a_report_has_the_null_sender_and_asks_for_failures_alone() -> None:
    report = made(subject("bob@far.example"))
    assert report is not None
    assert report.reverse_path is None
    assert report.kind is Kind.REPORT
    assert [(item.target, item.notify) for item in report.recipients] == [("bob@far.example", Notify.FAILURE)]
    assert report.recipients[0].route_class.routes == ("isp",)
    assert f"Message-ID: <{report.queue_id}@gw.home.example>".encode() in report.header


def test_there_is_no_report_about_nobody() -> None:
    assert Assembly(rules()).reporter.make(subject(), Action.FAILED, [None]) is None


@pytest.mark.parametrize("action", [Action.DELAYED, Action.RELAYED, Action.DELIVERED, Action.EXPANDED])
def test_only_failures_go_to_the_postmaster_where_the_sender_cannot_be_told(action: Action) -> None:
    assert made(subject(""), action) is None
    assert made(subject("stranger@home.example"), action) is None


@pytest.mark.parametrize("kind", [Kind.MAIL, Kind.REPORT])
def test_a_failure_without_a_sender_is_the_postmaster_s(kind: Kind) -> None:
    notice = made(subject("", kind))
    assert notice is not None
    assert (notice.kind, [item.target for item in notice.recipients]) == (Kind.NOTICE, ["root"])
    assert b"To: postmaster@gw.home.example\r\n" in notice.header


def test_a_failed_notice_ends_there() -> None:
    assert made(subject("", Kind.NOTICE)) is None


def test_a_postmaster_without_a_mailbox_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    daemon = Assembly(rules(postmaster=Mailbox("gone")))
    notice = made(subject(""), daemon=daemon)
    assert notice is not None
    assert [item.state for item in notice.recipients] == [State.FAILED]
    assert [(record.levelname, record.message) for record in caplog.records] == [("ERROR", "notice lost")]


def test_a_notice_is_a_plain_letter_to_the_postmaster() -> None:
    notice = Assembly(rules()).reporter.notice(Letter("Something", "It happened.\n"))
    assert (notice.kind, notice.reverse_path, notice.declared_body) == (Kind.NOTICE, None, Body.SEVEN_BIT)
    assert b"Subject: Something\r\n" in notice.header
    assert notice.body == b"It happened.\r\n"


@pytest.mark.parametrize(
    ("kind", "target", "shown"),
    [
        (TargetKind.REMOTE, "bob@far.example", "bob@far.example"),
        (TargetKind.MAILBOX, "joe", "joe@gw.home.example"),
        (TargetKind.MAILBOX, "no@@address", "list@home.example"),
        (TargetKind.MAILBOX, "/etc/missing.list", "list@home.example"),
        (TargetKind.PIPE, "|/bin/filter --key=secret", "list@home.example"),
        (TargetKind.FILE, "/var/archive", "list@home.example"),
    ],
)
def test_a_report_calls_everybody_by_an_address(kind: TargetKind, target: str, shown: str) -> None:
    daemon = Assembly(rules())
    recipient = NewRecipient(target, "list@home.example", kind, LOCAL_CLASS)
    assert daemon.reporter.address_of(recipient) == shown
