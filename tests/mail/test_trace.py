"""Trace fields: exact bytes, hops, and what a mailbox copy gets."""

from datetime import UTC, datetime

import pytest

from masqmail import __version__
from masqmail.mail.address import Mailbox
from masqmail.mail.header import field_names, split_fields
from masqmail.mail.trace import (
    client_clause,
    count_hops,
    describe_client,
    describe_fetched,
    fetched_clause,
    for_mailbox,
    local_clause,
    protocol_keyword,
    read_client,
    received_field,
    was_delivered_to,
)

WHEN = datetime(2025, 11, 21, 9, 30, tzinfo=UTC)
ANN = Mailbox("ann", "example.org")


def received(clause: str, protocol: str = "ESMTPS", recipient: Mailbox | None = None) -> str:
    field = received_field(
        clause=clause,
        host_name="gw.example.org",
        protocol=protocol,
        queue_id="0abc",
        received_at=WHEN,
        recipient=recipient,
    )
    return field.decode()


def test_a_message_from_the_network_gets_its_whole_trace() -> None:
    assert received(client_clause("printer", "192.0.2.7", "p.example.org"), recipient=ANN) == (
        "Received: from printer (p.example.org [192.0.2.7])\r\n"
        f"\tby gw.example.org (MasqMail {__version__}) with ESMTPS\r\n"
        "\tid 0abc\r\n\tfor <ann@example.org>;\r\n"
        "\tFri, 21 Nov 2025 09:30:00 +0000\r\n"
    )


def test_a_local_message_names_its_user_and_no_protocol() -> None:
    field = received(local_clause("bob", 1000), "local")
    assert field.startswith("Received: (from user bob, uid 1000)\r\n\tby gw.example.org (MasqMail ")
    assert " with " not in field
    assert " for " not in field


@pytest.mark.parametrize(
    ("server", "account", "clause"),
    [
        ("pop.isp.example", "isp", "from pop.isp.example (account isp)"),
        ("192.0.2.7", "isp", "from [192.0.2.7] (account isp)"),
        ("2001:db8::7", "isp", "from [IPv6:2001:db8::7] (account isp)"),
        ("pöst.example", "my (old)\r\nbüro", "from p?st.example (account my?old?b?ro)"),
    ],
)
def test_a_fetched_message_names_server_and_account(server: str, account: str, clause: str) -> None:
    assert fetched_clause(server, account) == clause
    field = received(clause, "POP3")
    assert field.startswith(f"Received: {clause}\r\n\tby gw.example.org (MasqMail {__version__}) with POP3\r\n")
    assert read_client("POP3", describe_fetched(server, account)) == (server, "")


@pytest.mark.parametrize("recipient", [Mailbox("ann", "bücher.example"), Mailbox("jörg", "example.org")])
def test_a_recipient_with_utf8_is_not_named_so_that_the_header_stays_ascii(recipient: Mailbox) -> None:
    assert " for " not in received("", recipient=recipient)


def test_a_trace_field_is_one_field() -> None:
    assert [field.name for field in split_fields(received("", "local").encode())] == ["received"]


def test_an_ipv6_address_is_a_literal() -> None:
    assert client_clause("[IPv6:::1]", "::1") == "from [IPv6:::1] ([IPv6:::1])"


def test_what_a_client_says_cannot_leave_its_place() -> None:
    clause = client_clause("x)\r\nBcc: y", "192.0.2.7", "a (b\\")
    assert clause == "from x?Bcc:?y (a?b? [192.0.2.7])"


@pytest.mark.parametrize(
    ("facts", "keyword"),
    [
        ({"extended": False}, "SMTP"),
        ({}, "ESMTP"),
        ({"tls": True}, "ESMTPS"),
        ({"login": True}, "ESMTPA"),
        ({"tls": True, "login": True}, "ESMTPSA"),
        ({"smtputf8": True, "tls": True}, "UTF8SMTPS"),
        ({"lmtp": True, "login": True}, "LMTPA"),
        ({"lmtp": True, "smtputf8": True}, "UTF8LMTP"),
    ],
)
def test_transmission_types_have_their_registered_names(facts: dict[str, bool], keyword: str) -> None:
    assert protocol_keyword(**facts) == keyword
    assert f" with {keyword}\r\n" in received("", keyword)


