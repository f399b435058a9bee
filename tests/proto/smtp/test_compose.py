"""MAIL and RCPT carry what the next hop offers to understand, and nothing else."""

from dataclasses import replace

import pytest

from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Envelope, Notify, Recipient, Ret
from masqmail.proto.smtp.compose import Outgoing, Prepared, encode_orcpt, encode_xtext, group_recipients, prepare
from masqmail.proto.smtp.extension import Extensions, Limits

ANN = Mailbox("ann", "home.test")
BOB = Recipient(Mailbox("bob", "example.test"), Notify.SUCCESS | Notify.DELAY, "rfc822;Bob+x@example.test")
NOTHING = Extensions()
EVERYTHING = Extensions(size_bytes=1000, eight_bit_mime=True, smtputf8=True, dsn=True)


def to_a_labels(domain: str) -> str:
    if domain == "bad·label.test":
        raise ValueError(domain)
    return domain.encode("idna").decode("ascii")


def prepared(mail: Outgoing, offered: Extensions = NOTHING) -> Prepared:
    return prepare(mail, offered, to_a_labels)


def mail(*recipients: Recipient, reverse_path: Mailbox | None = ANN) -> Outgoing:
    return Outgoing(Envelope(reverse_path, recipients or (BOB,), Ret.HDRS, "id=1"), 100)


@pytest.mark.parametrize(
    ("outgoing", "offered", "command"),
    [
        (mail(), NOTHING, b"MAIL FROM:<ann@home.test>\r\n"),
        (mail(reverse_path=None), NOTHING, b"MAIL FROM:<>\r\n"),
        (mail(reverse_path=Mailbox("a b", "x.test")), NOTHING, b'MAIL FROM:<"a b"@x.test>\r\n'),
        (mail(), EVERYTHING, b"MAIL FROM:<ann@home.test> SIZE=100 RET=HDRS ENVID=id+3D1\r\n"),
        (mail(), Extensions(size_bytes=0), b"MAIL FROM:<ann@home.test> SIZE=100\r\n"),
        (replace(mail(), needs_8bit=True), NOTHING, b"MAIL FROM:<ann@home.test>\r\n"),
        (
            replace(mail(), needs_8bit=True),
            Extensions(eight_bit_mime=True),
            b"MAIL FROM:<ann@home.test> BODY=8BITMIME\r\n",
        ),
        (replace(mail(), needs_smtputf8=True), Extensions(smtputf8=True), b"MAIL FROM:<ann@home.test> SMTPUTF8\r\n"),
    ],
)
def test_mail_has_the_parameters_that_are_offered_and_needed(
    outgoing: Outgoing, offered: Extensions, command: bytes
) -> None:
    assert prepared(outgoing, offered).mail_command == command


@pytest.mark.parametrize(
    ("recipient", "offered", "command"),
    [
        (BOB, NOTHING, b"RCPT TO:<bob@example.test>\r\n"),
        (
            BOB,
            EVERYTHING,
            b"RCPT TO:<bob@example.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Bx@example.test\r\n",
        ),
        (Recipient(BOB.mailbox), EVERYTHING, b"RCPT TO:<bob@example.test>\r\n"),
        (Recipient(BOB.mailbox, Notify.NEVER), EVERYTHING, b"RCPT TO:<bob@example.test> NOTIFY=NEVER\r\n"),
        (Recipient(Mailbox("postmaster")), NOTHING, b"RCPT TO:<postmaster>\r\n"),
    ],
)
def test_rcpt_has_the_parameters_that_are_offered(recipient: Recipient, offered: Extensions, command: bytes) -> None:
    assert prepared(mail(recipient), offered).rcpt_commands == (command,)


def test_a_message_that_is_too_big_is_not_sent() -> None:
    result = prepared(replace(mail(BOB, BOB), size_bytes=1001), EVERYTHING)
    assert [status and (status.code, status.enhanced) for status in result.refusals] == [(552, "5.3.4")] * 2


