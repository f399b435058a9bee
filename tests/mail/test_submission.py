"""A new message's header is completed, and nothing else in it changes."""

import re
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.utils import parseaddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.address import Mailbox
from masqmail.mail.header import split_fields
from masqmail.mail.submission import (
    REMOVED,
    Submission,
    fix_header,
    from_mailboxes,
    from_value,
    header_recipients,
    qualify_addresses,
)

BOB = Mailbox("bob", "example.org")
SUBMISSION = Submission(BOB, "Bob", datetime(2025, 11, 21, 9, 30, tzinfo=UTC), "0abc", "gw.example.org")
DATE = b"Date: Fri, 21 Nov 2025 09:30:00 +0000\r\n"
FROM = b"From: Bob <bob@example.org>\r\n"
MESSAGE_ID = b"Message-ID: <0abc@gw.example.org>\r\n"
COMPLETE = b"DATE : x\r\nfrom: y\r\nMessage-Id: z\r\n"


def test_an_empty_header_gets_all_three_fields() -> None:
    assert fix_header(b"", SUBMISSION) == DATE + FROM + MESSAGE_ID


def test_a_complete_header_stays_as_it_is() -> None:
    assert fix_header(COMPLETE, SUBMISSION) == COMPLETE


def test_a_sender_does_not_stand_for_a_from() -> None:
    header = b"Sender: x@y\r\n"
    assert fix_header(header, SUBMISSION) == header + DATE + FROM + MESSAGE_ID


def test_a_name_inside_a_folded_field_does_not_count() -> None:
    assert fix_header(COMPLETE[10:] + b"X: a\r\n Date: b\r\n", SUBMISSION).endswith(DATE)


def test_nobody_known_means_no_from() -> None:
    nobody = Submission(None, "", SUBMISSION.submitted_at, "0abc", "gw.example.org")
    assert fix_header(b"", nobody) == DATE + MESSAGE_ID


def test_blind_copies_and_return_paths_are_taken_out_with_their_folds() -> None:
    header = b"BCC: a@b,\r\n c@d\r\n" + COMPLETE + b"Return-Path: <>\r\nbcc : e\r\nB: kept\r\n"
    assert fix_header(header, SUBMISSION) == COMPLETE + b"B: kept\r\n"


def test_a_resent_block_is_completed_at_its_front() -> None:
    header = b"X: 1\r\nResent-To: a@b\r\nResent-Bcc: c@d\r\n" + COMPLETE
    resent = b"Resent-" + DATE + b"Resent-" + FROM + b"Resent-" + MESSAGE_ID
    assert fix_header(header, SUBMISSION) == b"X: 1\r\n" + resent + b"Resent-To: a@b\r\n" + COMPLETE


def test_only_the_newest_resent_block_is_completed() -> None:
    newest = b"Resent-Date: x\r\nResent-From: y\r\nResent-Message-ID: z\r\n"
    header = newest + b"Received: r\r\nResent-To: old\r\n" + COMPLETE
    assert fix_header(header, SUBMISSION) == header


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "bob@example.org"),
        ("Bob B", "Bob B <bob@example.org>"),
        ("B. Bee", '"B. Bee" <bob@example.org>'),
        ('a "b" \\', '"a \\"b\\" \\\\" <bob@example.org>'),
        ("Bob\r\nBcc: eve", '"Bob Bcc: eve" <bob@example.org>'),
        ("Jörg", "=?UTF-8?B?SsO2cmc=?= <bob@example.org>"),
    ],
)
def test_a_full_name_is_written_as_it_needs(name: str, value: str) -> None:
    assert from_value(BOB, name) == value


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=60))
def test_a_full_name_survives_and_stays_in_bounds(name: str) -> None:
    value = from_value(BOB, name)
    assert all(len(line) <= 998 and line.isprintable() for line in re.split("\r\n ", value))
    shown, address = parseaddr(value.replace("\r\n", ""))
    assert address == "bob@example.org"
    if not name.isascii():
        assert str(make_header(decode_header(shown))).split() == name.split()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"From: root (Cron Daemon)\r\nTo: root\r\n", b"From: root@gw (Cron Daemon)\r\nTo: root@gw\r\n"),
        (b"FROM:root\r\n", b"FROM:root@gw\r\n"),
        (b"from: RAID <raid>\r\n", b"from: RAID <raid@gw>\r\n"),
        (b'From: "ann@far" <ann>\r\n', b'From: "ann@far" <ann@gw>\r\n'),
        (b"Cc: a@x,\r\n\tbob ,c@x, d.e\r\n", b"Cc: a@x,\r\n\tbob@gw ,c@x, d.e@gw\r\n"),
        (b"To: team: ann, bob (B.);\r\n", b"To: team: ann@gw, bob@gw (B.);\r\n"),
        (b"Reply-To: ann\r\nSender: bob\r\n", b"Reply-To: ann@gw\r\nSender: bob@gw\r\n"),
        (b"Resent-To: ann\r\nresent-from: b\r\n", b"Resent-To: ann@gw\r\nresent-from: b@gw\r\n"),
        (b"To: J\xc3\xb6rg <j>, two words, ann\r\n", b"To: J\xc3\xb6rg <j@gw>, two words, ann@gw\r\n"),
    ],
)
def test_an_address_without_a_domain_gets_ours(before: bytes, after: bytes) -> None:
    around = b"Subject: to: root\r\n"
    assert qualify_addresses(around + before + around, "gw") == around + after + around


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"From: Ann <ann@x>\r\nTo: a@x, b@x\r\n",
        b'From: "Doe, Ann" <ann@x>\r\n',
        b"To: undisclosed-recipients:;\r\n",
        b"To: two words\r\n",
        b'To: "Ann"\r\n',
        b"From: <>\r\n",
        b"Subject: root\r\nX-To: root\r\nBcc: root\r\n",
        b"To: \xff\r\n",
        b"To: ann (never closed\r\n",
    ],
)
def test_whatever_else_stands_there_keeps_every_byte(header: bytes) -> None:
    assert qualify_addresses(header, "gw") == header


