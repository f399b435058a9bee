"""Reports read well, and the standard library finds every fact in them again."""

import email
import email.message
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import policy
from email.message import Message

import pytest
from hypothesis import given, settings
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
from masqmail.mail.dsntext import MAX_LISTED, advice_for
from masqmail.mail.status import Status
from masqmail.mail.template import VARIABLES, parse_template
from masqmail.mail.wording import Language, wording

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
        (Status(553, "5.7.1", "<a@b.example>: Sender address rejected: not owned by user me"), "1.8"),
        (Status(550, "", "Requested action not taken\nSender address is not allowed."), "1.8"),
        (Status(550, "5.7.60", "SMTP; Client does not have permissions to send as this sender"), "1.8"),
        (Status(554, "5.7.1", "Message rejected as spam"), "7.1"),
    ],
)
def test_the_most_exact_advice_is_given(status: Status, key: str) -> None:
    words = wording(Language.ENGLISH)
    assert advice_for(ReportedRecipient("ann@example.org", status), words) is words.advice[key]


@pytest.mark.parametrize("language", Language)
def test_what_was_given_back_by_hand_is_not_laid_at_the_door_of_another_server(language: Language) -> None:
    back = ReportedRecipient("ann@example.org", Status(554, "5.7.0", "Given back by hand"), given_back=True)
    text, _, _ = parts_of(replace(REPORT, recipients=(back,), language=language))
    words, flat = wording(language), " ".join(text.split())
    assert words.given_back.meaning in flat and words.given_back.advice in flat
    assert words.advice["7"].meaning not in flat


@pytest.mark.parametrize(
    "subject", [b"=?bad?Q?=FF?=", b"=?UTF-8?B?////?=", b"\xff\xfe", b"=?x-unknown?B?YQ==?=", b""]
)
def test_a_subject_that_cannot_be_decoded_is_no_obstacle(subject: bytes) -> None:
    text, _, _ = parts_of(replace(REPORT, header=b"Subject: " + subject + b"\r\n"))
    assert "Your message" in text


@settings(deadline=None)  # the first one loads half of the mail package
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


def test_a_notice_in_another_language_says_so_and_is_plain_ascii_on_its_way() -> None:
    composed = notice(
        "Die Route für zu Hause funktioniert nicht",
        "Es geht nichts verloren: über eine andere Route.\n",
        to=Mailbox("root", "gw"),
        host_name="gw",
        notice_id="0notice",
        made_at=WHEN,
        language=Language.GERMAN,
    )
    assert composed.header.isascii() and composed.body.isascii()
    message = email.message_from_bytes(composed.header + b"\r\n" + composed.body, policy=policy.default)
    assert message["Subject"] == "Die Route für zu Hause funktioniert nicht"
    assert message["Content-Language"] == "de"
    assert message.get_content() == "Es geht nichts verloren: über eine andere Route.\r\n"


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("action", Action)
def test_a_report_in_any_language_is_plain_ascii_but_for_what_it_returns(action: Action, language: Language) -> None:
    composed = compose(replace(REPORT, action=action, language=language))
    assert composed.header.isascii() and composed.body.isascii()
    message = email.message_from_bytes(composed.header + b"\r\n" + composed.body, policy=policy.default)
    words = wording(language)
    assert message["Subject"] == words.subjects[action]
    text = message.get_payload()[0]  # type: ignore[index]
    assert message["Content-Language"] == text["Content-Language"] == language.value
    read_text = " ".join(text.get_content().split(" "))
    assert "„Grüße“" in read_text if language is Language.GERMAN else "Grüße" in read_text
    assert all(len(line) <= 76 for line in composed.body.partition(b"\r\n\r\n--")[0].split(b"\r\n"))


def test_the_words_of_a_server_stay_as_they_are_in_every_language() -> None:
    for language in Language:
        text, (_, recipient), _ = parts_of(replace(REPORT, language=language))
        assert "      550 5.1.1 No such user\r\n" in text
        assert recipient["Diagnostic-Code"] == "smtp; 550 5.1.1 No such user"


class TestATemplate:
    def text(self, template: str, **changes: object) -> str:
        report = replace(REPORT, template=parse_template(template), **changes)  # type: ignore[arg-type]
        text, _, _ = parts_of(report)
        return text.replace("\r\n", "\n")

    def test_takes_the_place_of_the_text_and_of_nothing_else(self) -> None:
        built_in, own = compose(REPORT), compose(replace(REPORT, template=parse_template("Sorry.")))
        assert own.header == built_in.header
        assert b"\r\n\r\nSorry.\r\n" in own.body
        facts = b"message/delivery-status"
        assert own.body.partition(facts)[2] == built_in.body.partition(facts)[2]

    def test_knows_the_message_and_its_first_recipient(self) -> None:
        template = (
            "${user} ${recipient} ${recipient_local} ${recipient_domain}\n"
            "${sender} ${sender_local} ${sender_domain} ${received_host} ${ident}\n"
            "${queue_id} ${subject} ${received_at} ${host_name} ${postmaster} ${package}\n"
        )
        text = self.text(template, sender=Mailbox("bob", "b.example"), received_host="printer", ident="joe")
        assert text == (
            "ann ann@example.org ann example.org\n"
            "bob@b.example bob b.example printer joe\n"
            "0message Grüße Fri, 21 Nov 2025 09:30:00 +0000 gw.example.net postmaster@gw.example.net MasqMail\n"
        )

    def test_calls_what_is_no_address_a_local_part(self) -> None:
        text = self.text("${recipient_local}@${recipient_domain}", recipients=(replace(ANN, address="ann"),))
        assert text == "ann@\n"

    def test_lists_every_recipient_with_its_reason(self) -> None:
        full = ReportedRecipient(
            "ben@example.org", Status(452, "4.2.2", "Full"), reason="no room", will_retry_until=WHEN
        )
        text = self.text("${recipients}\n${reasons}\nuntil ${gives_up_at}\n", recipients=(ANN, full))
        assert text == (
            "ann@example.org, ben@example.org\n"
            "ann@example.org: 550 5.1.1 No such user\n"
            "ben@example.org: no room\n"
            "until Fri, 21 Nov 2025 09:30:00 +0000\n"
        )
        assert "  ben@example.org\n    Reason: no room\n" in self.text("${failed_recipients}", recipients=(ANN, full))

    def test_can_repeat_the_message(self) -> None:
        text = self.text("${message_header}\n\n${message_body}\n", body=b"Dear \xff\r\n\x00\tBye\r\n")
        assert text == "Subject: =?UTF-8?Q?Gr=C3=BC=C3=9Fe?=\nMessage-ID: <1@x>\n\nDear \ufffd\n \tBye\n"

    def test_with_every_variable_fits_into_a_report_of_any_kind(self) -> None:
        template = "\n".join(f"{name}: ${{{name}}}" for name in VARIABLES)
        for action in Action:
            for changes in ({}, {"body": b"x" * 5000 + b"\r\n", "sender": None, "header": b""}):
                text = self.text(template, action=action, **changes)
                assert "${" not in text and "queue_id: 0message\n" in text

    def test_is_filled_in_once(self) -> None:
        assert self.text("${subject}", header=b"Subject: ${queue_id}\r\n") == "${queue_id}\n"
