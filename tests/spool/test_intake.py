"""What is written to an Incoming is stored with its trace field, or refused with a reason."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Body, Envelope, Notify, Recipient, Ret
from masqmail.mail.header import split_fields
from masqmail.mail.status import Status
from masqmail.spool.api import Kind, NewMessage, SpoolBroken, SpoolFull, Tell
from masqmail.spool.intake import (
    HEADER_MAX_BYTES,
    HeaderFacts,
    Incoming,
    Intake,
    IntakeSettings,
    Origin,
    Refused,
    Resolution,
)
from masqmail.system.clock import FakeClock
from support.spooldouble import SpoolDouble, content_of, resolve_all

pytestmark = pytest.mark.anyio

NOW = datetime(2025, 11, 21, 9, 30, tzinfo=UTC)
ANN = Recipient(Mailbox("ann", "example.org"))
EVE = Recipient(Mailbox("eve", "example.net"))
ENVELOPE = Envelope(Mailbox("bob", "example.org"), (ANN,), ret=Ret.HDRS, envid="4711")
RELAYED = Origin("192.0.2.7 (printer)", "ESMTP", received_clause="from printer ([192.0.2.7])")
SUBMITTED = Origin("bob (uid 1000)", "local", user="bob", full_name="Bob", uid=1000, is_submission=True)
SETTINGS = IntakeSettings("gw.example.org", max_message_size_bytes=2 << 20, max_hops=3)
POLICY = Status(550, "5.7.1", "Not here")
HEADER = b"Subject: x\r\nTo: ann@example.org\r\n"


class FixedClock:
    def now(self) -> datetime:
        return NOW


class Desk:
    """An intake with its spool, and the facts that the resolver was given."""

    def __init__(self, spool: SpoolDouble | None = None) -> None:
        self.spool = spool or SpoolDouble()
        self.facts: list[HeaderFacts] = []
        self.events: list[dict[str, object]] = []
        self.intake = Intake(
            self.spool, self.resolve, FixedClock(), SETTINGS, on_received=lambda **fields: self.events.append(fields)
        )

    def resolve(self, envelope: Envelope, facts: HeaderFacts) -> Resolution:
        self.facts.append(facts)
        return resolve_all(envelope, facts)

    def open(self, envelope: Envelope = ENVELOPE, origin: Origin = RELAYED) -> Incoming:
        return self.intake.open(envelope, origin)


async def stored(desk: Desk, incoming: Incoming, *chunks: bytes) -> NewMessage:
    for chunk in chunks:
        incoming.write(chunk)
    queue_id = await incoming.finish()
    assert desk.spool.messages[-1].queue_id == queue_id
    return desk.spool.messages[-1]


def without_trace(content: bytes) -> bytes:
    """What stands behind the first field, which is ours."""
    first = split_fields(content)[0]
    assert first.name == "received"
    return content.removeprefix(first.raw)


async def refusal(incoming: Incoming, *chunks: bytes) -> str:
    for chunk in chunks:
        incoming.write(chunk)
    with pytest.raises(Refused) as caught:
        await incoming.finish()
    return str(caught.value.status)


async def test_a_relayed_message_keeps_every_byte_below_its_trace_field() -> None:
    desk = Desk()
    content = HEADER + b"Bcc: kept@example.org\r\n\r\nhello\r\n.\r\n"
    message = await stored(desk, desk.open(), content)
    assert without_trace(content_of(message)) == content
    assert (message.protocol, message.received_from) == ("ESMTP", "192.0.2.7 (printer)")
    assert (message.ret, message.envid, message.kind, message.owner_uid) == (Ret.HDRS, "4711", Kind.MAIL, None)
    assert message.received_at == NOW


async def test_a_submitted_message_is_completed_and_loses_its_blind_copies() -> None:
    desk = Desk()
    message = await stored(desk, desk.open(origin=SUBMITTED), HEADER + b"Bcc: eve@example.net\r\n\r\nhello\r\n")
    header = without_trace(message.header)
    assert header.startswith(HEADER)
    assert b"Bcc" not in header
    assert b"\r\nFrom: Bob <bob@example.org>\r\n" in header
    assert f"Message-ID: <{message.queue_id}@gw.example.org>".encode() in header
    assert message.owner_uid == 1000


async def test_a_bare_name_in_the_header_of_a_submitted_message_gets_our_name() -> None:
    """As in cron's mail, and never in a message of others."""
    desk = Desk()
    content = HEADER + b"From: root (Cron Daemon)\r\nTo: fay\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\nhello\r\n"
    submitted = await stored(desk, desk.open(origin=SUBMITTED), content)
    relayed = await stored(desk, desk.open(), content)
    assert b"\r\nFrom: root@gw.example.org (Cron Daemon)\r\nTo: fay@gw.example.org\r\n" in submitted.header
    assert submitted.header.count(b"\r\nFrom:") == 1
    assert b"\r\nFrom: root (Cron Daemon)\r\nTo: fay\r\n" in relayed.header


