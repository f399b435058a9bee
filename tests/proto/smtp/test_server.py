"""The server machine where dialogues do not reach: events, answers, misuse, protocol names, traces, bounds."""

from dataclasses import replace

import pytest

from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Body as BodyType
from masqmail.mail.envelope import Envelope, Notify, Recipient, Ret
from masqmail.mail.status import LOCAL_ERROR, OK, RECIPIENT_OK, SENDER_OK, SHUTTING_DOWN, TIMED_OUT, Status
from masqmail.proto.errors import UsageError
from masqmail.proto.lines import MAX_SKIPPED_BYTES
from masqmail.proto.smtp import machine
from masqmail.proto.smtp import server as server_module
from masqmail.proto.smtp.command import Mail, Rcpt
from masqmail.proto.smtp.replies import AUTHENTICATED
from masqmail.proto.smtp.server import Server
from masqmail.proto.smtp.session import (
    Authenticate,
    Begin,
    Body,
    Close,
    Discard,
    End,
    Offers,
    StartTls,
    State,
    Wait,
)
from masqmail.proto.smtp.xsubmit import XSubmit
from support.dialogue import Settings, Shell

OFFERS = Offers("mail.example.net", max_size_bytes=1000, starttls=True, auth=True)
ANN = Mailbox("ann", "example.org")
BOB = Mailbox("bob", "example.net")
ENVELOPE = b"MAIL FROM:<ann@example.org>\r\nRCPT TO:<bob@example.net>\r\n"


def greeted(offers: Offers = OFFERS) -> Server:
    server = Server(offers)
    server.receive(b"EHLO laptop\r\n")
    assert server.next_event() is None
    server.take_output()
    return server


def with_recipient(offers: Offers = OFFERS) -> Server:
    server = greeted(offers)
    server.receive(ENVELOPE)
    assert isinstance(server.next_event(), Mail)
    server.answer(SENDER_OK)
    assert isinstance(server.next_event(), Rcpt)
    server.answer(RECIPIENT_OK)
    server.take_output()
    return server


def test_a_message_is_announced_with_its_whole_envelope_and_then_streamed() -> None:
    server = greeted()
    server.receive(b"MAIL FROM:<ann@example.org> SIZE=7 BODY=8BITMIME RET=FULL ENVID=abc\r\n")
    assert server.next_event() == Mail(ANN, 7, BodyType.EIGHT_BIT, ret=Ret.FULL, envid="abc")
    server.answer(SENDER_OK)
    server.receive(b"RCPT TO:<bob@example.net> NOTIFY=DELAY\r\nDATA\r\n")
    recipient = Recipient(BOB, Notify.DELAY)
    assert server.next_event() == Rcpt(recipient)
    server.answer(RECIPIENT_OK)
    assert server.next_event() == Begin(Envelope(ANN, (recipient,), Ret.FULL, "abc", BodyType.EIGHT_BIT))
    server.answer(OK)
    assert server.next_event() is None
    assert server.wait is Wait.DATA
    assert server.take_output().endswith(b"354 End data with <CR><LF>.<CR><LF>\r\n")
    server.receive(b"one\r\n")
    assert server.next_event() == Body(b"one")  # its line end may be part of the end
    server.receive(b"two\r\n.\r\nNOOP\r\n")
    assert server.next_event() == Body(b"\r\ntwo\r\n")
    assert server.next_event() == End()
    assert server.next_event() is None
    assert server.take_output() == b""  # NOOP waits for the verdict
    server.conclude(OK.with_text("Stored"))
    assert server.next_event() is None
    assert server.take_output() == b"250 2.0.0 Stored\r\n250 2.0.0 OK\r\n"
    assert server.state is State.READY
    assert server.is_idle


@pytest.mark.parametrize("command", [b"DATA\r\n", b"BDAT 5\r\n", b"BDAT 5 LAST\r\n"])
def test_a_message_that_names_its_recipients_may_follow_mail(command: bytes) -> None:
    server = greeted(replace(OFFERS, xsubmit=True))
    server.receive(b"MAIL FROM:<> XSELF XHEADERRCPTS=NEVER\r\n" + command)
    asked = XSubmit(is_self=True, header_recipients=True, header_notify=Notify.NEVER)
    assert server.next_event() == Mail(None, xsubmit=asked)
    server.answer(SENDER_OK)
    assert server.state is State.RCPT
    assert server.next_event() == Begin(Envelope(None, ()))


