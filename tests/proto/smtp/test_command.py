"""Command lines to values, and what is refused with which reply."""

import re
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Body, Notify, Recipient, Ret
from masqmail.mail.status import Status
from masqmail.proto.errors import PeerError
from masqmail.proto.smtp import command as command_module
from masqmail.proto.smtp.command import (
    LONG_LINES,
    MAX_AUTH_LINE_BYTES,
    MAX_ENVELOPE_LINE_BYTES,
    MAX_LINE_BYTES,
    Atrn,
    Auth,
    Bdat,
    Command,
    Etrn,
    Hello,
    Mail,
    Rcpt,
    Simple,
    Verb,
    parse_command,
    traceable,
)
from masqmail.proto.smtp.parameters import UNKNOWN_PARAMETER
from masqmail.proto.smtp.xsubmit import XSubmit

ANN = Mailbox("ann", "example.org")
BOB = Mailbox("bob", "example.net")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"EHLO laptop.example.net", Hello(Verb.EHLO, "laptop.example.net")),
        (b"ehlo LAPTOP  ", Hello(Verb.EHLO, "LAPTOP")),
        (b"HELO [192.0.2.1]", Hello(Verb.HELO, "[192.0.2.1]")),
        (b"HELO [IPv6:2001:db8::1]", Hello(Verb.HELO, "[IPv6:2001:db8::1]")),
        (b"HELO my_pc", Hello(Verb.HELO, "my_pc")),
        (b"HELO  Anne's PC", Hello(Verb.HELO, "Anne's?PC")),
        (b"EHLO (none)", Hello(Verb.EHLO, "?none?")),
        ("HELO häuschen".encode(), Hello(Verb.HELO, "h?uschen")),
        (b"helo h\xe4uschen", Hello(Verb.HELO, "h?uschen")),
        (b"MAIL FROM:<ann@example.org>", Mail(ANN)),
        (b"mail from:<ann@example.org>", Mail(ANN)),
        (b"MAIL FROM:  <ann@example.org>", Mail(ANN)),
        (b"MAIL FROM:ann@example.org", Mail(ANN)),
        (b"mail from: ann@example.org  SIZE=5 BODY=7BIT", Mail(ANN, size_bytes=5)),
        (b"MAIL FROM:ann", Mail(Mailbox("ann"))),
        (b"RCPT TO:bob@example.net", Rcpt(Recipient(BOB))),
        (b"MAIL FROM:<>", Mail(None)),
        (b"MAIL FROM:<ann>", Mail(Mailbox("ann"))),
        (b"MAIL FROM:<@a.example,@b.example:ann@example.org>", Mail(ANN)),
        (b'MAIL FROM:<"a>b c"@example.org> SIZE=5', Mail(Mailbox("a>b c", "example.org"), size_bytes=5)),
        (b"MAIL FROM:<ann@example.org> size=0", Mail(ANN, size_bytes=0)),
        (b"MAIL FROM:<ann@example.org>  BODY=8BITMIME ", Mail(ANN, body=Body.EIGHT_BIT)),
        (b"MAIL FROM:<ann@example.org> BODY=7bit AUTH=<>", Mail(ANN)),
        (b"MAIL FROM:<ann@example.org> SMTPUTF8", Mail(ANN, smtputf8=True)),
        (
            b"MAIL FROM:<ann@example.org> RET=hdrs ENVID=a+2Bb",
            Mail(ANN, ret=Ret.HDRS, envid="a+b"),
        ),
        ("MAIL FROM:<äni@example.org> SMTPUTF8".encode(), Mail(Mailbox("äni", "example.org"), smtputf8=True)),
        (b"RCPT TO:<bob@example.net>", Rcpt(Recipient(BOB))),
        (b"RCPT TO:<Postmaster>", Rcpt(Recipient(Mailbox("Postmaster")))),
        (b"RCPT TO:<@gate.example:bob@example.net>", Rcpt(Recipient(BOB))),
        (b"RCPT TO:<bob@example.net> NOTIFY=never", Rcpt(Recipient(BOB, Notify.NEVER))),
        (
            b"RCPT TO:<bob@example.net> NOTIFY=DELAY,SUCCESS ORCPT=rfc822;Bob+2Bx@example.net",
            Rcpt(Recipient(BOB, Notify.DELAY | Notify.SUCCESS, "rfc822;Bob+x@example.net")),
        ),
        (b"DATA", Simple(Verb.DATA)),
        (b"DATA ", Simple(Verb.DATA)),
        (b"data", Simple(Verb.DATA)),
        (b"RSET", Simple(Verb.RSET)),
        (b"NOOP anything", Simple(Verb.NOOP)),
        (b"VRFY ann", Simple(Verb.VRFY)),
        (b"HELP", Simple(Verb.HELP)),
        (b"QUIT", Simple(Verb.QUIT)),
        (b"STARTTLS", Simple(Verb.STARTTLS)),
        (b"BDAT 100", Bdat(100, is_last=False)),
        (b"BDAT 0 last", Bdat(0, is_last=True)),
        (b"AUTH plain", Auth("PLAIN", None)),
        (b"AUTH PLAIN AGEAYg==", Auth("PLAIN", b"AGEAYg==")),
        (b"ATRN", Atrn(())),
        (b"atrn example.org", Atrn(("example.org",))),
        (b"ATRN example.org,Example.COM, example.net", Atrn(("example.org", "Example.COM", "example.net"))),
        (b"ETRN example.org", Etrn("example.org")),
        (b"ETRN @example.org", Etrn("example.org", with_subdomains=True)),
    ],
)
def test_a_command_line_becomes_a_value(line: bytes, command: Command) -> None:
    assert parse_command(line) == command


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"", "500 5.5.2"),
        (b"HELLO there", "500 5.5.2"),
        (b" QUIT", "500 5.5.2"),
        (b"QUIT\0", "500 5.5.2"),
        (b"NOOP \x7f", "500 5.5.2"),
        (b"MAIL FROM:<\xff@example.org>", "500 5.5.2"),
        (b"EXPN list", "502 5.5.1"),
        (b"TURN", "502 5.5.1"),
        (b"ATRN example.org example.com", "501 5.5.4"),
        (b"ATRN example.org,", "501 5.5.4"),
        (b"ATRN ,", "501 5.5.4"),
        (b"ATRN [192.0.2.1]", "501 5.5.4"),
        (b"ATRN ann@example.org", "501 5.5.4"),
        (b"ETRN", "501 5.5.4"),
        (b"ETRN @", "501 5.5.4"),
        (b"ETRN example.org,example.com", "501 5.5.4"),
        (b"ETRN #fax", "459 4.5.4"),
        (b"GET / HTTP/1.1", "421 4.7.0"),
        (b"CONNECT mail.example.net:25 HTTP/1.1", "421 4.7.0"),
        (b"EHLO", "501 5.5.4"),
        (b"HELO   ", "501 5.5.4"),
        (b"HELO a\0b", "500 5.5.2"),
        (b"HELO " + b"x" * 256, "501 5.5.4"),
        (b"MAIL", "501 5.5.4"),
        (b"MAIL FROM", "501 5.5.4"),
        (b"MAIL TO:<ann@example.org>", "501 5.5.4"),
        (b"MAIL FROM:", "501 5.1.7"),
        (b"MAIL FROM: ", "501 5.1.7"),
        (b"MAIL FROM:Ann Example <ann@example.org>", "501 5.5.4"),
        (b"MAIL FROM:ann@example.org>", "501 5.1.7"),
        (b"MAIL FROM:ann@example.org<bob@example.net>", "501 5.1.7"),
        (b"MAIL FROM:ann@@example.org", "501 5.1.7"),
        (b"MAIL FROM:ann@example.org FOO=1", "555 5.5.4"),
        (b"RCPT TO:", "501 5.1.3"),
        (b"MAIL FROM:<ann@example.org", "501 5.1.7"),
        (b"MAIL FROM:<ann@example.org>SIZE=1", "501 5.1.7"),
        (b"MAIL FROM:<ann@@example.org>", "501 5.1.7"),
        (b'MAIL FROM:<"ann@example.org>', "501 5.1.7"),
        (b"MAIL FROM:< ann@example.org>", "501 5.1.7"),
        (b"MAIL FROM:<@a.example:>", "501 5.1.7"),
        (b"MAIL FROM:<ann@example.org> SIZE", "501 5.5.4"),
        (b"MAIL FROM:<ann@example.org> SIZE=-1", "501 5.5.4"),
        (b"MAIL FROM:<ann@example.org> SIZE=" + b"9" * 21, "501 5.5.4"),
        (b"MAIL FROM:<ann@example.org> SIZE=1 size=1", "501 5.5.4"),
        (b"MAIL FROM:<ann@example.org> BODY", "501 5.5.4"),
        (b"MAIL FROM:<ann@example.org> BODY=BINARYMIME", "555 5.5.4"),
        (b"MAIL FROM:<ann@example.org> ORCPT=rfc822;x", "555 5.5.4"),
        (b"MAIL FROM:<ann@example.org> AUTH", "501 5.5.4"),
        (b"MAIL FROM:<ann@example.org> SMTPUTF8=1", "501 5.5.4"),
        ("MAIL FROM:<äni@example.org>".encode(), "553 5.6.7"),
        (b"RCPT TO:<>", "501 5.1.3"),
        (b"RCPT TO:<bob@" + b"x" * 250 + b".net>", "501 5.1.3"),
        (b"RCPT TO:<bob@example.net> SIZE=1", "555 5.5.4"),
        (b"DATA now", "501 5.5.4"),
        (b"RSET all", "501 5.5.4"),
        (b"VRFY", "501 5.5.4"),
        (b"BDAT", "501 5.5.4"),
        (b"BDAT x", "501 5.5.4"),
        (b"BDAT -1", "501 5.5.4"),
        (b"BDAT 1 FIRST", "501 5.5.4"),
        (b"AUTH", "501 5.5.4"),
        (b"AUTH PLAIN two words", "501 5.5.4"),
    ],
)
def test_what_is_no_command_is_refused(line: bytes, reply: str) -> None:
    with pytest.raises(PeerError) as caught:
        parse_command(line)
    assert str(caught.value).startswith(reply)


