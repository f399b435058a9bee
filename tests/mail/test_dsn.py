"""Reports read well, and the standard library finds every fact in them again."""

import email
import email.message
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.address import Mailbox
from masqmail.mail.dsn import (
    MAX_RETURNED_HEADER_BYTES,
    Action,
    Composed,
    Report,
    ReportedRecipient,
    compose,
    notice,
)
from masqmail.mail.dsntext import ADVICE, MAX_LISTED, advice_for, subject_for
from masqmail.mail.status import Status

WHEN = datetime(2025, 11, 21, 9, 30, tzinfo=UTC)
NO_USER = Status(550, "5.1.1", "No such user")
ANN = ReportedRecipient(
    "ann@example.org",
    NO_USER,
    remote_host="mx.example.org",
    asked_for="list@example.net",
    orcpt="rfc822;List@example.net",
    last_attempt_at=WHEN,
)
REPORT = Report(
    Action.FAILED,
    (ANN,),
    to=Mailbox("bob", "example.net"),
    host_name="gw.example.net",
    report_id="0report",
    made_at=WHEN + timedelta(hours=1),
    queue_id="0message",
    arrived_at=WHEN,
    header=b"Subject: =?UTF-8?Q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@x>\r\n",
    envid="4711",
)


def read(composed: Composed) -> Message:
    raw = composed.header + b"\r\n" + composed.body
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", raw)
    message = email.message_from_bytes(raw)
    assert not message.defects
    return message


def parts_of(report: Report) -> tuple[str, list[Message], Message]:
    """The text for people, the groups of facts, and the part with the message."""
    text, facts, returned = read(compose(report)).get_payload()
    return text.get_payload(decode=True).decode(), facts.get_payload(), returned


def test_a_report_is_addressed_and_marked_as_one() -> None:
    message = read(compose(REPORT))
    assert message["From"] == "Mail Delivery System <mailer-daemon@gw.example.net>"
    assert message["To"] == "bob@example.net"
    assert message["Subject"] == "Your message could not be delivered"
    assert message["Date"] == "Fri, 21 Nov 2025 10:30:00 +0000"
    assert message["Message-ID"] == "<0report@gw.example.net>"
    assert message["In-Reply-To"] == message["References"] == "<1@x>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"


def test_the_text_says_what_happened_and_what_to_do() -> None:
    text, _, _ = parts_of(REPORT)
    assert text.replace("\r\n", "\n") == (
        "This is the mail server gw.example.net.\n\n"
        'Your message "Grüße", accepted on Fri, 21 Nov 2025 09:30:00 +0000, could\n'
        "not be delivered to the address below. It will not be tried again.\n\n"
        "  ann@example.org\n"
        "    (you wrote to list@example.net)\n"
        "    The mail server mx.example.org said:\n"
        "      550 5.1.1 No such user\n"
        "    This means: There is no mailbox of this name there.\n"
        "    What you can do: Check the address for a typing mistake, above all\n"
        "    before the @. If it is right, the mailbox may have been closed: ask\n"
        "    the recipient in another way.\n\n"
        "Its header is attached. The message was known here as 0message.\n"
    )


def test_the_facts_are_those_of_rfc_3464() -> None:
    _, (message, recipient), _ = parts_of(REPORT)
    assert dict(message.items()) == {
        "Original-Envelope-Id": "4711",
        "Reporting-MTA": "dns; gw.example.net",
        "Arrival-Date": "Fri, 21 Nov 2025 09:30:00 +0000",
        "X-MasqMail-Queue-ID": "0message",
    }
    assert dict(recipient.items()) == {
        "Original-Recipient": "rfc822;List@example.net",
        "Final-Recipient": "rfc822; ann@example.org",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.example.org",
        "Diagnostic-Code": "smtp; 550 5.1.1 No such user",
        "Last-Attempt-Date": "Fri, 21 Nov 2025 09:30:00 +0000",
    }


def test_a_delay_says_until_when_it_is_tried_and_asks_for_nothing() -> None:
    waiting = ReportedRecipient(
        "ann@example.org", Status(450, "4.2.2", "Full"), reason="the mailbox is full", will_retry_until=WHEN
    )
    text, (_, recipient), _ = parts_of(replace(REPORT, action=Action.DELAYED, recipients=(waiting,)))
    assert "You need not do anything" in " ".join(text.split())
    assert "It will be tried until about Fri, 21 Nov 2025 09:30:00 +0000." in text
    assert "Reason: the mailbox is full" in text
    assert "What you can do" not in text
    assert recipient["Will-Retry-Until"] == "Fri, 21 Nov 2025 09:30:00 +0000"
    assert recipient["Diagnostic-Code"] == "X-MasqMail; the mailbox is full"
    assert "Remote-MTA" not in recipient


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Action.DELIVERED, "was delivered to the address below"),
        (Action.RELAYED, "does not confirm deliveries"),
        (Action.EXPANDED, "stands for other addresses"),
    ],
)
def test_good_news_gives_no_advice(action: Action, words: str) -> None:
    happy = ReportedRecipient("ann@example.org", Status(250, "2.1.5", "OK"))
    text, (_, recipient), _ = parts_of(replace(REPORT, action=action, recipients=(happy,)))
    assert words in " ".join(text.split())
    assert "This means" not in text
    assert (recipient["Action"], recipient["Status"]) == (action.value, "2.1.5")


def test_only_the_header_comes_back_unless_the_body_is_given() -> None:
    _, _, returned = parts_of(REPORT)
    assert returned.get_content_type() == "text/rfc822-headers"
    assert returned.get_payload() == REPORT.header.decode()


