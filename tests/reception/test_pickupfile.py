"""The format of files in the pickup folder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.cli.sendmail_options import parse
from masqmail.cli.sendmail_pickup import TRAILER, envelope
from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Body, Notify, Ret
from masqmail.reception.pickupfile import BadFile, Ticket, content_length, crlf_lines, parse_ticket

FIRST = b"MasqMail-Pickup: 1\n"


def test_what_sendmail_writes_is_read_again() -> None:
    words = [
        "-t",
        "-odq",
        "-f",
        "jörg@x",
        "-F",
        "Jörg B",
        "-N",
        "success,delay",
        "-R",
        "hdrs",
        "-V",
        "4 7",
        "-B",
        "7bit",
    ]
    ticket = parse_ticket(envelope(parse("sendmail", [*words, "ann@x", "bob"])).removesuffix(b"\n\n"))
    assert ticket == Ticket(
        has_sender=True,
        sender=Mailbox("jörg", "x"),
        recipients=(Mailbox("ann", "x"), Mailbox("bob")),
        header_recipients=True,
        queue_only=True,
        full_name="Jörg B",
        notify=Notify.SUCCESS | Notify.DELAY,
        ret=Ret.HDRS,
        envid="4 7",
        body=Body.SEVEN_BIT,
    )
    made = ticket.envelope(ticket.sender)
    assert not made.smtputf8, "an address says nothing of the header"
    assert [recipient.notify for recipient in made.recipients] == [Notify.SUCCESS | Notify.DELAY] * 2


def test_a_file_without_wishes_has_none() -> None:
    ticket = parse_ticket(FIRST + b"Recipient: <ann@x>")
    assert ticket == Ticket(recipients=(Mailbox("ann", "x"),))


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"MasqMail-Pickup: 2\nRecipient: <a@b>",
        FIRST[:-1],
        FIRST + b"Sender: <a@b>",
        FIRST + b"Recipient: a@b",
        FIRST + b"Recipient: <>",
        FIRST + b"Recipient: <a b>",
        FIRST + b"Recipient: <a@b>\nWish: yes",
        FIRST + b"Recipient: <a@b>\nNotify: SOMETIMES",
        FIRST + b"Recipient: <a@b>\nRet: ALL",
        FIRST + b"Recipient: <a@b>\nBody: BINARYMIME",
        FIRST + b"Recipient: <a@b>\nEnvelope-ID: " + b"x" * 101,
        FIRST + b"Recipient: <\xff@b>",
    ],
)
def test_other_files_are_bad(lines: bytes) -> None:
    with pytest.raises(BadFile):
        parse_ticket(lines)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_bad(lines: bytes) -> None:
    with pytest.raises(BadFile):
        parse_ticket(FIRST + lines + b"\nNonsense: x")


def test_the_trailer_must_fit_the_size() -> None:
    assert content_length(TRAILER % 7, 7 + len(TRAILER % 0)) == 7
    assert content_length(TRAILER % 7, 8 + len(TRAILER % 0)) is None
    assert content_length(b"x" * 33, 40) is None
    assert content_length(b"", 0) is None


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b""]), max_size=12))
def test_lines_end_in_crlf_in_any_slices(parts: list[bytes]) -> None:
    lines = b"".join(parts).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert b"".join(crlf_lines(iter(parts))) == lines.replace(b"\n", b"\r\n")