@pytest.mark.parametrize(
    ("parameters", "mail"),
    [
        (b"", Mail(None)),
        (b" XSELF", Mail(None, xsubmit=XSubmit(is_self=True))),
        (b" xheaderrcpts SIZE=5", Mail(None, size_bytes=5, xsubmit=XSubmit(header_recipients=True))),
        (b" XFULLNAME=J+C3+B6rg XQUEUEONLY", Mail(None, xsubmit=XSubmit(full_name="Jörg", queue_only=True))),
    ],
)
def test_the_parameters_of_xsubmit_are_read_where_it_is_offered(parameters: bytes, mail: Mail) -> None:
    assert parse_command(b"MAIL FROM:<>" + parameters, with_xsubmit=True) == mail


@pytest.mark.parametrize("parameter", [b"XSELF", b"XSELF=bad", b"XHEADERRCPTS", b"XFULLNAME=+", b"XQUEUEONLY"])
def test_elsewhere_they_are_unknown_whatever_their_value(parameter: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        parse_command(b"MAIL FROM:<> " + parameter)
    assert caught.value.status == UNKNOWN_PARAMETER


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"MAIL FROM:<ann@example.org> XSELF", "501 5.5.4"),
        (b"MAIL FROM:<> XSELF=ann", "501 5.5.4"),
        (b"MAIL FROM:<> XOTHER", "555 5.5.4"),
        (b"RCPT TO:<bob> XQUEUEONLY", "555 5.5.4"),
    ],
)
def test_what_makes_no_sense_with_xsubmit_is_refused(line: bytes, reply: str) -> None:
    with pytest.raises(PeerError) as caught:
        parse_command(line, with_xsubmit=True)
    assert str(caught.value).startswith(reply)