def test_an_empty_chunk_is_complete_though_no_byte_follows() -> None:
    server = with_recipient()
    server.receive(b"BDAT 0 LAST\r\n")
    assert isinstance(server.next_event(), Begin)
    server.answer(OK)
    assert server.next_event() == End()
    assert server.next_event() is None


def test_a_refused_mail_lets_no_message_follow() -> None:
    server = greeted(replace(OFFERS, xsubmit=True))
    server.receive(b"MAIL FROM:<> XHEADERRCPTS\r\nDATA\r\n")
    server.next_event()
    server.answer(Status(550, "5.7.1", "No"))
    assert server.next_event() is None
    assert server.take_output().endswith(b"503 5.5.1 Need MAIL first\r\n")


def test_a_pipelined_command_waits_for_the_verdict_before_it() -> None:
    server = greeted()
    server.receive(ENVELOPE)
    assert isinstance(server.next_event(), Mail)
    assert server.next_event() is None
    server.answer(SENDER_OK)
    assert isinstance(server.next_event(), Rcpt)


def handed_out(server: Server, count: int = 1) -> None:
    """Goes on with the server until so many messages are complete, without a verdict on them."""
    while count:
        match server.next_event():
            case Mail():
                server.answer(SENDER_OK)
            case Rcpt():
                server.answer(RECIPIENT_OK)
            case Begin():
                server.answer(OK)
            case End():
                count -= 1
            case None:
                raise AssertionError("it waits for something")


MESSAGE = ENVELOPE + b"BDAT 4 LAST\r\nhi\r\n"
REPLIES = b"250 2.1.0 Sender OK\r\n250 2.1.5 Recipient OK\r\n"


def test_the_next_message_is_read_before_the_verdict_and_the_replies_stay_in_order() -> None:
    server = greeted()
    server.receive(MESSAGE + b"RSET\r\n" + MESSAGE)
    handed_out(server, 2)
    assert server.owes_verdicts
    assert server.take_output() == REPLIES
    server.conclude(LOCAL_ERROR)
    assert server.take_output() == b"451 4.3.0 Local error, try again later\r\n250 2.0.0 OK\r\n" + REPLIES
    server.conclude(OK)
    assert server.take_output() == b"250 2.0.0 OK\r\n"
    assert not server.owes_verdicts


@pytest.mark.parametrize(
    "line", [b"NOOP", b"EHLO again", b"QUIT", b"STARTTLS", b"AUTH PLAIN AGEAYg==", b"what?", b"x", b"DATAX"]
)
def test_what_is_no_part_of_a_message_waits_for_the_verdict(line: bytes) -> None:
    server = greeted()
    server.receive(MESSAGE + line + b"\r\n")
    handed_out(server)
    server.take_output()
    assert server.next_event() is None
    assert server.is_blocked
    server.conclude(OK)
    assert server.take_output() == b"250 2.0.0 OK\r\n"
    assert not server.is_blocked
    assert server.next_event() is not None or server.take_output()


@pytest.mark.parametrize(("bound", "value"), [("MAX_OWED_MESSAGES", 3), ("MAX_OWED_BYTES", 9)])
def test_only_so_much_is_read_ahead(monkeypatch: pytest.MonkeyPatch, bound: str, value: int) -> None:
    monkeypatch.setattr(machine, bound, value)
    server = greeted()
    server.receive(MESSAGE * 4)
    handed_out(server, 3)
    assert server.next_event() is None
    assert server.is_blocked
    server.conclude(OK)
    handed_out(server)


def test_an_end_of_ours_comes_behind_the_verdicts() -> None:
    server = greeted()
    server.receive(MESSAGE)
    handed_out(server)
    server.close(SHUTTING_DOWN)
    assert server.take_output() == REPLIES
    server.conclude(OK)
    assert server.take_output().startswith(b"250 2.0.0 OK\r\n421 4.3.2")


def test_long_lines_are_for_commands_in_any_case() -> None:
    shell = Shell(Settings())
    shell.feed(b"EHLO laptop\r\nmail from:<ann@example.org> envid=" + b"x" * 1000 + b"\r\n")
    assert shell.server.take_output().endswith(b"501 5.5.4 ENVID needs a value of at most 100 bytes\r\n")


@pytest.mark.parametrize("ending", [b"RSET\r\n", b"EHLO again\r\n", b"QUIT\r\n", b"GET / HTTP/1.0\r\n"])
def test_a_message_in_chunks_that_is_given_up_is_discarded(ending: bytes) -> None:
    server = with_recipient()
    server.receive(b"BDAT 2\r\nhi" + ending)
    assert isinstance(server.next_event(), Begin)
    server.answer(OK)
    assert server.next_event() == Body(b"hi")
    assert server.next_event() == Discard()
    assert server.is_idle