async def test_a_null_sender_of_a_local_user_makes_a_from_with_our_name() -> None:
    desk = Desk()
    message = await stored(desk, desk.open(replace(ENVELOPE, reverse_path=None), SUBMITTED), b"\r\n")
    assert b"\r\nFrom: Bob <bob@gw.example.org>\r\n" in message.header


async def test_a_bare_reverse_path_is_at_home_here() -> None:
    desk = Desk()
    message = await stored(desk, desk.open(replace(ENVELOPE, reverse_path=Mailbox("fay")), SUBMITTED), b"\r\n")
    assert message.reverse_path == Mailbox("fay", "gw.example.org")
    assert b"\r\nFrom: Bob <fay@gw.example.org>\r\n" in message.header


async def test_for_stands_in_the_trace_only_when_there_is_one_recipient() -> None:
    desk = Desk()
    one = await stored(desk, desk.open(), b"\r\n")
    two = await stored(desk, desk.open(replace(ENVELOPE, recipients=(ANN, EVE))), b"\r\n")
    assert b"for <ann@example.org>;" in one.header
    assert b"for <" not in two.header


@pytest.mark.parametrize(
    ("content", "header", "body"),
    [
        (b"", b"", b""),
        (b"\r\n", b"", b""),
        (b"\r\n\r\nx\r\n", b"", b"\r\nx\r\n"),
        (b"hello\r\n", b"", b"hello\r\n"),
        (b"hello", b"", b"hello\r\n"),
        (b" A: folded nothing\r\n\r\n", b"", b" A: folded nothing\r\n\r\n"),
        (b"A: b", b"A: b\r\n", b""),
        (b"A: b\r\n", b"A: b\r\n", b""),
        (b"A: b\r\n\r\n", b"A: b\r\n", b""),
        (b"A: b\r\nhello: not\r\nthis is text\r\nC: d\r\n", b"A: b\r\nhello: not\r\n", b"this is text\r\nC: d\r\n"),
        (b"A: b\r\n \r\n\tc\r\n\r\nx\r\n", b"A: b\r\n \r\n\tc\r\n", b"x\r\n"),
        (b"A : b\r\n: no name\r\n", b"A : b\r\n", b": no name\r\n"),
        (b"A: \x00\xff\r\n\r\n\x00\xff", b"A: \x00\xff\r\n", b"\x00\xff\r\n"),
        (b"A: b\r\nFrom bob Mon\r\n\r\nx\r\n", b"A: b\r\n", b"From bob Mon\r\n\r\nx\r\n"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
async def test_the_header_ends_where_it_must_in_any_slices(
    content: bytes, header: bytes, body: bytes, size: int
) -> None:
    desk = Desk()
    slices = [content[start : start + size] for start in range(0, len(content), size)]
    message = await stored(desk, desk.open(), *slices)
    assert without_trace(message.header) == header
    assert content_of(message) == message.header + b"\r\n" + body


@given(st.lists(st.sampled_from([b"A: b", b" c", b"text", b"\r\n", b"\r\n\r\n", b"x" * 50, b"\x80"]), max_size=20))
def test_slicing_never_matters(parts: list[bytes]) -> None:
    content = b"".join(parts)

    def judged(slices: list[bytes]) -> tuple[bytes, list[bytes]]:
        desk = Desk()
        incoming = desk.open()
        for one in slices:
            incoming.write(one)
        header = incoming._end_lines()
        return header, [bytes(body.content) for body in desk.spool.bodies]

    whole = judged([content])
    assert judged(parts) == whole
    assert judged([content[index : index + 1] for index in range(len(content))]) == whole


async def test_a_message_that_is_too_big_is_refused_and_its_body_dropped() -> None:
    desk = Desk()
    reply = await refusal(desk.open(), HEADER + b"\r\n", b"x" * (1 << 20), b"x" * (1 << 20), b"more\r\n")
    assert reply.startswith("552 5.3.4 Message too big")
    assert desk.spool.bodies[0].is_discarded
    assert desk.spool.bodies[0].size_bytes <= 1 << 20


@pytest.mark.parametrize("ending", [b"\r\n\r\n", b""])
async def test_a_header_that_is_too_big_is_refused(ending: bytes) -> None:
    reply = await refusal(Desk().open(), b"A: b\r\n" * (HEADER_MAX_BYTES // 6 + 1) + ending)
    assert reply.startswith("552 5.3.4 The header section is larger than")


async def test_a_header_line_without_an_end_is_refused() -> None:
    reply = await refusal(Desk().open(), b"A: ", *[b"x" * 65536] * 9)
    assert reply.startswith("552 5.3.4 The header section is larger than")


async def test_a_first_body_chunk_may_be_bigger_than_a_header() -> None:
    desk = Desk()
    message = await stored(desk, desk.open(), HEADER + b"\r\n" + b"x" * HEADER_MAX_BYTES)
    assert content_of(message).endswith(b"x\r\n")


async def test_more_hops_than_allowed_are_a_loop() -> None:
    desk = Desk()
    await stored(desk, desk.open(), b"Received: a\r\n" * 3)
    assert (await refusal(desk.open(), b"Received: a\r\n" * 4)).startswith("554 5.4.6 ")


async def test_a_full_spool_answers_4_3_1_at_each_step() -> None:
    desk = Desk(SpoolDouble(capacity=10))
    with pytest.raises(Refused, match=r"452 4\.3\.1"):
        desk.intake.open(ENVELOPE, RELAYED, declared_size_bytes=11)
    assert (await refusal(desk.open(), b"\r\n" + b"x" * 11)).startswith("452 4.3.1 ")
    desk.spool.failure = SpoolFull()
    assert (await refusal(desk.open(), b"\r\nx\r\n")).startswith("452 4.3.1 ")
    assert desk.spool.bodies[-1].is_discarded
    assert desk.spool.messages == []


async def test_a_broken_spool_is_not_hidden() -> None:
    desk = Desk()
    desk.spool.failure = SpoolBroken("fsync")
    incoming = desk.open()
    incoming.write(b"\r\nx\r\n")
    with pytest.raises(SpoolBroken):
        await incoming.finish()
    assert desk.spool.bodies[0].is_discarded
    assert desk.events == []


async def test_a_message_for_nobody_is_refused() -> None:
    reply = await refusal(Desk().open(replace(ENVELOPE, recipients=())), b"To: x@y\r\n")
    assert reply == "554 5.1.0 The message has no recipients"


async def test_header_recipients_are_added_once_each_with_their_notify() -> None:
    desk = Desk()
    incoming = desk.intake.open(
        ENVELOPE, SUBMITTED, header_recipients=True, header_notify=Notify.NEVER, full_name="Bobby"
    )
    header = b"To: ann@EXAMPLE.org, eve@example.net\r\nBcc: eve@example.net, , fay@example.net, a b\r\n"
    message = await stored(desk, incoming, header)
    assert [(one.target, one.notify) for one in message.recipients] == [
        ("ann@example.org", None),
        ("eve@example.net", Notify.NEVER),
        ("fay@example.net", Notify.NEVER),
    ]
    assert desk.facts[0].bad_recipients == ("a b",)
    assert b"Bcc" not in message.header
    assert b"From: Bobby <" in message.header


async def test_the_resolver_gets_the_facts_it_may_ask_for() -> None:
    desk = Desk()
    incoming = desk.intake.open(ENVELOPE, RELAYED, queue_only=True, queue_id="given", kind=Kind.REPORT)
    content = b"From: A <a@b>, c@d\r\n\r\nhello\r\n"
    message = await stored(desk, incoming, content)
    facts = desk.facts[0]
    assert facts.from_mailboxes == (Mailbox("a", "b"), Mailbox("c", "d"))
    assert facts.size_bytes == len(content_of(message))
    assert (facts.queue_id, facts.kind, facts.queue_only) == ("given", Kind.REPORT, True)
    assert (facts.header, facts.received_at) == (message.header, NOW)
    assert (message.queue_id, message.kind) == ("given", Kind.REPORT)


@pytest.mark.parametrize("body", [b"", b"hello\r\n", b"no end"])
async def test_the_resolver_can_read_the_body_as_it_is_stored(body: bytes) -> None:
    desk = Desk()
    message = await stored(desk, desk.open(), HEADER + b"\r\n" + body)
    assert desk.facts[0].read_body() == content_of(message).removeprefix(message.header + b"\r\n")


async def test_reports_are_stored_together_with_the_message() -> None:
    desk = Desk()
    other = Desk()
    report = await stored(other, other.open(), b"\r\n")
    intake = replace(desk.intake, resolve=lambda *both: resolve_all(*both)._replace(reports=(report,)))
    incoming = intake.open(ENVELOPE, RELAYED)
    await incoming.finish()
    assert desk.spool.messages[1:] == [report]


async def test_a_resolver_may_refuse() -> None:
    desk = Desk()

    def refuse(envelope: Envelope, facts: HeaderFacts) -> Resolution:
        raise Refused(POLICY)

    incoming = replace(desk.intake, resolve=refuse).open(ENVELOPE, RELAYED)
    assert (await refusal(incoming, b"\r\nx\r\n")) == str(POLICY)
    assert desk.spool.bodies[0].is_discarded


async def test_what_was_received_is_told() -> None:
    desk = Desk()
    message = await stored(desk, desk.open(), HEADER + b"\r\nx\r\n")
    assert desk.events == [
        {
            "queue_id": message.queue_id,
            "reverse_path": "bob@example.org",
            "recipients": 1,
            "size_bytes": len(content_of(message)),
            "received_from": "192.0.2.7 (printer)",
            "protocol": "ESMTP",
        }
    ]


@pytest.mark.parametrize(
    ("content", "declared", "known"),
    [
        (b"Subject: x\r\n\r\nplain\r\n", Body.SEVEN_BIT, Body.SEVEN_BIT),
        (b"Subject: x\r\n\r\nplain\r\n", Body.EIGHT_BIT, Body.EIGHT_BIT),
        (b"Subject: x\r\n\r\nGr\xfc\xdfe\r\n", Body.SEVEN_BIT, Body.EIGHT_BIT),
        (b"Subject: Gr\xc3\xbc\xc3\x9fe\r\n\r\nplain\r\n", Body.SEVEN_BIT, Body.EIGHT_BIT),
    ],
)
async def test_eight_bit_text_is_known_as_such_whatever_was_declared(
    content: bytes, declared: Body, known: Body
) -> None:
    desk = Desk()
    incoming = desk.open(replace(ENVELOPE, body=declared))
    message = await stored(desk, incoming, *(bytes([octet]) for octet in content))
    assert message.declared_body is known


# when the answer of the spool comes later


class SlowSpool(SpoolDouble):
    """Answers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tell] = []

    def accept_and_tell(self, messages: Sequence[NewMessage], tell: Tell) -> None:
        self.messages += messages
        self.asked.append(tell)

    def answer(self, error: Exception | None = None) -> None:
        self.asked.pop()(error)


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_message_is_ours_when_the_spool_says_so_and_needs_no_task_to_wait() -> None:
    desk = Desk(spool := SlowSpool())
    tasks = asyncio.all_tasks()
    finished = desk.open().finish()
    await turns()
    assert (asyncio.all_tasks(), finished.done(), desk.events) == (tasks, False, [])
    spool.answer()
    assert finished.result() == spool.messages[0].queue_id
    assert [event["queue_id"] for event in desk.events] == [finished.result()]


async def test_a_message_is_stored_and_told_though_nobody_waits_for_it_any_more() -> None:
    desk = Desk(spool := SlowSpool())
    desk.open().finish().cancel()
    spool.answer()
    assert len(desk.events) == 1


@pytest.mark.parametrize("is_awaited", [True, False])
@pytest.mark.parametrize(
    ("failure", "raised"),
    [(SpoolFull(), Refused), (SpoolBroken("fsync"), SpoolBroken)],
)
async def test_what_the_spool_did_not_take_is_forgotten(
    failure: Exception, raised: type[Exception], is_awaited: bool
) -> None:
    desk = Desk(spool := SlowSpool())
    incoming = desk.open()
    incoming.write(b"\r\nx\r\n")
    finished = incoming.finish()
    if not is_awaited:
        finished.cancel()
    spool.answer(failure)
    assert (spool.bodies[0].is_discarded, desk.events) == (True, [])
    with pytest.raises(raised if is_awaited else asyncio.CancelledError):
        await finished


def test_a_fault_in_telling_of_a_message_does_not_hold_up_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    def fail(**fields: object) -> None:
        raise RuntimeError("the log is broken")

    async def accept() -> str:
        return await replace(Desk().intake, on_received=fail).open(ENVELOPE, RELAYED).finish()

    assert asyncio.run(accept())
    assert "the log is broken" in caplog.text


async def test_the_local_time_of_each_second_is_its_own() -> None:
    clock = FakeClock(NOW.replace(microsecond=900_000))
    intake = replace(Desk().intake, clock=clock)
    seen = []
    for _ in range(3):
        seen.append(intake.local_time(clock.now()))
        clock.advance(timedelta(milliseconds=99))
    expected = [NOW, NOW, NOW + timedelta(seconds=1)]
    assert seen == expected
    assert [one.utcoffset() for one in seen] == [one.astimezone().utcoffset() for one in expected]