def test_mail_whose_recipients_stand_in_the_header_counts_as_its_own_command() -> None:
    assert Mail(None).verb is Verb.MAIL
    assert Mail(None, xsubmit=XSubmit(header_recipients=True)).verb is Verb.MAIL_XHEADERRCPTS


def test_a_path_of_256_octets_is_the_longest() -> None:
    longest = b"a" * 60 + b"@" + b"b" * 63 + (b"." + b"c" * 63) * 2 + b"." + b"d"
    longest += b"d" * (254 - len(longest))
    assert isinstance(parse_command(b"RCPT TO:<" + longest + b">"), Rcpt)
    with pytest.raises(PeerError):
        parse_command(b"RCPT TO:<" + longest + b"d>")


@pytest.mark.parametrize(
    ("start", "limit"),
    [
        (b"", MAX_LINE_BYTES),
        (b"NOOP ", MAX_LINE_BYTES),
        (b"MAIL", MAX_LINE_BYTES),
        (b"MAIL ", MAX_ENVELOPE_LINE_BYTES),
        (b"RCPT ", MAX_ENVELOPE_LINE_BYTES),
        (b"AUTH ", MAX_AUTH_LINE_BYTES),
    ],
)
def test_some_commands_may_be_longer(start: bytes, limit: int) -> None:
    assert LONG_LINES.get(start, MAX_LINE_BYTES) == limit


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"MAIL FROM:<ann@example.org>", b"MAIL FROM:<ann@example.org>"),
        (b"quit", b"quit"),
        (b"AUTH PLAIN AGFubgBzZXNhbWU=", b"AUTH (27 bytes hidden)"),
        (b"auth", b"AUTH (4 bytes hidden)"),
        (b"AGFubgBzZXNhbWU=", b"? (16 bytes hidden)"),  # the rest of a log-in that was refused
        (b"\xff\xff", b"? (2 bytes hidden)"),
    ],
)
def test_a_trace_never_shows_what_might_be_a_secret(line: bytes, shown: bytes) -> None:
    assert traceable(line) == shown


