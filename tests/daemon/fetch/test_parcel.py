"""A fetched message is stored as it came, for whom its header section says, and with its mark."""

import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.daemon.fetch.parcel import AccountTerms, FetchParcel
from masqmail.mail.address import Mailbox
from masqmail.mail.header import split_fields
from masqmail.mail.status import MAIL_LOOP, STORAGE_FULL
from masqmail.retrieval.account import Found, Parcel
from masqmail.routing.multidrop import MultidropRules
from masqmail.spool.api import FetchFate, FetchMark, Kind, NewMessage, SpoolBroken, Uid
from masqmail.spool.intake import HEADER_MAX_BYTES, HEADER_TOO_BIG, Intake, IntakeSettings, Refused
from masqmail.spool.sqlite import SqliteSpool
from masqmail.system.clock import FakeClock
from support.spooldouble import SpoolDouble, content_of, resolve_all

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FOUND = Found(Uid("", "uid-1"), 4000)
MARK = FetchMark("fastnet", FOUND.uid, FetchFate.TAKEN, NOW, 4000)
SINGLE = AccountTerms("fastnet", "pop.fastnet.example", "POP3", MultidropRules(Mailbox("owner")))
MULTI = AccountTerms(
    "fastnet",
    "192.0.2.7",
    "IMAP",
    MultidropRules(Mailbox("owner"), "Delivered-To", "", ("home.example",)),
    Mailbox("postmaster"),
)
SETTINGS = IntakeSettings("gw.home.example", max_message_size_bytes=10_000, max_hops=3)


def intake_of(spool: SpoolDouble | SqliteSpool) -> Intake:
    return Intake(spool, resolve_all, FakeClock(NOW), SETTINGS)  # type: ignore[arg-type]


def parcel(spool: SpoolDouble, terms: AccountTerms = SINGLE, found: Found = FOUND) -> FetchParcel:
    return FetchParcel(intake_of(spool), terms, found, NOW)


async def stored(*slices: bytes, terms: AccountTerms = SINGLE) -> NewMessage:
    spool = SpoolDouble()
    taken = parcel(spool, terms)
    for data in slices:
        taken.write(data)
    queue_id = await taken.finish()
    (message,) = spool.messages
    assert message.queue_id == queue_id
    return message


async def refusal(taken: Parcel, *slices: bytes) -> Refused:
    for data in slices:
        taken.write(data)
    with pytest.raises(Refused) as caught:
        await taken.finish()
    return caught.value


def without_trace(message: NewMessage) -> bytes:
    return content_of(message).removeprefix(split_fields(message.header)[0].raw)


def targets(message: NewMessage) -> list[str]:
    return [recipient.target for recipient in message.recipients]


async def test_a_message_keeps_every_byte_below_its_trace_field() -> None:
    content = b"Return-Path: <ann@example.org>\r\nBcc: kept@example.org\r\nX:\t\xff\r\n\r\n\x00 body\r\n.\r\n"
    message = await stored(content)
    assert without_trace(message) == content
    assert message.kind is Kind.FETCHED
    assert message.fetched == MARK
    assert message.reverse_path == Mailbox("ann", "example.org")
    assert targets(message) == ["owner"]
    assert message.received_from == "pop.fastnet.example (account fastnet)"


async def test_the_trace_field_names_server_account_and_protocol() -> None:
    single, multi = await stored(b"\r\n"), await stored(b"\r\n", terms=MULTI)
    assert re.match(
        rb"Received: from pop\.fastnet\.example \(account fastnet\)\r\n\tby gw\.home\.example \(MasqMail \S+\)"
        rb" with POP3\r\n\tid \S+\r\n\tfor <owner@gw\.home\.example>;\r\n\t",
        single.header,
    )
    assert multi.header.startswith(b"Received: from [192.0.2.7] (account fastnet)\r\n")
    assert b" with IMAP\r\n" in multi.header


async def test_a_trace_field_for_several_names_none_of_them() -> None:
    message = await stored(b"Delivered-To: a@home.example, b@home.example\r\n\r\n", terms=MULTI)
    assert targets(message) == ["a@home.example", "b@home.example"]
    assert b"\tfor " not in message.header