def test_a_header_without_such_addresses_is_not_even_copied() -> None:
    header = b"From: Ann <ann@x>\r\nTo: a@x, b@x\r\n"
    assert qualify_addresses(header, "gw") is header


def test_recipients_come_from_to_cc_and_bcc() -> None:
    header = b"To: Ann <ann@x>, bob\r\nCc: g: c@x, d@x;\r\nbcc: e@x\r\nFrom: f@x\r\n"
    mailboxes, faults = header_recipients(header)
    assert [str(mailbox) for mailbox in mailboxes] == ["ann@x", "bob", "c@x", "d@x", "e@x"]
    assert faults == ()


def test_a_resent_message_goes_to_its_newest_resent_recipients_alone() -> None:
    header = b"Resent-To: a@x\r\nResent-Bcc: b@x\r\nResent-To: old@x\r\nTo: c@x\r\n"
    assert [str(mailbox) for mailbox in header_recipients(header)[0]] == ["a@x", "b@x"]


def test_what_is_no_address_is_shown_and_does_not_stop_the_others() -> None:
    mailboxes, faults = header_recipients(b"To: a b@x, c@x\r\n")
    assert [str(mailbox) for mailbox in mailboxes] == ["c@x"]
    assert faults == ("a b@x",)


def test_the_addresses_in_from_are_found() -> None:
    assert from_mailboxes(split_fields(b"FROM: x y <a@b>, c@d\r\n")) == (Mailbox("a", "b"), Mailbox("c", "d"))


_NAMES = st.sampled_from(
    ["Date", "FROM", "Bcc", "To", "Resent-To", "Resent-bcc", "Return-Path", "X-Y", "B", "Message-ID"]
)
_VALUES = st.text(st.characters(max_codepoint=0x2FF, blacklist_characters="\r\n"), max_size=20)
_FIELDS = st.lists(st.tuples(_NAMES, st.sampled_from([":", " :", ":\t"]), _VALUES, st.lists(_VALUES, max_size=2)))


@given(_FIELDS)
def test_only_the_named_fields_change(parts: list[tuple[str, str, str, list[str]]]) -> None:
    texts = [name + colon + "\r\n ".join([value, *folds]) + "\r\n" for name, colon, value, folds in parts]
    header = "".join(texts).encode()
    lines = [(name.lower().encode(), text.encode()) for (name, *_), text in zip(parts, texts, strict=True)]
    kept = [line for name, line in lines if name not in REMOVED]
    fixed = fix_header(header, SUBMISSION)
    remaining = [field.raw for field in split_fields(fixed)]
    added = (DATE, FROM, MESSAGE_ID, b"Resent-" + DATE, b"Resent-" + FROM, b"Resent-" + MESSAGE_ID)
    assert [raw for raw in remaining if raw not in added] == kept
    assert {"date", "from", "message-id"} <= {field.name for field in split_fields(fixed)}