def test_the_repr_of_auth_hides_the_initial_response() -> None:
    assert "AGFubgBzZXNhbWU" not in repr(Auth("PLAIN", b"AGFubgBzZXNhbWU="))


def outcome(line: bytes) -> Command | Status:
    try:
        return parse_command(line)
    except PeerError as error:
        return error.status


NOWHERE = re.compile("(?!)")

addresses = st.one_of(
    st.text(alphabet="aZ0._-!'@<>\"\\ :ä", max_size=20),
    st.builds("{}@{}".format, st.text(alphabet="aB0_.+", max_size=70), st.text(alphabet="aB0.-_", max_size=12)),
    st.builds("a@{}".format, st.integers(240, 260).map("b".__mul__)),
)


@given(
    st.sampled_from(["MAIL FROM:<", "MAIL from:<", "RCPT TO:<", "RCPT To:<", "RCPT FROM:<", "MAIL FROM: <"]),
    addresses,
    st.sampled_from([">", "", ">x", "> ", "> SIZE=5", "> NOTIFY=NEVER", ">  BODY=8BITMIME SIZE=1", "> SMTPUTF8"]),
)
@example("MAIL FROM:<", "ann@example.org", "> SIZE=5")
@example("RCPT TO:<", "b" * 64 + "@example.org", ">")
@example("RCPT TO:<", "b" * 65 + "@example.org", ">")
def test_the_short_way_for_plain_paths_comes_to_the_same_result(start: str, address: str, end: str) -> None:
    line = f"{start}{address}{end}".encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_module, "_PLAIN", NOWHERE)
        long_way = outcome(line)
    assert outcome(line) == long_way


@given(st.binary(max_size=80) | st.text(alphabet='MAILFROMRCPTO:<>@\\" abc.=+;', max_size=80).map(str.encode))
def test_no_line_raises_anything_but_a_peer_error(line: bytes) -> None:
    for start in (b"", b"MAIL FROM:<", b"RCPT TO:<a@b> ORCPT=", b"MAIL FROM:<a@b> ", b"BDAT ", b"AUTH "):
        with suppress(PeerError):
            parse_command(start + line)