def test_hops_are_received_fields_at_the_start_of_a_line() -> None:
    header = b"Received: a\r\n\tReceived: folded\r\nreceived : b\r\nX-Received: c\r\nSubject: Received: d\r\n"
    assert count_hops(field_names(header)) == 2


def test_a_mailbox_copy_has_its_own_return_path_on_top() -> None:
    header = b"Return-Path: <forged@example.net>\r\nSubject:  odd \r\nEnvelope-To: x\r\n"
    made = for_mailbox(header, reverse_path=None, mailbox=Mailbox("bob", "gw"), envelope_to="list@gw")
    assert made == b"Return-Path: <>\r\nDelivered-To: bob@gw\r\nEnvelope-To: list@gw\r\nSubject:  odd \r\n"


def test_an_older_envelope_to_can_be_kept_under_another_name() -> None:
    made = for_mailbox(
        b"Envelope-to :  old\r\n\tx\r\n",
        reverse_path=ANN,
        mailbox=Mailbox("bob", "gw"),
        envelope_to="bob@gw",
        save_envelope_to=True,
    )
    assert made.startswith(b"Return-Path: <ann@example.org>\r\n")
    assert made.endswith(b"\r\nX-Orig-Envelope-To:  old\r\n\tx\r\n")


@pytest.mark.parametrize(
    ("header", "loops"),
    [
        (b"Delivered-To: bob@GW\r\n", True),
        (b"Delivered-To: <bob@gw>\r\n", True),
        (b"Subject: x\r\ndelivered-to: eve@gw\r\nDelivered-To: bob@gw\r\n", True),
        (b"Delivered-To: Bob@gw\r\n", False),
        (b"Delivered-To: bob@elsewhere\r\n", False),
        (b"Delivered-To: \xff@@\r\n", False),
        (b"To: bob@gw\r\n", False),
    ],
)
def test_a_delivered_to_of_the_same_mailbox_is_a_loop(header: bytes, loops: bool) -> None:
    assert was_delivered_to(split_fields(header), Mailbox("bob", "gw")) is loops


@pytest.mark.parametrize(
    ("told", "description", "host", "ident"),
    [
        ({}, "192.0.2.7", "192.0.2.7", ""),
        ({"helo": "printer"}, "192.0.2.7 (printer)", "192.0.2.7", ""),
        ({"helo": "printer", "user": "ann"}, "ann at 192.0.2.7 (printer)", "192.0.2.7", ""),
        ({"helo": "x", "ident": "bob"}, "192.0.2.7 ident=bob (x)", "192.0.2.7", "bob"),
        ({"user": "ann", "ident": "bob"}, "ann at 192.0.2.7 ident=bob", "192.0.2.7", "bob"),
        ({"ident": "b (at) \r\n"}, "192.0.2.7 ident=b?at?", "192.0.2.7", "b?at?"),
        ({"helo": "x) ident=root"}, "192.0.2.7 (x) ident=root)", "192.0.2.7", ""),
    ],
)
def test_a_client_is_described_and_understood(told: dict[str, str], description: str, host: str, ident: str) -> None:
    assert describe_client("192.0.2.7", **told) == description
    assert read_client("ESMTP", description) == (host, ident)


@pytest.mark.parametrize(
    ("description", "ident"),
    [("bob (uid 1000)", "bob"), ("uid 1000", ""), ("", ""), ("x ident=y (uid 1)", "x ident=y")],
)
def test_the_user_of_this_host_is_known_without_asking(description: str, ident: str) -> None:
    assert read_client("local", description) == ("", ident)


def test_the_user_that_a_host_names_is_a_comment() -> None:
    assert (
        client_clause("printer", "192.0.2.7", ident="a)\r\nBcc: b") == "from printer ([192.0.2.7]) (ident=a?Bcc:?b)"
    )