def test_a_message_as_big_as_the_limit_is_sent() -> None:
    assert prepared(replace(mail(), size_bytes=1000), EVERYTHING).refusals == (None,)


JÖRG = Recipient(Mailbox("jörg", "example.test"))
UMLAUT = Recipient(Mailbox("bob", "bücher.test"))
BAD = Recipient(Mailbox("bob", "bad·label.test"))


def test_an_utf8_address_goes_as_it_is_where_smtputf8_is_offered() -> None:
    result = prepared(replace(mail(JÖRG, UMLAUT), needs_smtputf8=True), Extensions(smtputf8=True))
    assert result.mail_command == b"MAIL FROM:<ann@home.test> SMTPUTF8\r\n"
    expected = ("RCPT TO:<jörg@example.test>\r\n".encode(), "RCPT TO:<bob@bücher.test>\r\n".encode())
    assert result.rcpt_commands == expected


def test_without_smtputf8_a_domain_gets_its_ascii_form_and_a_local_part_is_refused() -> None:
    result = prepared(replace(mail(JÖRG, UMLAUT, BAD, BOB), needs_smtputf8=True))
    assert [status and status.enhanced for status in result.refusals] == ["5.6.7", None, "5.6.7", None]
    assert result.rcpt_commands[1] == b"RCPT TO:<bob@xn--bcher-kva.test>\r\n"
    assert b"SMTPUTF8" not in result.mail_command


def test_without_smtputf8_an_utf8_sender_refuses_everybody() -> None:
    result = prepared(replace(mail(BOB, BOB, reverse_path=JÖRG.mailbox), needs_smtputf8=True))
    assert [status and status.enhanced for status in result.refusals] == ["5.6.7", "5.6.7"]


def test_without_smtputf8_an_utf8_header_refuses_everybody() -> None:
    result = prepared(replace(mail(BOB), needs_smtputf8=True, header_is_ascii=False))
    assert [status and status.enhanced for status in result.refusals] == ["5.6.7"]


@pytest.mark.parametrize(
    ("text", "xtext"), [("", ""), ("a+b=c d", "a+2Bb+3Dc+20d"), ("é\n", "+C3+A9+0A"), ("~!", "~!")]
)
def test_xtext_hides_what_could_be_misread(text: str, xtext: str) -> None:
    assert encode_xtext(text) == xtext


@pytest.mark.parametrize(
    ("orcpt", "written"),
    [
        ("rfc822;a=b@x.test", "rfc822;a+3Db@x.test"),
        ("rfc822;jörg@x.test", "utf-8;j\\x{F6}rg@x.test"),
        ("utf-8;a+b\\c@x.test", "utf-8;a\\x{2B}b\\x{5C}c@x.test"),
        ("", ""),
        ("no type", ""),
        ("bad type;x", ""),
        ("a\r\nQUIT;x", ""),
    ],
)
def test_an_original_recipient_keeps_its_type(orcpt: str, written: str) -> None:
    assert encode_orcpt(orcpt) == written


@pytest.mark.parametrize(
    ("limits", "groups"),
    [
        (Limits(), [[0, 1, 2, 3]]),
        (Limits(rcpt_max=3), [[0, 1, 2], [3]]),
        (Limits(rcpt_domain_max=1), [[0, 2], [1, 3]]),
        (Limits(rcpt_domain_max=2), [[0, 2, 1, 3]]),
        (Limits(rcpt_max=1, rcpt_domain_max=1), [[0], [2], [1], [3]]),
    ],
)
def test_recipients_are_grouped_by_the_servers_limits(limits: Limits, groups: list[list[int]]) -> None:
    recipients = [Recipient(Mailbox("x", domain)) for domain in ("a.test", "b.test", "A.test", "b.test")]
    assert group_recipients(recipients, [0, 1, 2, 3], Extensions(limits=limits)) == groups


def test_nobody_needs_no_transaction() -> None:
    assert group_recipients([], [], Extensions(limits=Limits(rcpt_max=1))) == []
    assert group_recipients([], [], NOTHING) == []
