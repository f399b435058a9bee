"""Who gets a fetched message is read where its server wrote the envelope, and nowhere else."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.routing.multidrop import MAX_RECIPIENTS, MultidropRules, recipients_of, return_path_of

OWNER = Mailbox("owner")
DOMAINS = ("home.example", "Zweit.example", "müller.example", "straße.example")


class Form(NamedTuple):
    """A way in which servers write down the envelope, and who is found in it."""

    field: str
    header: str
    found: str  # addresses with blanks between them; "owner" is `deliver_to`
    strip: str = ""
    has_envelope: bool = True


TO = "To: ann@home.example\r\nCc: bob@home.example\r\n"

FORMS = {
    # fields of their own
    "Postfix": Form("Delivered-To", "Delivered-To: john@home.example\r\n", "john@home.example"),
    "Postfix, as it was asked for": Form(
        "X-Original-To",
        "Return-Path: <a@x.example>\r\nX-Original-To: john@home.example\r\nDelivered-To: box17@isp.example\r\n",
        "john@home.example",
    ),
    "Exim": Form("Envelope-To", "Envelope-to: john@home.example\r\n", "john@home.example"),
    "Exim, several": Form(
        "Envelope-to",
        "Envelope-to: john@home.example,\r\n\tann@zweit.example\r\n",
        "john@home.example ann@Zweit.example",
    ),
    "X-Envelope-To": Form("X-Envelope-To", "X-Envelope-To: <john@home.example>\r\n", "john@home.example"),
    "a field of one provider": Form("X-RCPT-TO", "x-rcpt-to: <john@home.example>\r\n", "john@home.example"),
    "qmail": Form(
        "Delivered-To", "Delivered-To: mbox-foo-john@home.example\r\n", "john@home.example", strip="mbox-foo-"
    ),
    "qmail, in capitals": Form(
        "Delivered-To", "Delivered-To: Mbox-Foo-John@HOME.example\r\n", "John@home.example", strip="mbox-foo-"
    ),
    "without the prefix": Form(
        "Delivered-To", "Delivered-To: john@home.example\r\n", "john@home.example", strip="mbox-foo-"
    ),
    "nothing behind the prefix": Form(
        "Delivered-To", "Delivered-To: mbox-foo-@home.example\r\n", "owner", strip="mbox-foo-", has_envelope=False
    ),
    "qmail, with its Received between": Form(
        "Delivered-To",
        "Delivered-To: mbox-foo-john@home.example\r\nReceived: (qmail 1234 invoked by alias); 1 Jan 2026 00:00:00\r\n"
        "Delivered-To: alias-foo-eve@home.example\r\n",
        "john@home.example",
        strip="mbox-foo-",
    ),
    # how addresses are written
    "a comment and a fold": Form(
        "Delivered-To", "Delivered-To: (final\r\n  (copy)) john@home.example\r\n (yes)\r\n", "john@home.example"
    ),
    "a quoted local-part": Form(
        "Delivered-To", 'Delivered-To: "john, jr. \\"jj\\""@home.example\r\n', '"john,_jr._\\"jj\\""@home.example'
    ),
    "a display name": Form("Delivered-To", 'Delivered-To: "Doe, John" <john@home.example>\r\n', "john@home.example"),
    "a source route": Form("Delivered-To", "Delivered-To: <@a.example:john@home.example>\r\n", "john@home.example"),
    "another case of the domain": Form("Delivered-To", "Delivered-To: John@Home.EXAMPLE\r\n", "John@home.example"),
    "a final dot": Form("Delivered-To", "Delivered-To: john@home.example.\r\n", "john@home.example"),
    "a final dot in brackets": Form("Delivered-To", "Delivered-To: <john@home.example.>\r\n", "john@home.example"),
    "an A-label": Form("Delivered-To", "Delivered-To: john@xn--mller-kva.example\r\n", "john@müller.example"),
    "an A-label with ß": Form("Delivered-To", "Delivered-To: j@xn--strae-oqa.example\r\n", "j@straße.example"),
    "UTF-8": Form("Delivered-To", "Delivered-To: jörg@MÜLLER.example\r\n", "jörg@müller.example"),
    "a blank before the colon": Form("Delivered-To", "DELIVERED-TO : john@home.example\r\n", "john@home.example"),
    "one mailbox twice": Form(
        "Envelope-To", "Envelope-To: john@home.example, <john@HOME.example>\r\n", "john@home.example"
    ),
    # several of them
    "the topmost counts": Form(
        "Delivered-To", "Delivered-To: john@home.example\r\nDelivered-To: eve@home.example\r\n", "john@home.example"
    ),
    "the topmost counts, also of another domain": Form(
        "Delivered-To", "Delivered-To: box17@isp.example\r\nDelivered-To: john@home.example\r\n", "owner"
    ),
    "one of ours, one elsewhere": Form(
        "Envelope-To", "Envelope-To: john@home.example, box17@isp.example\r\n", "john@home.example owner"
    ),
    # not to be used
    "none at all": Form("Delivered-To", "Subject: x\r\n", "owner", has_envelope=False),
    "another domain": Form("Delivered-To", "Delivered-To: john@elsewhere.example\r\n", "owner"),
    "a domain below ours": Form("Delivered-To", "Delivered-To: john@a.home.example\r\n", "owner"),
    "no domain": Form("Delivered-To", "Delivered-To: john\r\n", "owner", has_envelope=False),
    "empty": Form("Delivered-To", "Delivered-To:\r\nDelivered-To: eve@home.example\r\n", "owner", has_envelope=False),
    "garbage": Form("Delivered-To", 'Delivered-To: @@<(,,;"\xff\r\n', "owner", has_envelope=False),
    "a null path": Form("Delivered-To", "Delivered-To: <>\r\n", "owner", has_envelope=False),
    # Received
    "Received of Postfix": Form(
        "Received",
        "Received: from mx (mx.example [192.0.2.1])\r\n\tby in.isp.example (Postfix) with ESMTPS id 4F\r\n"
        "\tfor <john@home.example>; Thu,  1 Jan 2026 00:00:00 +0000 (UTC)\r\n",
        "john@home.example",
    ),
    "Received of Exim": Form(
        "Received",
        "Received: from [192.0.2.1] (helo=for)\r\n\tby in.isp.example with esmtp (Exim 4.98)\r\n"
        "\t(envelope-from <for@home.example>)\r\n\tid 1u-0\r\n\tfor john@home.example;\r\n\tThu, 01 Jan 2026\r\n",
        "john@home.example",
    ),
    "Received with a quoted local-part": Form(
        "received", 'Received: by x for <"a>b"@home.example>; Thu\r\n', '"a>b"@home.example'
    ),
    "Received with for in a comment": Form(
        "Received",
        'Received: from x (for <eve@home.example> ") by y\r\n (nested (for <eve@home.example>))'
        " FOR <john@home.example>; Thu\r\n",
        "john@home.example",
    ),
    "Received of hops inside of the provider": Form(
        "Received",
        "Received: by store.isp.example for <box17@isp.example>; Thu\r\nReceived: by scan.isp.example; Thu\r\n"
        "Received: by in.isp.example for <john@home.example>; Thu\r\nReceived: by x for <eve@home.example>; Thu\r\n",
        "john@home.example",
    ),
    "Received with a prefix": Form(
        "Received", "Received: by x for <mbox-foo-john@home.example>; Thu\r\n", "john@home.example", strip="mbox-foo-"
    ),
    "Received for another domain": Form("Received", "Received: by x for <john@isp.example>; Thu\r\n", "owner"),
    "Received without for": Form("Received", "Received: from for.example by x; Thu\r\n", "owner", has_envelope=False),
    "Received for several": Form(
        "Received", "Received: by x for <multiple recipients>; Thu\r\n", "owner", has_envelope=False
    ),
    "Received that is never closed": Form(
        "Received", "Received: by x (for <john@home.example>; Thu\r\n", "owner", has_envelope=False
    ),
    # nobody asked
    "one address for all": Form("", "Delivered-To: john@home.example\r\n", "owner", has_envelope=False),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_envelope_is_found_as_servers_write_it(form: Form) -> None:
    rules = MultidropRules(OWNER, form.field, form.strip, DOMAINS)
    drop = recipients_of((form.header + TO).encode("latin-1" if "\xff" in form.header else "utf-8"), rules)
    assert drop.recipients == tuple(parse_mailbox(address.replace("_", " ")) for address in form.found.split())
    assert drop.has_envelope is form.has_envelope
    assert drop.reason


def test_what_comes_with_many_recipients_reaches_those_that_fit_and_the_owner() -> None:
    names = ", ".join(f"u{number}@home.example" for number in range(MAX_RECIPIENTS + 1))
    drop = recipients_of(f"Envelope-To: {names}\r\n".encode(), MultidropRules(OWNER, "Envelope-To", "", DOMAINS))
    assert len(drop.recipients) == MAX_RECIPIENTS + 1
    assert drop.recipients[-1] == OWNER
    assert "too many" in drop.reason


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "it has no Delivered-To"),
        ("Delivered-To: ?\r\n", "its Delivered-To names no address"),
        ("Delivered-To: a@home.example\r\n", "its Delivered-To names a@home.example"),
        ("Delivered-To: a@isp.example\r\n", "its Delivered-To names a@isp.example, outside of multidrop_domains"),
        (
            "Delivered-To: a@home.example, b@isp.example\r\n",
            "its Delivered-To names a@home.example, and b@isp.example, outside of multidrop_domains",
        ),
    ],
)
def test_the_reason_says_where_the_recipient_came_from(header: str, reason: str) -> None:
    assert recipients_of(header.encode(), MultidropRules(OWNER, "Delivered-To", "", DOMAINS)).reason == reason


PIECES = [
    b"Delivered-To:",
    b"Received: ",
    b"Return-Path:",
    b" for ",
    b"<",
    b">",
    b"(",
    b")",
    b'"',
    b"\\",
    b"\r\n",
    b" ",
]
PIECES += [
    b"john@home.example",
    b"@",
    b".",
    b",",
    b";",
    b":",
    b"\xff",
    b"\xc3\xbc",
    b"xn--",
    b"xn--\xff",
    b"\0",
    b"[",
]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join))
def test_nothing_in_a_header_raises(header: bytes) -> None:
    for field in ("Delivered-To", "Received"):
        drop = recipients_of(field.encode() + b":" + header, MultidropRules(OWNER, field, "x", DOMAINS))
        assert drop.recipients
        assert len(set(drop.recipients)) == len(drop.recipients)
    for name in (b"Return-Path:", b"From:", b""):
        return_path_of(name + header, None)


# the return path


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Return-Path: <ann@example.org>\r\nReturn-Path: <eve@example.org>\r\n", "ann@example.org"),
        ("Received: x\r\nReturn-path: ann@example.org\r\nFrom: eve@example.org\r\n", "ann@example.org"),
        ("Return-Path: <>\r\nFrom: mailer-daemon@example.org\r\n", None),
        ("Return-Path: < > (a bounce)\r\nFrom: mailer-daemon@example.org\r\n", None),
        ("Return-Path:\r\nSender: ann@example.org\r\nFrom: eve@example.org\r\n", "ann@example.org"),
        ("Return-Path: <MAILER-DAEMON>\r\nFrom: Ann (x) <ann@example.org>, eve@example.org\r\n", "ann@example.org"),
        ("Return-Path: garbage <\r\nFrom: =?utf-8?q?=C3=A4?= <ann@example.org>\r\n", "ann@example.org"),
        ('Return-Path: <"a b"@example.org.>\r\n', '"a b"@example.org'),
        ("From: ann\r\nTo: bob@example.org\r\n", "postmaster"),
        ("", "postmaster"),
    ],
)
def test_the_return_path_is_the_one_that_the_server_noted_or_else_the_author(
    header: str, expected: str | None
) -> None:
    assert return_path_of(header.encode(), None) == (expected and parse_mailbox(expected))


def test_the_configured_return_path_wins() -> None:
    for header in (b"Return-Path: <ann@example.org>\r\n", b"Return-Path: <>\r\n", b""):
        assert return_path_of(header, Mailbox("postmaster")) == Mailbox("postmaster")
