"""A route changes local addresses in five places, and no other byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.addresslist import parse_address_list
from masqmail.mail.header import split_fields
from masqmail.routing.rewrite import Change, RewriteValue, changes, parse_rewrite_value, rewrite_header, rewrite_path
from masqmail.routing.route import Rewriting
from support.routes import LOCAL, path

MAP = (("john", "John Smith <jsmith@fast.example>"), ("j*", "j@fast.example"), ("*", "*@fast.example"))

PATHS = [
    ("<>", "<>"),
    ("john@home.example", "jsmith@fast.example"),
    ("john", "jsmith@fast.example"),
    ("JOHN@HOME.example", "jsmith@fast.example"),
    ("jane@home.example", "j@fast.example"),
    ("ann@home.example", "ann@fast.example"),
    ("ann+x@localhost", "ann+x@fast.example"),
    ("john@elsewhere.example", "john@elsewhere.example"),
    ("eric@home.example", "eric@home.example"),
    ("bob@isp.example", "bob@isp.example"),
]


@pytest.mark.parametrize(("before", "after"), PATHS)
def test_a_local_reverse_path_is_rewritten_and_no_other(before: str, after: str) -> None:
    assert rewrite_path(path(before), Rewriting(return_path=MAP), LOCAL) == path(after)


def test_the_null_reverse_path_stays_null_whatever_the_keys() -> None:
    rewriting = Rewriting(return_path=(("*", "x@y"), ("", "x@y"), ("<>", "x@y")), all=(("*", "x@y"),))
    assert rewrite_path(None, rewriting, LOCAL) is None


def test_the_map_for_all_holds_where_the_special_one_has_no_key() -> None:
    rewriting = Rewriting(return_path=(("john", "a@fast.example"),), all=(("*", "b@fast.example"),))
    assert rewrite_path(path("john@localhost"), rewriting, LOCAL) == path("a@fast.example")
    assert rewrite_path(path("ann@localhost"), rewriting, LOCAL) == path("b@fast.example")


FIELDS = [
    # field before, field after
    (b"From: john@home.example\r\n", b"From: John Smith <jsmith@fast.example>\r\n"),
    (b"From: <john@home.example>\r\n", b"From: John Smith <jsmith@fast.example>\r\n"),
    (b"From: John D <john@home.example>\r\n", b"From: John D <jsmith@fast.example>\r\n"),
    (b'FROM:  "D, J"\r\n\t<john@home.example> \r\n', b'FROM:  "D, J"\r\n\t<jsmith@fast.example> \r\n'),
    (b"From: john@home.example (Johnny)\r\n", b"From: jsmith@fast.example (Johnny)\r\n"),
    (b"From:john\r\n", b"From:John Smith <jsmith@fast.example>\r\n"),
    (b"From: =?utf-8?q?J=C3?= <john@localhost>\r\n", b"From: =?utf-8?q?J=C3?= <jsmith@fast.example>\r\n"),
    (b"From: ann@home.example\r\n", b"From: ann@fast.example\r\n"),
    (b'From: "a b"@home.example\r\n', b'From: "a b"@fast.example\r\n'),
    (b"From: x@y.example, ann@localhost , z\r\n", b"From: x@y.example, ann@fast.example , z@fast.example\r\n"),
    (b"From: Us: ann@localhost, x@y;\r\n", b"From: Us: ann@fast.example, x@y;\r\n"),
    (b"From: ann . b @ home.example\r\n", b"From: ann.b@fast.example\r\n"),
    (b"From: <@relay:ann@localhost>\r\n", b"From: <ann@fast.example>\r\n"),
    (b"From: No Address Here, ann@localhost\r\n", b"From: No Address Here, ann@fast.example\r\n"),
    (b"Sender: ann@localhost\r\n", b"Sender: ann@fast.example\r\n"),
    (b"Reply-To: ann@localhost, x@y\r\n", b"Reply-To: ann@fast.example, x@y\r\n"),
    (b"Mail-Followup-To: x@y, ann@localhost\r\n", b"Mail-Followup-To: x@y, ann@fast.example\r\n"),
]


@pytest.mark.parametrize(("before", "after"), FIELDS)
def test_only_the_bytes_of_the_address_change(before: bytes, after: bytes) -> None:
    around = (b"Subject: ann@localhost\r\n", b"X-Odd :\t y\r\nno field\r\n")
    assert rewrite_header(before.join(around), Rewriting(all=MAP), LOCAL) == after.join(around)


UNTOUCHED = [
    b"To: ann@localhost\r\n",
    b"Cc: ann@localhost\r\n",
    b"Resent-From: ann@localhost\r\n",
    b"Errors-To: ann@localhost\r\n",
    b"Return-Path: <ann@localhost>\r\n",
    b"From: ann@elsewhere.example\r\n",
    b"From: <>\r\n",
    b'From: "ann@localhost\r\n',
    b"Fromage: ann@localhost\r\n",
    b"",
]


@pytest.mark.parametrize("header", UNTOUCHED)
def test_a_header_without_anything_to_change_is_the_same_object(header: bytes) -> None:
    assert rewrite_header(header, Rewriting(all=MAP), LOCAL) is header


def test_each_field_has_its_own_map() -> None:
    rewriting = Rewriting(from_=(("*", "f@x"),), sender=(("*", "s@x"),), reply_to=(("*", "r@x"),))
    header = b"From: a\r\nSender: b\r\nReply-To: c\r\nMail-Followup-To: d\r\nFrom: e\r\n"
    assert rewrite_header(header, rewriting, LOCAL) == (
        b"From: f@x\r\nSender: s@x\r\nReply-To: r@x\r\nMail-Followup-To: d\r\nFrom: f@x\r\n"
    )


def test_a_name_beyond_ascii_is_encoded_and_one_with_a_comma_quoted() -> None:
    rewriting = Rewriting(all=(("j", "Jörg <j@x>"), ("d", '"Doe, John" <d@x>')))
    assert rewrite_header(b"From: j, d\r\n", rewriting, LOCAL) == (
        b'From: =?UTF-8?B?SsO2cmc=?= <j@x>, "Doe, John" <d@x>\r\n'
    )


def test_changes_are_listed_with_the_names_of_the_settings() -> None:
    header = b"From: ann@localhost, x@y\r\nReply-To: john@localhost\r\nMail-Followup-To: x@y\r\n"
    assert changes(path("john@localhost"), header, Rewriting(all=MAP), LOCAL) == [
        Change("return_path", "john@localhost", "jsmith@fast.example"),
        Change("from", "ann@localhost", "ann@fast.example"),
        Change("reply_to", "john@localhost", "John Smith <jsmith@fast.example>"),
    ]
    assert changes(None, header, Rewriting(), LOCAL) == []


@pytest.mark.parametrize(
    ("header", "after"),
    [
        (b"From: j@localhost\r\n", "Jörg <j@x>"),
        (b"From: Joe <j@localhost>\r\n", "j@x"),
        (b"From: j@localhost (Joe)\r\n", "j@x"),
    ],
)
def test_a_change_shows_the_name_that_is_added_as_people_read_it(header: bytes, after: str) -> None:
    rewriting = Rewriting(from_=(("j", "Jörg <j@x>"),))
    assert changes(None, header, rewriting, LOCAL) == [Change("from", "j@localhost", after)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a@x", RewriteValue("x", "a")),
        ("*@x", RewriteValue("x")),
        ("John Smith <a@x>", RewriteValue("x", "a", "John Smith")),
        ("Smith, J <a@x>", RewriteValue("x", "a", "Smith, J")),
        ("<a@x>", RewriteValue("x", "a")),
        ('"Smith, J" <*@x>', RewriteValue("x", None, "Smith, J")),
    ],
)
def test_a_value_is_an_address_a_domain_or_an_address_with_a_name(text: str, value: RewriteValue) -> None:
    assert parse_rewrite_value(text) == value


@pytest.mark.parametrize("text", ["", "john", "John Smith", "a@x, b@x", "a@", "@x", "a*@x", "<>", "<a@x"])
def test_a_value_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"one address|no domain|stands alone"):
        parse_rewrite_value(text)


PIECES = st.sampled_from(
    [
        "\r\n ",
        " ",
        "a@localhost",
        "b@y",
        "c",
        ",",
        '"',
        "(",
        ")",
        "<",
        ">",
        "N",
        ";",
        ":",
        "@r:",
        ".",
        "<a@localhost>",
    ]
)


@given(st.lists(PIECES, max_size=20).map("".join))
def test_the_rewritten_field_has_the_rewritten_addresses(value: str) -> None:
    header = f"Subject: a@localhost\r\nFrom:{value}\r\nTo: a@localhost\r\n".encode()
    rewritten = rewrite_header(header, Rewriting(all=(("*", "N <*@z>"),)), LOCAL)
    subject, before, to = split_fields(header)
    after = split_fields(rewritten)
    assert (after[0], after[2]) == (subject, to)
    expected = [
        mailbox.with_domain("z") if LOCAL.is_local(mailbox) else mailbox
        for mailbox in parse_address_list(before.raw, before.value_start).mailboxes
    ]
    assert list(parse_address_list(after[1].raw, after[1].value_start).mailboxes) == expected
