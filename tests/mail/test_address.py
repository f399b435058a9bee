"""Mailboxes are read strictly and write themselves so that they read the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.address import AddressError, Mailbox, parse_mailbox, scan_mailbox, show_path

GOOD = [
    ("john@home.example", Mailbox("john", "home.example")),
    ("postmaster", Mailbox("postmaster")),
    ("a.b+c@x", Mailbox("a.b+c", "x")),
    ('"a b"@x', Mailbox("a b", "x")),
    (r'"a\"b\\c"@x', Mailbox('a"b\\c', "x")),
    ('"john"@x', Mailbox("john", "x")),
    ('""@x', Mailbox("", "x")),
    ('"a@b"@x', Mailbox("a@b", "x")),
    ("john@[192.0.2.1]", Mailbox("john", "[192.0.2.1]")),
    ("john@[IPv6:2001:db8::1]", Mailbox("john", "[IPv6:2001:db8::1]")),
    ("jürgen@bücher.example", Mailbox("jürgen", "bücher.example")),
    ("a@x_y.example", Mailbox("a", "x_y.example")),
]

BAD = [
    "",
    "@x",
    "a@",
    "a b@x",
    "a..b@x",
    ".a@x",
    "a@x.",
    "a@-x",
    "a@x..y",
    "a@x y",
    "<a@x>",
    "a@x, b@x",
    '"a@x',
    'a"b@x',
    "@relay:a@x",
    "a@[192.0.2]",
    "a@[\u0661.\u0662.\u0663.\u0664]",
    "a\r\n@x",
    "a\x00@x",
    '"a\rb"@x',
    "a\udc80@x",
    "a" * 65 + "@x",
    "ü" * 33 + "@x",
    "a@" + "x" * 256,
]


@pytest.mark.parametrize(("text", "mailbox"), GOOD)
def test_a_good_address_is_read(text: str, mailbox: Mailbox) -> None:
    assert parse_mailbox(text) == mailbox


@pytest.mark.parametrize("text", BAD)
def test_a_bad_address_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(AddressError, match=r"\w"):
        parse_mailbox(text)


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), max_size=16),
    st.sampled_from(["", "x", "[192.0.2.1]", "é.x"]),
)
def test_a_mailbox_reads_what_it_writes(local_part: str, domain: str) -> None:
    mailbox = Mailbox(local_part, domain)
    assert parse_mailbox(str(mailbox)) == mailbox


@given(st.text(max_size=30) | st.text('ab"\\@.[] <>:\u00fc', max_size=12))
def test_any_text_is_a_mailbox_or_an_address_error(text: str) -> None:
    try:
        mailbox = parse_mailbox(text)
    except AddressError:
        return
    assert parse_mailbox(str(mailbox)) == mailbox


def test_scanning_stops_behind_the_mailbox() -> None:
    assert scan_mailbox("<ann@x> SIZE=1", 1) == (Mailbox("ann", "x"), 6)


def test_domains_are_compared_without_case_and_keep_their_spelling() -> None:
    mailbox = parse_mailbox("a@Home.Example")
    assert (mailbox.domain, mailbox.domain_key) == ("Home.Example", "home.example")


def test_an_address_beyond_ascii_needs_smtputf8() -> None:
    assert parse_mailbox("jürgen@x").needs_smtputf8
    assert parse_mailbox("a@bücher.example").needs_smtputf8
    assert not parse_mailbox('"a b"@x').needs_smtputf8


def test_the_null_reverse_path_is_shown_as_brackets() -> None:
    assert show_path(None) == "<>"
    assert show_path(Mailbox("a", "x")) == "a@x"


def test_a_mailbox_can_move_to_another_domain() -> None:
    assert Mailbox("a", "x").with_domain("y") == Mailbox("a", "y")