def test_a_message_without_fault_is_not_discarded() -> None:
    server = with_recipient()
    server.receive(b"BDAT 2 LAST\r\nhiRSET\r\n")
    server.next_event()
    server.answer(OK)
    assert [server.next_event() for _ in range(3)] == [Body(b"hi"), Body(b"\r\n"), End()]
    server.conclude(OK)
    assert server.next_event() is None


@pytest.mark.parametrize("text", [b"a\nb", b"x" * 1001, b"\0", b"\rb"])
def test_a_message_is_discarded_at_its_first_fault_and_not_stored_further(text: bytes) -> None:
    server = with_recipient()
    server.receive(b"DATA\r\n")
    server.next_event()
    server.answer(OK)
    server.receive(b"fine\r\n")
    assert server.next_event() == Body(b"fine")
    server.receive(text)
    assert server.next_event() == Discard()
    server.receive(b"more\r\n" * 100)
    assert server.next_event() is None
    server.receive(b".\r\n")
    assert server.next_event() is None
    assert server.take_output().split(b"\r\n")[-2][:3] in (b"552", b"554")
    assert server.state is State.READY


def test_the_verdict_is_the_same_for_a_message_with_two_faults_however_it_is_cut() -> None:
    for pieces in (
        [b"x" * 1001 + b"\n\r\n.\r\n"],
        [b"x" * 1001, b"\n", b"\r\n.\r\n"],
        [b"\n", b"x" * 2000, b"\r\n.\r\n"],
    ):
        server = with_recipient()
        server.receive(b"DATA\r\n")
        server.next_event()
        server.answer(OK)
        for piece in pieces:
            server.receive(piece)
            while server.next_event() is not None:
                pass
        assert b"554 5.6.0" in server.take_output()


def test_a_message_that_never_ends_is_refused_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_DISCARDED_BYTES", 5000)
    server = with_recipient()
    server.receive(b"DATA\r\n")
    server.next_event()
    server.answer(OK)
    events = []
    for _ in range(100):
        server.receive(b"x" * 100)
        while (event := server.next_event()) is not None:
            events.append(event)
    assert events[-2:] == [Discard(), Close()]
    assert server.take_output().endswith(b"552 5.3.4 Message too big\r\n")
    assert server.wait is Wait.NOTHING


