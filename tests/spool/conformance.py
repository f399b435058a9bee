"""What every spool does. A test file for one inherits `Conformance` and gives the fixture `spool`."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Body, Notify, Ret
from masqmail.mail.status import MAILBOX_FULL, MAILBOX_UNKNOWN, OK, Status
from masqmail.routing.route import LOCAL_ROUTE, RouteClass
from masqmail.spool.api import (
    Attempt,
    FetchFate,
    FetchMark,
    HistoryEntry,
    Kind,
    Lease,
    NewMessage,
    NewRecipient,
    Record,
    Selection,
    Spool,
    SpoolError,
    StoredRecipient,
    TargetKind,
    Uid,
)
from masqmail.spool.states import State
from masqmail.system.clock import FakeClock

A = RouteClass(("gmx", "backup"), generation="1")
B = RouteClass(("backup",), frozenset({"gmx"}), mark="queue-only", generation="1")
C = RouteClass(("gmx",), generation="2")
LOCAL = RouteClass((LOCAL_ROUTE,), generation="1")

START = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def recipient(address: str = "ann@example.org", route_class: RouteClass = A, **changes: object) -> NewRecipient:
    domain = address.rpartition("@")[2]
    values: dict[str, object] = {"target": address, "original": address, "kind": TargetKind.REMOTE, "domain": domain}
    return NewRecipient(**{**values, "route_class": route_class, **changes})  # type: ignore[arg-type]


def message(queue_id: str, *recipients: NewRecipient, **changes: object) -> NewMessage:
    values: dict[str, object] = {
        "reverse_path": Mailbox("bob", "example.net"),
        "recipients": recipients or (recipient(),),
        "header": b"Subject: test\r\n",
        "body": b"Hello\r\n",
        "received_at": START,
        "received_from": "bob (uid 1000)",
    }
    return NewMessage(queue_id=queue_id, **{**values, **changes})  # type: ignore[arg-type]


def attempt(*, spent: bool = True) -> Attempt:
    return Attempt(START + MINUTE, "gmx", "mx.example.org", spent)


def record(item: StoredRecipient, state: State, reason: str = "because", **changes: object) -> Record:
    values: dict[str, object] = {"route_class": item.route_class, **changes}
    return Record(item.id, state, reason, **values)  # type: ignore[arg-type]


def ids(leases: Collection[Lease]) -> list[str]:
    return [lease.message.queue_id for lease in leases]


async def lease_one(spool: Spool, route_class: RouteClass = A, now: datetime = START) -> StoredRecipient:
    (lease,) = await spool.lease("w", [route_class], now=now, max_messages=1)
    return lease.recipients[0]


def mark(uid: str, fate: FetchFate = FetchFate.TAKEN, *, account: str = "isp", folder: str = "") -> FetchMark:
    return FetchMark(account, Uid(folder, uid), fate, START, 4000)


async def standing(spool: Spool, queue_id: str = "m1", position: int = 0) -> StoredRecipient:
    item = await spool.find(queue_id)
    assert item is not None
    return item.recipients[position]


async def events(spool: Spool, queue_id: str = "") -> list[str]:
    return [entry.event for entry in await spool.history(queue_id)]


class Conformance:
    """The suite. Clocks of the spool are those of the fixture `clock`."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock(START)

    # accepting and reading back

    async def test_a_message_is_found_as_it_was_accepted(self, spool: Spool) -> None:
        new = message(
            "m1",
            recipient(
                "ann@Example.org",
                B,
                original="alias@home.example",
                source="/etc/aliases:alias",
                notify=Notify.SUCCESS | Notify.DELAY,
                orcpt="rfc822;alias@home.example",
                reported=False,
            ),
            recipient("jörg", LOCAL, kind=TargetKind.MAILBOX, domain="", notify=Notify.NEVER),
            header=b"Subject: caf\xe9\r\n",
            body=b"\x00\xff\r\n",
            protocol="ESMTPSA",
            owner_uid=1000,
            ret=Ret.HDRS,
            envid="an id",
            declared_body=Body.EIGHT_BIT,
            smtputf8=True,
            kind=Kind.REPORT,
            priority=3,
        )
        await spool.accept([new])
        item = await spool.find("m1")
        assert item is not None
        for name in NewMessage._fields:
            if name not in ("recipients", "body", "fetched"):
                assert getattr(item.message, name) == getattr(new, name), name
        assert b"".join(item.message.body_chunks()) == b"\x00\xff\r\n"
        assert item.message.size_bytes == len(new.header) + 2 + 4
        for stored, given in zip(item.recipients, new.recipients, strict=True):
            for name in set(NewRecipient._fields) - {"status"}:
                assert getattr(stored, name) == getattr(given, name), name
            assert (stored.attempts, stored.age, stored.warned, stored.due) == (0, timedelta(0), 0, None)

    # children in the place of a recipient

    async def leased(self, spool: Spool, *recipients: NewRecipient) -> list[StoredRecipient]:
        await spool.accept([message("m1", *recipients)])
        (lease,) = await spool.lease("test", {item.route_class for item in recipients}, now=START + MINUTE)
        return list(lease.recipients)

    async def test_children_take_the_place_of_a_recipient(self, spool: Spool) -> None:
        bob = recipient("bob", LOCAL, kind=TargetKind.USER, domain="", original="b@home.example")
        (stored,) = await self.leased(spool, bob)
        children = [
            recipient("bob", LOCAL, kind=TargetKind.MAILBOX, domain="", source="~bob/.forward"),
            recipient("bob@isp.example", A, original="b@home.example"),
            recipient(
                "nobody", LOCAL, kind=TargetKind.MAILBOX, state=State.FAILED, status=MAILBOX_UNKNOWN, reason="x"
            ),
        ]
        report = message("r1", recipient("root@isp.example", A))
        await spool.forward(stored.id, children, [report], "sent on")
        item = await spool.find("m1")
        assert item is not None
        assert [(one.target, one.kind, one.state, one.source) for one in item.recipients] == [
            ("bob", TargetKind.MAILBOX, State.QUEUED, "~bob/.forward"),
            ("bob@isp.example", TargetKind.REMOTE, State.QUEUED, ""),
            ("nobody", TargetKind.MAILBOX, State.FAILED, ""),
        ]
        assert stored.id not in {one.id for one in item.recipients}
        assert await spool.find("r1") is not None
        events = [(entry.event, entry.recipient, entry.text) for entry in await spool.history("m1")]
        assert events[1:] == [("forwarded", "bob", "sent on"), ("failed", "nobody", "x")]
        counts = await spool.counts()
        assert (counts.messages, counts.recipients) == (2, 3)
        leases = await spool.lease("test", {A, LOCAL}, now=START + MINUTE)
        assert sum(len(lease.recipients) for lease in leases) == 3

    async def test_a_child_that_the_message_has_already_is_left_out(self, spool: Spool) -> None:
        users = [recipient(name, LOCAL, kind=TargetKind.USER, domain="") for name in ("ann", "bob")]
        first, *_ = await self.leased(spool, *users, recipient("x@isp.example"))
        same = recipient("bob", LOCAL, kind=TargetKind.MAILBOX, domain="")
        await spool.forward(first.id, [same, recipient("x@isp.example"), recipient("y@isp.example")], [], "")
        item = await spool.find("m1")
        assert item is not None
        assert [one.target for one in item.recipients] == ["bob", "x@isp.example", "y@isp.example"]

    async def test_a_message_whose_children_have_all_ended_is_gone(self, spool: Spool) -> None:
        (stored,) = await self.leased(spool, recipient("bob", LOCAL, kind=TargetKind.USER, domain=""))
        await spool.forward(stored.id, [recipient("x", state=State.FAILED, status=MAILBOX_UNKNOWN)], [], "")
        assert await spool.find("m1") is None
        assert (await spool.counts()).messages == 0

    async def test_what_is_not_leased_is_not_replaced(self, spool: Spool) -> None:
        (stored,) = await self.leased(spool, recipient("bob", LOCAL, kind=TargetKind.USER, domain=""))
        await spool.record([Record(stored.id, State.QUEUED, "", LOCAL)])
        await spool.forward(stored.id, [recipient("x@isp.example")], [message("r1")], "")
        await spool.forward(4711 << 20, [recipient("x@isp.example")], [], "")
        item = await spool.find("m1")
        assert item is not None
        assert [one.target for one in item.recipients] == ["bob"]
        assert await spool.find("r1") is None

    async def test_what_was_held_meanwhile_stays_held(self, spool: Spool) -> None:
        (stored,) = await self.leased(spool, recipient("bob", LOCAL, kind=TargetKind.USER, domain=""))
        await spool.hold(["m1"], "held by root")
        await spool.forward(stored.id, [recipient("x@isp.example")], [], "")
        item = await spool.find("m1")
        assert item is not None
        assert [(one.state, one.reason) for one in item.recipients] == [(State.HELD, "held by root")]

    async def test_the_null_reverse_path_stays_null(self, spool: Spool) -> None:
        await spool.accept([message("m1", reverse_path=None), message("m2", reverse_path=Mailbox("postmaster"))])
        first, second = await spool.listing()
        assert first.message.reverse_path is None
        assert second.message.reverse_path == Mailbox("postmaster", "")

    async def test_an_unknown_message_is_not_found(self, spool: Spool) -> None:
        assert await spool.find("nothing") is None

    @pytest.mark.parametrize("size", [0, 1, 32_768, 32_769, 131_072, 131_073])
    async def test_a_body_written_in_pieces_is_whole(self, spool: Spool, size: int) -> None:
        data = (bytes(range(256)) * (size // 256 + 1))[:size]
        body = spool.new_body()
        for start in range(0, size, 1000):
            body.write(data[start : start + 1000])
        assert body.size_bytes == size
        await spool.accept([message("m1", body=body)])
        body.discard()
        (lease,) = await spool.lease("w", [A], now=START)
        assert b"".join(lease.message.body_chunks()) == data
        assert lease.message.size_bytes == len(b"Subject: test\r\n") + 2 + size

    @pytest.mark.parametrize("size", [0, 1, 131_072, 131_073, 300_000])
    async def test_a_body_that_was_read_before_it_is_stored_is_whole(self, spool: Spool, size: int) -> None:
        data = (bytes(range(256)) * (size // 256 + 1))[:size]
        body = spool.new_body()
        for start in range(0, size, 1000):
            body.write(data[start : start + 1000])
        assert body.read() == data
        body.write(b"end")
        assert body.read() == data + b"end"
        await spool.accept([message("m1", body=body)])
        item = await spool.find("m1")
        assert item is not None
        assert b"".join(item.message.body_chunks()) == data + b"end"

    @pytest.mark.parametrize("size", [0, 1, 32_768, 32_769, 131_072, 131_073])
    async def test_a_message_is_found_without_its_body(self, spool: Spool, size: int) -> None:
        await spool.accept([message("m1", body=b"x" * size)])
        whole, found = await spool.find("m1"), await spool.find("m1", with_body=False)
        assert whole is not None
        assert found is not None
        assert found.message.body == b""
        assert replace(found.message, body=whole.message.body) == whole.message
        assert found.recipients == whole.recipients

    async def test_a_big_body_given_as_bytes_is_whole(self, spool: Spool) -> None:
        await spool.accept([message("m1", body=b"x" * 200_000)])
        item = await spool.find("m1")
        assert item is not None
        assert b"".join(item.message.body_chunks()) == b"x" * 200_000

    async def test_a_queue_id_is_taken_once(self, spool: Spool) -> None:
        await spool.accept([message("m1")])
        with pytest.raises(SpoolError):
            await spool.accept([message("m2"), message("m1", body=b"another")])
        assert [item.message.queue_id for item in await spool.listing()] == ["m1"]
        assert await events(spool, "m2") == []
        assert (await spool.counts()).recipients == 1
        assert await spool.classes() == {A: 1}

    async def test_who_does_not_wait_is_told_that_a_message_is_stored_or_why_not(self, spool: Spool) -> None:
        for expected in (type(None), SpoolError):  # the second time its queue ID is taken
            told: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
            spool.accept_and_tell([message("m1")], told.set_result)
            assert type(await told) is expected
        assert await events(spool, "m1") == ["received"]

    async def test_a_message_has_recipients(self, spool: Spool) -> None:
        with pytest.raises(SpoolError):
            await spool.accept([message("m1", recipients=[])])
        assert await events(spool) == []

    async def test_a_recipient_that_failed_at_once_is_only_history(self, spool: Spool) -> None:
        bad = recipient("nobody", LOCAL, state=State.FAILED, status=MAILBOX_UNKNOWN, reason="no such user")
        await spool.accept([message("m1", bad), message("m2", bad, recipient()), message("report")])
        assert await spool.find("m1") is None
        assert await events(spool, "m1") == ["received", "failed"]
        stored = await standing(spool, "m2")
        assert (stored.state, stored.last_status, stored.reason) == (State.FAILED, MAILBOX_UNKNOWN, "no such user")
        assert await spool.classes() == {A: 2}

    async def test_there_is_room_for_a_little_and_not_for_too_much(self, spool: Spool) -> None:
        assert spool.has_room(1000)
        assert not spool.has_room(1 << 60)

    # leasing

    async def test_what_waits_is_leased_once_oldest_first(self, spool: Spool) -> None:
        await spool.accept([message("m1"), message("m2")])
        await spool.accept([message("m3")])
        assert ids(await spool.lease("w", [A], now=START, max_messages=2)) == ["m1", "m2"]
        assert ids(await spool.lease("w", [A], now=START)) == ["m3"]
        assert await spool.lease("w", [A], now=START) == []

    async def test_a_lease_carries_all_matching_recipients_of_a_message(self, spool: Spool) -> None:
        await spool.accept([message("m1", recipient("a@x"), recipient("b@y", B), recipient("c@z"))])
        (lease,) = await spool.lease("w", [A], now=START)
        assert [item.target for item in lease.recipients] == ["a@x", "c@z"]
        assert {item.state for item in lease.recipients} == {State.LEASED}
        assert [(await standing(spool, position=n)).state for n in range(3)] == [
            State.LEASED,
            State.QUEUED,
            State.LEASED,
        ]

    async def test_several_classes_are_leased_in_order_of_arrival(self, spool: Spool) -> None:
        await spool.accept([message("m1", recipient("a@x", B)), message("m2"), message("m3", recipient("a@x", B))])
        assert ids(await spool.lease("w", [A, B, C], now=START)) == ["m1", "m2", "m3"]

    async def test_messages_with_many_recipients_fill_a_lease_like_others(self, spool: Spool) -> None:
        await spool.accept([message(f"m{n}", *(recipient(f"{x}@x.org") for x in "abc")) for n in range(4)])
        assert ids(await spool.lease("w", [A], now=START, max_messages=3)) == ["m0", "m1", "m2"]

    async def test_a_lease_is_bounded_in_bytes_but_takes_one_at_least(self, spool: Spool) -> None:
        await spool.accept([message(f"m{n}", body=b"x" * 1000) for n in range(4)])
        assert ids(await spool.lease("w", [A], now=START, max_bytes=10)) == ["m0"]
        assert ids(await spool.lease("w", [A], now=START, max_bytes=2100)) == ["m1", "m2"]

    async def test_a_lease_can_be_for_one_domain(self, spool: Spool) -> None:
        await spool.accept(
            [message("m1", recipient("a@x.org"), recipient("b@y.org")), message("m2", recipient("c@y.org"))]
        )
        leases = await spool.lease("w", [A], now=START, domain="y.org")
        assert [[item.target for item in lease.recipients] for lease in leases] == [["b@y.org"], ["c@y.org"]]

    async def test_what_is_deferred_waits_until_it_is_due(self, spool: Spool) -> None:
        await spool.accept([message("m1")])
        due = START + 5 * MINUTE
        await spool.record([record(await lease_one(spool), State.DEFERRED, due=due, attempt=attempt())])
        assert await spool.lease("w", [A], now=due - timedelta(microseconds=1)) == []
        assert ids(await spool.lease("w", [A], now=due)) == ["m1"]

    async def test_a_wake_takes_what_is_not_due_but_once(self, spool: Spool, clock: FakeClock) -> None:
        await spool.accept([message("m1"), message("m2", recipient("b@y", A))])
        leases = await spool.lease("w", [A], now=START)
        due = START + 60 * MINUTE
        await spool.record([record(lease.recipients[0], State.DEFERRED, due=due) for lease in leases])
        clock.advance(MINUTE)
        now = woken_at = clock.now()
        assert await spool.waiting_domains([A], now=now, woken_at=woken_at) == ["example.org", "y"]
        leases = await spool.lease("w", [A], now=now, woken_at=woken_at)
        assert ids(leases) == ["m1", "m2"]
        await spool.record([record(lease.recipients[0], State.DEFERRED, due=due) for lease in leases])
        assert await spool.lease("w", [A], now=now, woken_at=woken_at) == []
        assert await spool.lease("w", [A], now=now, woken_at=woken_at, domain="y") == []
        assert await spool.waiting_domains([A], now=now, woken_at=woken_at) == []

    async def test_leasing_at_the_end_of_time_does_not_spoil_later_wakes(
        self, spool: Spool, clock: FakeClock
    ) -> None:
        await spool.accept([message("m1")])
        far = datetime.max.replace(tzinfo=UTC)
        due = START + 60 * MINUTE
        await spool.record([record(await lease_one(spool, now=far), State.DEFERRED, due=due)])
        clock.advance(MINUTE)
        assert ids(await spool.lease("w", [A], now=clock.now(), woken_at=clock.now())) == ["m1"]

    async def test_waiting_domains_are_those_that_could_be_leased(self, spool: Spool) -> None:
        await spool.accept(
            [
                message("m1", recipient("a@late.org")),
                message("m2", recipient("a@now.org"), recipient("b@also.org"), recipient("c@now.org")),
                message("m3", recipient("a@other.org", B), recipient("ann", kind=TargetKind.MAILBOX, domain="")),
            ]
        )
        await spool.record([record(await lease_one(spool), State.DEFERRED, due=START + MINUTE)])
        assert await spool.waiting_domains([A], now=START) == ["also.org", "now.org"]
        assert await spool.waiting_domains([A], now=START + MINUTE) == ["also.org", "late.org", "now.org"]
        assert len(await spool.waiting_domains([A, B], now=START, limit=2)) == 2

    async def test_next_due_is_the_earliest_behind_an_instant(self, spool: Spool) -> None:
        await spool.accept([message("m1"), message("m2"), message("m3", recipient("x@y", B))])
        leases = await spool.lease("w", [A, B], now=START)
        for minutes, lease in zip((5, 9, 1), leases, strict=True):
            await spool.record([record(lease.recipients[0], State.DEFERRED, due=START + minutes * MINUTE)])
        assert await spool.next_due([A], after=START) == START + 5 * MINUTE
        assert await spool.next_due([A, B, C], after=START) == START + MINUTE
        assert await spool.next_due([A], after=START + 5 * MINUTE) == START + 9 * MINUTE
        assert await spool.next_due([A], after=START + 9 * MINUTE) is None
        assert await spool.next_due([], after=START) is None

    # recording

    async def test_a_message_goes_with_its_last_recipient_and_its_history_stays(self, spool: Spool) -> None:
        await spool.accept([message("m1", recipient("a@x"), recipient("b@y"), body=b"x" * 200_000)])
        (lease,) = await spool.lease("w", [A], now=START)
        first, second = lease.recipients
        await spool.record([record(first, State.DELIVERED, "taken", status=OK, attempt=attempt())])
        assert (await standing(spool)).state is State.DELIVERED
        assert (await spool.counts()).recipients == 1
        await spool.record([record(second, State.FAILED, "unknown", status=MAILBOX_UNKNOWN, attempt=attempt())])
        assert await spool.find("m1") is None
        received, delivered, failed = await spool.history("m1")
        assert (received.event, received.at) == ("received", START)
        assert delivered == HistoryEntry(
            START + MINUTE, "m1", "delivered", "a@x", "gmx", "mx.example.org", "250 2.0.0 OK", "taken"
        )
        assert (failed.event, failed.recipient, failed.text) == ("failed", "b@y", "unknown")
        assert await spool.classes() == {}

    async def test_two_recipients_that_end_together_end_the_message(self, spool: Spool) -> None:
        await spool.accept([message("m1", recipient("a@x"), recipient("b@y"))])
        (lease,) = await spool.lease("w", [A], now=START)
        await spool.record([record(item, State.DELIVERED) for item in lease.recipients])
        assert await spool.find("m1") is None
        assert (await spool.counts()).messages == 0

    async def test_a_record_is_kept_on_the_recipient(self, spool: Spool) -> None:
        await spool.accept([message("m1")])
        due = START + 5 * MINUTE
        await spool.record(
            [
                record(
                    await lease_one(spool),
                    State.DEFERRED,
                    "mailbox full",
                    status=MAILBOX_FULL,
                    due=due,
                    attempt=attempt(),
                    warned=2,
                )
            ]
        )
        stored = await standing(spool)
        assert (stored.state, stored.due, stored.attempts, stored.warned) == (State.DEFERRED, due, 1, 2)
        assert (stored.last_status, stored.last_route, stored.reason) == (MAILBOX_FULL, "gmx", "mailbox full")
        assert stored.last_attempt_at == START + MINUTE
        again = await lease_one(spool, now=due)
        assert (again.attempts, again.warned, again.last_status) == (1, 2, MAILBOX_FULL)
        await spool.record([record(again, State.QUEUED, "no connection", attempt=attempt(spent=False))])
        stored = await standing(spool)
        assert (stored.state, stored.due, stored.attempts, stored.warned) == (State.QUEUED, None, 1, 2)
        assert stored.last_status == MAILBOX_FULL

    async def test_giving_back_leaves_history_only_for_a_new_reason(self, spool: Spool) -> None:
        await spool.accept([message("m1")])
        for reason in ("host is down", "host is down", "host is up but deaf"):
            await spool.record([record(await lease_one(spool), State.QUEUED, reason)])
        assert await events(spool, "m1") == ["received", "returned", "returned"]

    async def test_reports_are_accepted_with_the_record(self, spool: Spool) -> None:
        await spool.accept([message("m1")])
        failed = record(await lease_one(spool), State.FAILED, status=MAILBOX_UNKNOWN)
        await spool.record([failed], [message("dsn", reverse_path=None, kind=Kind.REPORT)])
        assert [item.message.queue_id for item in await spool.listing()] == ["dsn"]

    async def test_a_record_whose_report_is_refused_changes_nothing(self, spool: Spool) -> None:
        await spool.accept([message("m1"), message("m2")])
        failed = record(await lease_one(spool), State.FAILED, status=MAILBOX_UNKNOWN)
        with pytest.raises(SpoolError):
            await spool.record([failed], [message("m2")])
        assert (await standing(spool)).state is State.LEASED
        assert await events(spool, "m1") == ["received"]

    async def test_records_for_what_is_gone_or_not_leased_are_passed_over(self, spool: Spool) -> None:
        await spool.accept([message("m1"), message("m2")])
        first = await lease_one(spool)
        await spool.remove(["m1"], START, "removed by root")
        waiting = await standing(spool, "m2")
        await spool.record([record(first, State.DELIVERED), record(waiting, State.DELIVERED)])
        assert (await standing(spool, "m2")).state is State.QUEUED
        assert await events(spool, "m1") == ["received", "removed"]

    async def test_the_first_of_two_records_for_a_recipient_counts(self, spool: Spool) -> None:
        await spool.accept([message("m1")])
        leased = await lease_one(spool)
        await spool.record(
            [record(leased, State.DEFERRED, "first", due=START), record(leased, State.QUEUED, "second")]
        )
        stored, counts = await standing(spool), await spool.counts()
        assert (stored.reason, counts.recipients, counts.deferred) == ("first", 1, 1)

    async def test_ids_are_not_used_again(self, spool: Spool) -> None:
        await spool.accept([message("m1")])
        first = await lease_one(spool)
        await spool.remove(["m1"], START, "removed by root")
        await spool.accept([message("m2")])
        assert (await lease_one(spool)).id != first.id

    async def test_a_held_recipient_can_be_failed_by_hand(self, spool: Spool) -> None:
        await spool.accept([message("m1")])
        await spool.hold(["m1"], "to be looked at")
        await spool.record([record(await standing(spool), State.FAILED, "bounced by root")])
        assert await spool.find("m1") is None

    # a crash

    async def test_recovery_gives_leases_back_and_says_what_is_in_doubt(self, spool: Spool) -> None:
        await spool.accept([message("m1"), message("m2"), message("m3")])
        leases = await spool.lease("w", [A], now=START)
        await spool.begin([leases[1].recipients[0].id])
        await spool.hold(["m3"], "wait")
        assert await spool.recover(START + MINUTE) == 1
        first, second, third = [await standing(spool, name) for name in ("m1", "m2", "m3")]
        assert (first.state, first.reason) == (State.QUEUED, "")
        assert (second.state, second.reason) == (State.QUEUED, "may arrive twice: we were cut off while sending")
        assert (third.state, third.reason) == (State.HELD, "wait")
        assert await events(spool, "m1") == ["received"]
        doubt = (await spool.history("m2"))[-1]
        assert (doubt.event, doubt.at, doubt.recipient) == ("in doubt", START + MINUTE, "ann@example.org")
        assert await spool.recover(START + MINUTE) == 0
        again = await spool.lease("w", [A], now=START)
        assert ids(again) == ["m1", "m2"]
        assert await spool.recover(START) == 0

    async def test_due_times_from_a_wrong_clock_are_mended(self, spool: Spool) -> None:
        await spool.accept([message("m1"), message("m2")])
        leases = await spool.lease("w", [A], now=START)
        for minutes, lease in zip((60, 61), leases, strict=True):
            await spool.record([record(lease.recipients[0], State.DEFERRED, due=START + minutes * MINUTE)])
        await spool.clamp_due(START, 60 * MINUTE)
        assert (await standing(spool, "m1")).due == START + 60 * MINUTE
        assert (await standing(spool, "m2")).due == START

    # classes and ages

    async def test_age_is_the_usable_time_of_the_class(self, spool: Spool) -> None:
        await spool.advance(50, [A])
        await spool.accept([message("m1")])
        await spool.advance(60.5, [A, B])
        await spool.accept([message("m2"), message("m3", recipient("x@y", B))])
        await spool.advance(9.5, [A, C])
        ages = [(await standing(spool, name)).age.total_seconds() for name in ("m1", "m2", "m3")]
        assert ages == [70, 9.5, 0]

    async def test_age_moves_along_with_the_recipient(self, spool: Spool) -> None:
        await spool.accept([message("m1"), message("m2", recipient("x@y", B))])
        await spool.advance(100, [A])
        await spool.advance(7, [B])
        await spool.record([record(await lease_one(spool), State.QUEUED, route_class=B)])
        assert (await standing(spool)).age == timedelta(seconds=100)
        await spool.advance(3, [B])
        await spool.reclass([((await standing(spool)).id, C)])
        stored = await standing(spool)
        assert (stored.age, stored.route_class) == (timedelta(seconds=103), C)
        assert await spool.classes() == {B: 1, C: 1}

    async def test_what_is_leased_is_not_reclassed(self, spool: Spool) -> None:
        await spool.accept([message("m1", recipient("a@x"), recipient("b@y"))])
        leased, other = (await spool.lease("w", [A], now=START))[0].recipients
        await spool.record([record(other, State.DEFERRED, due=START + MINUTE)])
        await spool.reclass([(leased.id, C), (other.id, C), (123456789, C)])
        assert [(await standing(spool, position=n)).route_class for n in (0, 1)] == [A, C]

    async def test_stale_messages_are_those_of_another_generation(self, spool: Spool) -> None:
        old, new = recipient("a@x"), recipient("b@y", C)
        await spool.accept([message("m1", new), message("m2", old, new), message("m3", old), message("m4", old)])
        await spool.hold(["m3"], "wait")
        await spool.lease("w", [A], now=START, max_messages=1)
        assert [item.message.queue_id for item in await spool.stale("2")] == ["m3", "m4"]
        (first,) = await spool.stale("2", limit=1)
        assert (first.message.queue_id, first.message.header) == ("m3", b"Subject: test\r\n")
        assert [item.message.queue_id for item in await spool.stale("1")] == ["m1", "m2"]

    # people

    async def test_the_listing_is_in_pages_in_order_of_arrival(self, spool: Spool) -> None:
        await spool.accept([message(f"m{n}", owner_uid=n % 2) for n in range(5)])

        async def page(after: str = "", limit: int | None = None, owner_uid: int | None = None) -> list[str]:
            items = await spool.listing(after=after, limit=limit, owner_uid=owner_uid)
            return [item.message.queue_id for item in items]

        assert await page() == ["m0", "m1", "m2", "m3", "m4"]
        assert await page(limit=2) == ["m0", "m1"]
        assert await page(after="m1", limit=2) == ["m2", "m3"]
        assert await page(after="m4") == []
        assert await page(owner_uid=1) == ["m1", "m3"]
        await spool.remove(["m2"], START, "removed by root")
        assert await page(after="m2") == ["m3", "m4"]
        assert await page(after="nothing") == []

    async def test_the_listing_shows_ended_recipients_and_no_content(self, spool: Spool) -> None:
        await spool.accept([message("m1", recipient("a@x"), recipient("b@y"), body=b"x" * 200_000)])
        await spool.record([record(await lease_one(spool), State.DELIVERED)])
        (item,) = await spool.listing()
        assert [stored.state for stored in item.recipients] == [State.DELIVERED, State.LEASED]
        assert (item.message.header, item.message.body) == (b"", b"")
        assert item.message.size_bytes > 200_000

    async def test_hold_keeps_and_release_lets_go(self, spool: Spool) -> None:
        await spool.accept([message("m1", recipient("a@x"), recipient("b@y")), message("m2")])
        assert await spool.hold(["m1", "nothing"], "look at it first") == 2
        assert await spool.hold(["m1"], "again") == 0
        assert (await standing(spool)).reason == "look at it first"
        assert ids(await spool.lease("w", [A], now=START, max_messages=9)) == ["m2"]
        assert await spool.release(["m1", "m2"]) == 2
        assert (await standing(spool)).reason == ""
        assert ids(await spool.lease("w", [A], now=START)) == ["m1"]
        assert await events(spool, "m1") == ["received", "held", "released"]

    async def test_what_is_held_while_it_is_leased_becomes_held_when_it_comes_back(self, spool: Spool) -> None:
        await spool.accept([message("m1", recipient("a@x"), recipient("b@y"), recipient("c@z"))])
        (lease,) = await spool.lease("w", [A], now=START)
        assert await spool.hold(["m1"], "wait") == 3
        delivered, deferred, queued = lease.recipients
        await spool.record(
            [
                record(delivered, State.DELIVERED),
                record(deferred, State.DEFERRED, due=START),
                record(queued, State.QUEUED),
            ]
        )
        states = [(await standing(spool, position=n)).state for n in range(3)]
        assert states == [State.DELIVERED, State.HELD, State.HELD]
        held = await standing(spool, position=1)
        assert (held.reason, held.due) == ("wait", None)

    async def test_a_hold_of_what_is_leased_can_be_taken_back(self, spool: Spool) -> None:
        await spool.accept([message("m1")])
        leased = await lease_one(spool)
        await spool.hold(["m1"], "wait")
        assert await spool.release(["m1"]) == 1
        await spool.record([record(leased, State.QUEUED)])
        assert (await standing(spool)).state is State.QUEUED

    async def test_a_hold_can_leave_alone_what_is_leased(self, spool: Spool) -> None:
        await spool.accept([message("m1")])
        leased = await lease_one(spool)
        assert await spool.hold(["m1"], "wait", leased=False) == 0
        await spool.record([record(leased, State.QUEUED)])
        assert await spool.hold(["m1"], "wait", leased=False) == 1
        assert (await standing(spool)).state is State.HELD
        assert await events(spool, "m1") == ["received", "returned", "held"]

    async def test_retry_makes_due_now(self, spool: Spool) -> None:
        await spool.accept([message("m1"), message("m2")])
        await spool.record([record(await lease_one(spool), State.DEFERRED, "busy", due=START + 60 * MINUTE)])
        await spool.hold(["m2"], "wait")
        assert await spool.retry(["m1", "m2"]) == 1
        stored = await standing(spool)
        assert (stored.state, stored.due, stored.reason) == (State.QUEUED, None, "busy")
        assert ids(await spool.lease("w", [A], now=START)) == ["m1"]
        assert await events(spool, "m2") == ["received", "held"]

    async def test_remove_forgets_messages_in_any_state(self, spool: Spool) -> None:
        await spool.accept([message("m1"), message("m2"), message("m3", body=b"x" * 200_000)])
        await lease_one(spool)
        await spool.hold(["m2"], "wait")
        assert await spool.remove(["m1", "m2", "m3", "nothing"], START + MINUTE, "removed by root") == 3
        assert await spool.listing() == []
        last = (await spool.history("m3"))[-1]
        assert last == HistoryEntry(START + MINUTE, "m3", "removed", text="removed by root")
        assert (await spool.counts()).recipients == 0

    @pytest.mark.parametrize(
        ("selection", "expected"),
        [
            (Selection(), ["m1", "m2", "m3"]),
            (Selection(queue_ids=("m3", "m1", "nothing", "m3")), ["m3", "m1"]),
            (Selection(sender="bob"), ["m1", "m3"]),
            (Selection(sender="<>"), ["m2"]),
            (Selection(sender="*@example.net", queue_ids=("m2", "m3")), ["m3"]),
            (Selection(recipient="*@x.org"), ["m1"]),
            (Selection(recipient="list@*"), ["m3"]),
            (Selection(route="gmx"), ["m1", "m2"]),
            (Selection(route="gmx", recipient="ann"), ["m2"]),
            (Selection(received_before=START + MINUTE), ["m1", "m2"]),
            (Selection(owner_uid=7), ["m2"]),
        ],
    )
    async def test_a_selection_means_what_fits_all_its_conditions(
        self, spool: Spool, selection: Selection, expected: list[str]
    ) -> None:
        await spool.accept(
            [
                message("m1", recipient("a@x.org")),
                message("m2", reverse_path=None, owner_uid=7),
                message("m3", recipient("ann@y", B, original="list@home"), received_at=START + MINUTE),
            ]
        )
        assert await spool.select(selection) == expected

    async def test_counts_are_those_of_what_has_not_ended(self, spool: Spool) -> None:
        empty = await spool.counts()
        assert (empty.messages, empty.recipients, empty.bytes, empty.oldest_at) == (0, 0, 0, None)
        await spool.accept(
            [message("m1", recipient("a@x"), recipient("b@y"), recipient("c@z")), message("m2"), message("m3")]
        )
        size = len(b"Subject: test\r\n") + 2 + len(b"Hello\r\n")
        (lease,) = await spool.lease("w", [A], now=START, max_messages=1)
        delivered, deferred, _ = lease.recipients
        await spool.record([record(delivered, State.DELIVERED), record(deferred, State.DEFERRED, due=START)])
        await spool.hold(["m3"], "wait")
        counts = await spool.counts()
        assert (counts.messages, counts.recipients, counts.bytes, counts.oldest_at) == (3, 4, 3 * size, START)
        assert (counts.queued, counts.deferred, counts.held) == (2, 1, 1)

    # what was fetched

    async def test_a_fetched_message_is_stored_with_its_mark(self, spool: Spool) -> None:
        await spool.accept([message("m1", kind=Kind.FETCHED, fetched=mark("1")), message("m2")])
        assert await spool.fetch_marks("isp") == {Uid("", "1"): mark("1")}
        item = await spool.find("m1")
        assert item is not None
        assert item.message.kind is Kind.FETCHED

    async def test_a_message_that_is_not_stored_leaves_no_mark(self, spool: Spool) -> None:
        await spool.accept([message("m1")])
        with pytest.raises(SpoolError):
            await spool.accept([message("m2", fetched=mark("2")), message("m1", fetched=mark("1"))])
        assert await spool.fetch_marks("isp") == {}

    async def test_a_mark_stays_when_its_message_has_ended(self, spool: Spool) -> None:
        bad = recipient("nobody", LOCAL, state=State.FAILED, status=MAILBOX_UNKNOWN, reason="no such user")
        await spool.accept([message("m1", bad, fetched=mark("1")), message("m2", fetched=mark("2"))])
        await spool.remove(["m2"], START, "removed by root")
        await spool.trim(START + MINUTE)
        assert await spool.fetch_marks("isp") == {Uid("", "1"): mark("1"), Uid("", "2"): mark("2")}

    async def test_the_latest_mark_of_a_message_counts(self, spool: Spool) -> None:
        await spool.mark_fetched([mark("1", FetchFate.LEFT), mark("2", FetchFate.REFUSED)])
        await spool.accept([message("m1", fetched=mark("1"))])
        later = mark("2")._replace(at=START + MINUTE, size_bytes=1 << 40)
        await spool.mark_fetched([mark("2"), later])
        await spool.accept([message("m2", fetched=later)])
        assert await spool.fetch_marks("isp") == {Uid("", "1"): mark("1"), Uid("", "2"): later}

    async def test_accounts_and_folders_have_marks_of_their_own(self, spool: Spool) -> None:
        inbox, spam = mark("7:1", folder="INBOX"), mark("7:1", FetchFate.LEFT, folder="Späm")
        other = mark("7:1", folder="INBOX", account="work")
        await spool.mark_fetched([inbox, spam, other])
        assert await spool.fetch_marks("isp") == {inbox.uid: inbox, spam.uid: spam}
        await spool.forget_fetched("isp", [inbox.uid, Uid("INBOX", "unknown")])
        assert await spool.fetch_marks("isp") == {spam.uid: spam}
        assert await spool.fetch_marks("work") == {other.uid: other}
        assert await spool.fetch_marks("unknown") == {}

    @pytest.mark.parametrize("count", [999, 1000, 1001, 2500])
    async def test_many_marks_are_read_whole(self, spool: Spool, count: int) -> None:
        marks = [mark(str(number), folder=f"f{number % 3}") for number in range(count)]
        written = spool.mark_fetched(marks)
        found = await spool.fetch_marks("isp")
        assert found == {one.uid: one for one in marks}
        await written
        await spool.forget_fetched("isp", found)
        assert await spool.fetch_marks("isp") == {}

    # history and facts

    async def test_history_gives_the_last_lines_oldest_first(self, spool: Spool) -> None:
        await spool.note([HistoryEntry(START, "", "fetched", text=str(n)) for n in range(5)])
        await spool.accept([message("m1")])
        assert [entry.text for entry in await spool.history(limit=3)][:2] == ["3", "4"]
        assert await events(spool, "m1") == ["received"]

    async def test_trimming_forgets_old_lines_of_what_is_gone(self, spool: Spool) -> None:
        await spool.accept([message("m1"), message("m2")])
        await spool.remove(["m1"], START, "removed by root")
        await spool.note([HistoryEntry(START + MINUTE, "m1", "noted")])
        await spool.trim(START + MINUTE)
        assert await events(spool, "m1") == ["noted"]
        assert await events(spool, "m2") == ["received"]

    async def test_tidying_takes_nothing_that_is_wanted(self, spool: Spool) -> None:
        await spool.accept([message("m1"), message("m2", body=b"x" * 300_000), message("m3")])
        await spool.remove(["m3"], START, "removed by root")
        await spool.tidy()
        assert [item.message.queue_id for item in await spool.listing()] == ["m1", "m2"]
        found = await spool.find("m2")
        assert found is not None
        assert b"".join(found.message.body_chunks()) == b"x" * 300_000
        assert await events(spool, "m3") == ["received", "removed"]

    async def test_facts_are_remembered(self, spool: Spool) -> None:
        assert await spool.recall("link") is None
        await spool.remember("link", "dsl")
        await spool.remember("link", "umts")
        assert await spool.recall("link") == "umts"

    async def test_verbs_take_effect_in_order_without_being_awaited(self, spool: Spool) -> None:
        accepted = spool.accept([message("m1")])
        held = spool.hold(["m1"], "wait")
        leased = spool.lease("w", [A], now=START)
        released = spool.release(["m1"])
        counts = await spool.counts()
        assert (counts.queued, counts.held) == (1, 0)
        await accepted
        assert (await held, await leased, await released) == (1, [], 1)

    async def test_a_status_without_enhanced_code_is_kept(self, spool: Spool) -> None:
        await spool.accept([message("m1")])
        status = Status(451, "", "später\nvielleicht")
        await spool.record([record(await lease_one(spool), State.DEFERRED, status=status, due=START)])
        assert (await standing(spool)).last_status == status