def test_a_given_body_comes_back_byte_for_byte() -> None:
    body = b"--=_0report\r\n\xff8-bit\r\n--=_1_0report--\r\n"
    composed = compose(replace(REPORT, body=body))
    assert b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" in composed.body
    assert REPORT.header + b"\r\n" + body + b"\r\n--" in composed.body
    assert b"Content-Transfer-Encoding: 8bit" in composed.header
    assert len(read(composed).get_payload()) == 3


def test_a_huge_header_comes_back_in_whole_fields() -> None:
    field = b"X: " + b"y" * 995 + b"\r\n"
    _, _, returned = parts_of(replace(REPORT, header=field * 1000))
    content = returned.get_payload()
    assert MAX_RETURNED_HEADER_BYTES - 1000 < len(content) <= MAX_RETURNED_HEADER_BYTES
    assert len(content) % 1000 == 0


def test_addresses_beyond_ascii_make_a_report_of_rfc_6533() -> None:
    jorg = ReportedRecipient("jörg@example.org", NO_USER, remote_host="mx.example.org")
    report = replace(REPORT, recipients=(jorg,), smtputf8=True)
    body = compose(report).body
    assert b"Content-Type: message/global-delivery-status\r\n" in body
    assert "Final-Recipient: utf-8; jörg@example.org\r\n".encode() in body
    assert b"Content-Type: message/global-headers\r\n" in body
    assert b"Content-Type: message/global\r\n" in compose(replace(report, body=b"x\r\n")).body


def test_what_a_server_says_cannot_add_fields_or_lines() -> None:
    nasty = Status(550, "5.7.1", "no\x1b[31m\u2028Action: delivered\x00" + "x" * 5000)
    bad = replace(ANN, status=nasty, remote_host="mx\r\nAction: delivered", orcpt="rfc822;a\r\n\r\nb")
    text, groups, _ = parts_of(replace(REPORT, recipients=(bad,)))
    assert len(groups) == 2
    assert groups[1].get_all("Action") == ["failed"]
    assert "\x1b" not in text
    assert all(len(line) <= 998 for line in compose(replace(REPORT, recipients=(bad,))).body.split(b"\r\n"))


@pytest.mark.parametrize(
    ("remote_host", "name"),
    [
        ("mx.example.org", "mx.example.org"),
        ("mx.example.org:587", "mx.example.org"),
        ("127.0.0.1", "[127.0.0.1]"),
        ("127.0.0.1:25", "[127.0.0.1]"),
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ("[2001:db8::1]", "[IPv6:2001:db8::1]"),
        ("[2001:db8::1]:25", "[IPv6:2001:db8::1]"),
    ],
)
def test_a_server_is_named_without_its_port_and_an_address_as_a_literal(remote_host: str, name: str) -> None:
    """RFC 3464 §2.3.5."""
    text, (_, recipient), _ = parts_of(replace(REPORT, recipients=(replace(ANN, remote_host=remote_host),)))
    assert recipient["Remote-MTA"] == f"dns; {name}"
    assert f"The mail server {name} said:" in text


def test_a_long_list_is_cut_in_the_text_but_not_in_the_facts() -> None:
    many = tuple(replace(ANN, address=f"a{number}@example.org") for number in range(MAX_LISTED + 7))
    text, groups, _ = parts_of(replace(REPORT, recipients=many))
    assert "the addresses below" in " ".join(text.split())
    assert "and 7 more" in text
    assert len(groups) == 1 + len(many)


@pytest.mark.parametrize(
    ("status", "key"),
    [
        (Status(550, "5.1.1", ""), "1.1"),
        (Status(550, "5.1.99", ""), "1"),
        (Status(452, "4.2.2", ""), "2.2"),
        (Status(550, "5.7.27", ""), "7"),
        (Status(550, "5.0.0", ""), "0"),
        (Status(550, "", ""), "0"),
        (Status(550, "5.9.1", ""), "0"),
    ],
)
def test_the_most_exact_advice_is_given(status: Status, key: str) -> None:
    assert advice_for(status) is ADVICE[key]


def test_every_subject_of_rfc_3463_has_advice_and_all_of_it_are_sentences() -> None:
    assert set("01234567") == {key for key in ADVICE if "." not in key}
    assert all(text.endswith(".") for advice in ADVICE.values() for text in (advice.meaning, advice.advice))


def test_every_action_has_a_subject_of_its_own() -> None:
    assert len({subject_for(action) for action in Action}) == len(Action)


@pytest.mark.parametrize(
    "subject", [b"=?bad?Q?=FF?=", b"=?UTF-8?B?////?=", b"\xff\xfe", b"=?x-unknown?B?YQ==?=", b""]
)
def test_a_subject_that_cannot_be_decoded_is_no_obstacle(subject: bytes) -> None:
    text, _, _ = parts_of(replace(REPORT, header=b"Subject: " + subject + b"\r\n"))
    assert "Your message" in text


@given(st.binary(max_size=300))
def test_any_original_fits_into_a_report(original: bytes) -> None:
    lines = original.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n"
    for body in (None, lines):
        message = email.message_from_bytes(b"".join(_whole(replace(REPORT, header=b"A: b\r\n" + lines, body=body))))
        assert len(message.get_payload()) == 3


def _whole(report: Report) -> tuple[bytes, bytes, bytes]:
    composed = compose(report)
    return composed.header, b"\r\n", composed.body


def test_a_notice_is_a_plain_message() -> None:
    composed = notice(
        "The route gmx has been paused for a day",
        "It answers: 535 Bad password.\n",
        to=Mailbox("root", "gw"),
        host_name="gw",
        notice_id="0notice",
        made_at=WHEN,
    )
    message = read(composed)
    assert message["Subject"] == "The route gmx has been paused for a day"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content_type() == "text/plain"
    assert message.get_payload() == "It answers: 535 Bad password.\r\n"