def test_a_line_that_never_ends_closes_the_session() -> None:
    shell = Shell(Settings())
    for _ in range(MAX_SKIPPED_BYTES // 65536 + 2):
        shell.feed(b"x" * 65536)
    assert shell.is_closed
    assert shell.server.take_output().endswith(
        b"500 5.5.2 Line too long\r\n421 4.7.0 Too much without an end of line, closing\r\n"
    )


def test_many_refused_recipients_do_not_count_as_bad_commands() -> None:
    shell = Shell(Settings())
    shell.feed(b"EHLO laptop\r\nMAIL FROM:<ann@example.org>\r\n" + b"RCPT TO:<nonsense\r\n" * 100)
    assert not shell.is_closed


def test_an_accepted_message_restores_patience() -> None:
    shell = Shell(Settings())
    shell.feed(b"EHLO laptop\r\n")
    for _ in range(3):
        shell.feed(b"what?\r\n" * 19 + ENVELOPE + b"DATA\r\n.\r\n")
    assert not shell.is_closed
    shell.feed(b"what?\r\n" * 20)
    assert shell.is_closed


def test_an_answer_that_nobody_asked_for_is_our_mistake() -> None:
    with pytest.raises(UsageError):
        greeted().answer(OK)
    with pytest.raises(UsageError):
        greeted().conclude(OK)


def test_an_answer_is_taken_once() -> None:
    server = greeted()
    server.receive(b"MAIL FROM:<>\r\n")
    server.next_event()
    server.answer(SENDER_OK)
    with pytest.raises(UsageError):
        server.answer(SENDER_OK)


def test_between_starttls_and_tls_plain_bytes_are_our_mistake() -> None:
    server = greeted()
    server.receive(b"STARTTLS\r\n")
    assert server.next_event() == StartTls()
    assert server.wait is Wait.TLS
    with pytest.raises(UsageError):
        server.receive(b"EHLO eve\r\n")
    server.tls_started(OFFERS)
    assert server.state is State.START
    assert (server.helo_name, server.is_extended, server.is_tls) == ("", False, True)
    with pytest.raises(UsageError):
        server.tls_started(OFFERS)


def test_a_login_is_forgotten_when_tls_begins() -> None:
    server = greeted()
    server.receive(b"AUTH PLAIN AGEAYg==\r\nSTARTTLS\r\n")
    assert isinstance(server.next_event(), Authenticate)
    server.answer(AUTHENTICATED)
    assert server.is_authenticated
    assert server.next_event() == StartTls()
    server.tls_started(OFFERS)
    assert not server.is_authenticated


@pytest.mark.parametrize("status", [TIMED_OUT, SHUTTING_DOWN])
def test_we_may_close_at_any_moment(status: Status) -> None:
    server = with_recipient()
    server.close(status)
    assert server.take_output().startswith(b"421 " + status.enhanced.encode())
    assert server.wait is Wait.NOTHING
    server.close(SHUTTING_DOWN)
    server.receive(b"NOOP\r\n")
    assert server.next_event() is None
    assert server.take_output() == b""


def test_what_follows_quit_is_not_read() -> None:
    server = greeted()
    server.receive(b"QUIT\r\nMAIL FROM:<ann@example.org>\r\n")
    assert server.next_event() == Close()
    assert server.next_event() is None
    assert server.take_output() == b"221 2.0.0 Goodbye\r\n"


@pytest.mark.parametrize(
    ("hello", "is_tls", "login", "parameter", "protocol"),
    [
        (b"HELO x", False, False, b"", "SMTP"),
        (b"EHLO x", False, False, b"", "ESMTP"),
        (b"EHLO x", True, False, b"", "ESMTPS"),
        (b"EHLO x", False, True, b"", "ESMTPA"),
        (b"EHLO x", True, True, b"", "ESMTPSA"),
        (b"EHLO x", False, False, b" SMTPUTF8", "UTF8SMTP"),
        (b"EHLO x", True, True, b" SMTPUTF8", "UTF8SMTPSA"),
    ],
)
def test_the_protocol_has_its_registered_name(
    hello: bytes, is_tls: bool, login: bool, parameter: bytes, protocol: str
) -> None:
    server = Server(OFFERS, is_tls=is_tls)
    server.receive(hello + b"\r\n" + (b"AUTH PLAIN AGEAYg==\r\n" if login else b""))
    if server.next_event():
        server.answer(AUTHENTICATED)
    server.receive(b"MAIL FROM:<>" + parameter + b"\r\n")
    server.next_event()
    server.answer(SENDER_OK)
    assert server.protocol == protocol


def test_a_trace_has_every_line_but_the_secrets() -> None:
    lines: list[bytes] = []
    server = Server(OFFERS, trace=lambda direction, line: lines.append(direction.encode() + b" " + line))
    server.receive(b"HELO x\r\nAUTH LOGIN\r\nYW5u\r\nc2VzYW1l\r\nNOOP\r\n")
    server.next_event()
    server.answer(AUTHENTICATED)
    server.next_event()
    assert lines == [
        b"S: 220 mail.example.net ESMTP MasqMail",
        b"C: HELO x",
        b"S: 250 mail.example.net greets x",
        b"C: AUTH (10 bytes hidden)",
        b"S: 235 2.7.0 Welcome",
        b"C: NOOP",
        b"S: 250 2.0.0 OK",
    ]


def test_a_trace_has_the_replies_in_the_order_in_which_they_leave() -> None:
    lines: list[bytes] = []
    server = Server(OFFERS, trace=lambda direction, line: lines.append(direction.encode() + b" " + line))
    server.receive(b"HELO x\r\n" + MESSAGE + b"RSET\r\n")
    handed_out(server)
    assert server.next_event() is None
    assert lines[-1] == b"C: RSET"
    server.conclude(OK.with_text("Stored"))
    assert lines[-2:] == [b"S: 250 2.0.0 Stored", b"S: 250 2.0.0 OK"]


def test_the_machine_waits_for_what_comes_next() -> None:
    server = greeted()
    server.receive(b"AUTH LOGIN\r\n")
    server.next_event()
    assert server.wait is Wait.RESPONSE
    server.receive(b"*\r\n")
    server.next_event()
    assert server.wait is Wait.COMMAND
    server = with_recipient()
    server.receive(b"BDAT 5\r\nab")
    server.next_event()
    server.answer(OK)
    server.next_event()
    assert server.wait is Wait.CHUNK
