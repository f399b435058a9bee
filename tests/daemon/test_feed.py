"""Leases in, transactions out, outcomes back; nothing stays leased."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from masqmail.daemon.feed import LaneFeed
from masqmail.daemon.lane import Lane
from masqmail.mail.address import Mailbox
from masqmail.mail.outcome import Culprit, Deferred, NotTried
from masqmail.mail.status import LOCAL_ERROR
from masqmail.routing.route import Rewriting
from masqmail.spool.api import Lease
from masqmail.spool.states import State
from support.assembly import Assembly, rules, smarthost, takes_all

pytestmark = pytest.mark.anyio

LATER = Deferred(LOCAL_ERROR, Culprit.LOCAL, "later")


def feed_of(daemon: Assembly, lease: Callable[[Lane, int, int], Awaitable[list[Lease]]] | None = None) -> LaneFeed:
    return lane_and_feed(daemon, lease)[1]


def lane_and_feed(
    daemon: Assembly, lease: Callable[[Lane, int, int], Awaitable[list[Lease]]] | None = None
) -> tuple[Lane, LaneFeed]:
    async def from_spool(lane: Lane, max_messages: int, max_bytes: int) -> list[Lease]:
        return await lease_some(daemon, max_messages)

    lane = Lane(("isp", ""), lease or from_spool)
    return lane, LaneFeed(lane, daemon.rules.routes[0], daemon.spool, daemon.desk)


async def lease_some(daemon: Assembly, max_messages: int) -> list[Lease]:
    classes = await daemon.spool.classes()
    return await daemon.spool.lease("test", classes, now=daemon.clock.now(), max_messages=max_messages)


async def test_two_transactions_of_one_message_are_settled_apart() -> None:
    """One recipient may come over from another route while the rest of its message is on the way."""
    daemon = Assembly(rules(smarthost()))
    await daemon.accept("m1", "bob@far.example", "eve@far.example", tell=False)
    (lease,) = await daemon.lease_all()
    parts = [[Lease(lease.message, (recipient,))] for recipient in lease.recipients]

    async def in_parts(lane: Lane, max_messages: int, max_bytes: int) -> list[Lease]:
        return parts.pop(0)

    feed = feed_of(daemon, in_parts)
    (first,) = await feed.take(max_transactions=1, max_bytes=1)
    (second,) = await feed.take(max_transactions=1, max_bytes=1)
    await feed.begin([first, second])
    feed.settle(second, [LATER])
    feed.settle(first, [takes_all(first, "")])
    assert {item.target: item.state for item in daemon.recipients()} == {
        "bob@far.example": State.DELIVERED,
        "eve@far.example": State.DEFERRED,
    }


async def test_what_our_error_puts_off_is_in_doubt_no_longer() -> None:
    """Its feed goes on to the next smarthost, and may get transactions in its place in memory."""
    daemon = Assembly(rules(smarthost()))
    for number in range(20):
        await daemon.accept(f"m{number}", "bob@far.example", tell=False)
    lane, feed = lane_and_feed(daemon)
    await feed.begin(await feed.take(max_transactions=8, max_bytes=1 << 20))
    assert lane.is_in_doubt
    feed.defer_out(RuntimeError("an error of ours"))
    assert not lane.is_in_doubt
    while transactions := await feed.take(max_transactions=8, max_bytes=1 << 20):
        await feed.begin(transactions)
        assert lane.is_in_doubt
        for transaction in transactions:
            feed.settle(transaction, [takes_all(transaction, "")])
        assert not lane.is_in_doubt
    assert daemon.states() == [State.DEFERRED] * 8


async def test_what_nobody_asked_for_is_given_back_as_it_was() -> None:
    daemon = Assembly(rules(smarthost()))
    await daemon.accept("m1", "bob@far.example", tell=False)
    feed = feed_of(daemon)
    assert await feed.prime()
    assert feed.is_unserved
    feed.give_back()
    (recipient,) = daemon.recipients()
    assert (recipient.state, recipient.reason, recipient.attempts) == (State.QUEUED, "", 0)
    assert [entry.event for entry in await daemon.spool.history("m1")] == ["received"]


async def test_a_lane_in_reserve_leases_nothing_before_it_is_called() -> None:
    daemon = Assembly(rules(smarthost()))
    await daemon.accept("m1", "bob@far.example", tell=False)
    feed = feed_of(daemon)
    feed._lane.is_reserve = feed._lane.is_waiting = True
    assert await feed.prime()
    assert daemon.states() == [State.QUEUED]


async def test_a_lane_that_was_called_from_reserve_leases_like_any_other() -> None:
    daemon = Assembly(rules(smarthost()))
    await daemon.accept("m1", "bob@far.example", tell=False)
    feed = feed_of(daemon)
    feed._lane.is_reserve = feed._lane.is_waiting = True
    feed._lane.call(None)
    assert await feed.prime()
    assert daemon.states() == [State.LEASED]
    feed.give_back()


async def test_a_lane_that_was_dismissed_has_nothing_to_do() -> None:
    daemon = Assembly(rules(smarthost()))
    await daemon.accept("m1", "bob@far.example", tell=False)
    feed = feed_of(daemon)
    feed._lane.is_reserve = feed._lane.is_waiting = True
    feed._lane.dismiss()
    assert not await feed.prime()
    assert daemon.states() == [State.QUEUED]


async def test_what_was_taken_and_has_no_outcome_is_given_back_too() -> None:
    daemon = Assembly(rules(smarthost()))
    await daemon.accept("m1", "bob@far.example", tell=False)
    feed = feed_of(daemon)
    await feed.take(max_transactions=1, max_bytes=1)
    feed.give_back()
    assert daemon.states() == [State.QUEUED]


async def test_a_lease_is_not_lost_when_whoever_waits_for_it_is_cancelled() -> None:
    daemon = Assembly(rules(smarthost()))
    await daemon.accept("m1", "bob@far.example", tell=False)

    async def slow(lane: Lane, max_messages: int, max_bytes: int) -> list[Lease]:
        leases = await daemon.lease_all()
        await anyio.sleep(0)
        return leases

    feed = feed_of(daemon, slow)
    with anyio.CancelScope() as scope:
        try:
            scope.cancel()
            await feed.take(max_transactions=1, max_bytes=1)
        finally:
            feed.give_back()
    assert daemon.states() == [State.QUEUED]


@pytest.mark.parametrize(
    ("seconds", "is_shared", "asked_for"),
    [(0.1, False, [2, 4, 8, 16, 32, 64, 64]), (1.0, False, [2] * 60), (0.1, True, [2] * 60)],
    ids=["a quick line", "a slow line", "others may help"],
)
async def test_on_a_quick_line_more_is_leased_than_was_asked_for(
    seconds: float, is_shared: bool, asked_for: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Assembly(rules(smarthost()))
    for number in range(120):
        await daemon.accept(f"m{number:03}", "bob@far.example", tell=False)
    asked: list[tuple[int, int]] = []

    async def give(lane: Lane, max_messages: int, max_bytes: int) -> list[Lease]:
        asked.append((max_messages, max_bytes))
        return await lease_some(daemon, max_messages)

    now = anyio.current_time()
    monkeypatch.setattr("masqmail.daemon.feed.anyio.current_time", lambda: now)
    feed = feed_of(daemon, give)
    feed._lane.is_shared = is_shared
    taken = []
    while len(taken) < 120:
        taken += [item.queue_id for item in await feed.take(max_transactions=2, max_bytes=1000)]
        now += seconds / 32
        if len(taken) == sum(wanted for wanted, _ in asked):
            now += seconds
    assert taken == [f"m{number:03}" for number in range(120)]
    assert [messages for messages, _ in asked] == asked_for[: len(asked)]
    assert all(size_bytes == 500 * messages for messages, size_bytes in asked)
    feed.give_back()


async def test_a_message_that_cannot_be_prepared_is_put_off_and_the_others_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    daemon = Assembly(rules(smarthost()))
    await daemon.accept("bad", "bob@far.example", tell=False, header=b"Subject: bad\r\n")
    await daemon.accept("good", "bob@far.example", tell=False)

    def rewrite(header: bytes, *rest: object) -> bytes:
        if b"bad" in header:
            raise RuntimeError("a bug")
        return header

    monkeypatch.setattr("masqmail.daemon.feed.rewrite_header", rewrite)
    feed = feed_of(daemon)
    assert [item.queue_id for item in await feed.take(max_transactions=9, max_bytes=1 << 20)] == ["good"]
    assert daemon.recipients("bad")[0].state is State.DEFERRED
    feed.give_back()


async def test_not_being_reached_is_no_service() -> None:
    daemon = Assembly(rules(smarthost()))
    await daemon.accept("m1", "bob@far.example", tell=False)
    await daemon.accept("m2", "bob@far.example", tell=False)
    feed = feed_of(daemon)
    await feed.prime()
    (transaction,) = await feed.take(max_transactions=1, max_bytes=1)
    feed.settle(transaction, [NotTried(Culprit.SESSION, "not reached")])
    assert feed.is_unserved
    feed.settle_ready(LATER)
    assert not feed.is_unserved


async def test_addresses_are_rewritten_for_the_route_and_the_size_follows() -> None:
    rewriting = Rewriting(all=(("*", "*@isp.example"),))
    daemon = Assembly(rules(smarthost(rewriting=rewriting)))
    header = b"From: ann@home.example\r\nSubject: hello\r\n"
    await daemon.accept("m1", "bob@far.example", tell=False, header=header)
    feed = feed_of(daemon)
    (transaction,) = await feed.take(max_transactions=1, max_bytes=1)
    assert transaction.envelope.reverse_path == Mailbox("ann", "isp.example")
    assert b"From: ann@isp.example\r\n" in transaction.content.header
    assert transaction.size_bytes == sum(map(len, transaction.content.chunks()))
    feed.give_back()


async def test_a_header_that_gets_letters_beyond_ascii_by_rewriting_needs_smtputf8() -> None:
    rewriting = Rewriting(from_=(("ann", "änn@isp.example"),))
    daemon = Assembly(rules(smarthost(rewriting=rewriting)))
    await daemon.accept("m1", "bob@far.example", tell=False, header=b"From: ann@home.example\r\n")
    feed = feed_of(daemon)
    (transaction,) = await feed.take(max_transactions=1, max_bytes=1)
    assert transaction.needs_smtputf8 and transaction.needs_8bit and transaction.envelope.smtputf8
    feed.give_back()