async def test_the_history_says_why_a_message_went_to_nobody_in_particular() -> None:
    clear = await stored(b"Delivered-To: ann@home.example\r\n\r\n", terms=MULTI)
    lost = await stored(b"To: ann@home.example\r\n\r\n", terms=MULTI)
    assert (targets(clear), clear.received_from) == (["ann@home.example"], "192.0.2.7 (account fastnet)")
    assert targets(lost) == ["owner"]
    assert lost.received_from == "192.0.2.7 (account fastnet): it has no Delivered-To"
    assert lost.reverse_path == Mailbox("postmaster", "gw.home.example")


async def test_an_address_beyond_ascii_declares_nothing_of_the_header() -> None:
    message = await stored("Return-Path: <jörg@bücher.example>\r\nSubject: Grüße\r\n\r\n".encode())
    assert message.reverse_path == Mailbox("jörg", "bücher.example")
    assert not message.smtputf8, "else a server without SMTPUTF8 could not be given the message"


async def test_where_a_message_went_can_be_asked() -> None:
    taken = parcel(SpoolDouble(), MULTI)
    assert taken.drop is None
    taken.write(b"Delivered-To: ann@home.example\n\n")
    await taken.finish()
    assert taken.drop is not None
    assert taken.drop.recipients == (Mailbox("ann", "home.example"),)


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a: b", b" ", b"\xff\x00", b"-"]), max_size=12),
    st.lists(st.integers(0, 30), max_size=6).map(sorted),
)
async def test_line_ends_are_mended_whatever_the_slices(pieces: list[bytes], cuts: list[int]) -> None:
    body = b"".join(pieces) + b"\n"
    text = b"Subject: x\n\n" + body
    message = await stored(*(text[start:end] for start, end in pairwise([0, *cuts, None])))
    assert without_trace(message) == b"Subject: x\r\n\r\n" + re.sub(rb"\r\n|\r|\n", b"\r\n", body)


async def test_an_empty_message_is_taken() -> None:
    message = await stored()
    assert without_trace(message) == b"\r\n"
    assert message.reverse_path == Mailbox("postmaster", "gw.home.example")


async def test_a_message_bigger_than_smtp_allows_is_taken() -> None:
    message = await stored(b"Subject: x\r\n\r\n", *[b"x" * 998 + b"\r\n"] * 50)
    assert len(content_of(message)) > SETTINGS.max_message_size_bytes


async def test_no_room_for_the_size_that_the_server_speaks_of_is_told_in_the_end() -> None:
    taken = parcel(SpoolDouble(capacity=1000))
    assert (await refusal(taken, b"Subject: x\r\n\r\n")).status == STORAGE_FULL
    taken.discard()


async def test_a_disk_that_fills_up_meanwhile_refuses_for_now() -> None:
    spool = SpoolDouble(capacity=5000)
    assert (await refusal(parcel(spool), b"Subject: x\r\n\r\n", b"x" * 6000)).status == STORAGE_FULL
    assert spool.messages == []
    assert spool.bodies[0].is_discarded


async def test_a_header_section_without_end_is_refused() -> None:
    found = await refusal(parcel(SpoolDouble()), b"a: " + b"x" * HEADER_MAX_BYTES)
    assert found.status == HEADER_TOO_BIG


async def test_a_message_in_a_loop_is_refused() -> None:
    assert (await refusal(parcel(SpoolDouble()), b"Received: x\r\n" * 4)).status == MAIL_LOOP


async def test_a_broken_spool_is_told() -> None:
    spool = SpoolDouble()
    spool.failure = SpoolBroken("no disk")
    with pytest.raises(SpoolBroken):
        await parcel(spool).finish()


async def test_what_is_discarded_leaves_nothing() -> None:
    spool = SpoolDouble()
    taken = parcel(spool)
    taken.write(b"Subject: x\r\n\r\nbody")
    taken.discard()
    assert spool.bodies[0].is_discarded
    assert spool.messages == []


async def test_message_and_mark_are_in_the_queue_file_together(tmp_path: Path) -> None:
    spool = await SqliteSpool.open(tmp_path)
    taken = FetchParcel(intake_of(spool), SINGLE, FOUND, NOW)
    taken.write(b"Subject: x\n\nbody\n")
    queue_id = await taken.finish()
    assert await spool.fetch_marks("fastnet") == {FOUND.uid: MARK}
    item = await spool.find(queue_id)
    assert item is not None
    assert item.message.kind is Kind.FETCHED
    (entry,) = await spool.history(queue_id)
    assert "handed in by pop.fastnet.example (account fastnet)" in entry.text
    await spool.close()
