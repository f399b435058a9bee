"""What a lane does when a next hop, a password or our own code fails."""

from dataclasses import replace

import anyio
import pytest

from masqmail.daemon.lane import Lane, LaneKey
from masqmail.daemon.secrets import SecretError
from masqmail.delivery.connect import Memory, Options
from masqmail.delivery.job import Feed
from masqmail.delivery.parallel import Speed
from masqmail.delivery.smtp import SessionEnd
from masqmail.mail.outcome import Culprit
from masqmail.net.errors import NameFailure
from masqmail.net.fake import FakeResolver
from masqmail.settings import HostPort
from masqmail.spool.api import Lease
from masqmail.spool.states import State
from support.assembly import BACKUP_HOP, GREYLISTED, HOP, MINUTE, Assembly, direct, rules, says, smarthost

pytestmark = pytest.mark.anyio

REFUSED = SessionEnd(Culprit.CONNECTION, "cannot connect: connection refused")
PRIMARY, BACKUP = HOP.host, BACKUP_HOP.host


def two_hops(**changes: bool) -> Assembly:
    return Assembly(rules(smarthost(**changes), hops=(HOP, BACKUP_HOP)))


async def test_the_second_smarthost_is_used_while_the_first_is_paused() -> None:
    async with two_hops().running() as daemon:
        daemon.peers.ends[PRIMARY] = REFUSED
        await daemon.accept("m1", "bob@far.example")
        await daemon.accept("m2", "bob@far.example")
        assert daemon.peers.calls == [PRIMARY, BACKUP, BACKUP]
        assert len(daemon.peers.taken) == 2
        assert daemon.scheduler.paused_routes() == {}
        del daemon.peers.ends[PRIMARY]
        await daemon.advance(MINUTE)
        await daemon.accept("m3", "bob@far.example")
        assert daemon.peers.calls[-1] == PRIMARY
        assert daemon.pauses.of("isp", str(HOP)) is None


async def test_the_route_is_paused_when_no_smarthost_can_be_used() -> None:
    async with two_hops().running() as daemon:
        daemon.peers.ends = {PRIMARY: REFUSED, BACKUP: SessionEnd(Culprit.TLS, "the certificate has expired")}
        await daemon.accept("m1", "bob@far.example")
        assert daemon.peers.calls == [PRIMARY, BACKUP]
        assert "isp" in daemon.scheduler.paused_routes()
        (recipient,) = daemon.recipients()
        assert (recipient.state, recipient.attempts) == (State.QUEUED, 0)


async def test_pauses_grow_until_a_success_forgets_them() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.peers.ends[PRIMARY] = REFUSED
        await daemon.accept("m1", "bob@far.example")
        await daemon.advance(6 * MINUTE)
        assert len(daemon.peers.calls) == 3  # at once, after 1 and after 5 minutes
        daemon.peers.ends.clear()
        await daemon.advance(15 * MINUTE)
        assert len(daemon.peers.taken) == 1
        daemon.peers.ends[PRIMARY] = REFUSED
        await daemon.accept("m2", "bob@far.example")
        await daemon.advance(MINUTE)
        assert len(daemon.peers.calls) == 6


async def test_a_dead_first_smarthost_costs_the_second_none_of_its_connections() -> None:
    daemon = Assembly(rules(smarthost(), hops=(HOP, BACKUP_HOP), connections={"isp": 3}))
    dialled, answer = 0, anyio.Event()

    async def send(next_hop: HostPort, options: Options, feed: Feed, memory: Memory) -> SessionEnd:
        nonlocal dialled
        if next_hop == HOP:
            dialled += 1
            await answer.wait()
            return REFUSED
        await feed.is_wanted()
        feed.note_speed(Speed(setup_seconds=1, message_seconds=0.3))
        return await daemon.peers.send(next_hop, options, feed, memory)

    daemon.lanes._send = send
    async with daemon.running():
        answer.set()
        await daemon.accept("m0", "bob@far.example")
        assert (dialled, daemon.peers.calls) == (1, [BACKUP])
        for number in range(300):
            await daemon.accept(f"m{number + 1}", f"u{number}@far.example", tell=False)
        answer, daemon.peers.gate = anyio.Event(), anyio.Event()
        await daemon.advance(MINUTE)
        assert dialled == 4
        answer.set()
        await daemon.settle()
        assert (dialled, daemon.peers.calls) == (4, [BACKUP] * 4)
        daemon.peers.gate.set()
        await daemon.settle()
        assert len(daemon.peers.taken) == 301


async def test_a_connection_that_is_refused_beside_one_that_stands_leaves_the_smarthost_to_that() -> None:
    daemon = Assembly(rules(smarthost(), hops=(HOP, BACKUP_HOP), connections={"isp": 3}))

    async def send(next_hop: HostPort, options: Options, feed: Feed, memory: Memory) -> SessionEnd:
        if daemon.peers.calls:
            daemon.peers.calls.append(next_hop.host)
            return REFUSED
        await feed.is_wanted()
        feed.note_speed(Speed(setup_seconds=1, message_seconds=0.3))
        return await daemon.peers.send(next_hop, options, feed, memory)

    daemon.lanes._send = send
    async with daemon.running():
        daemon.peers.gate = anyio.Event()
        for number in range(300):
            await daemon.accept(f"m{number}", f"u{number}@far.example", tell=False)
        daemon.scheduler.note_classes(await daemon.spool.classes())
        await daemon.settle()
        assert 2 <= len(daemon.peers.calls) <= 3 and set(daemon.peers.calls) == {PRIMARY}
        assert daemon.pauses.of("isp", str(HOP)) is None
        daemon.peers.gate.set()
        await daemon.settle()
        assert len(daemon.peers.taken) == 300


async def test_bounce_on_connect_error_fails_all_that_waits_and_not_only_a_window() -> None:
    async with Assembly(rules(smarthost(fails_on_connect_error=True)), up=(), down=("dsl",)).running() as daemon:
        for number in range(100):
            await daemon.accept(f"m{number}", "bob@far.example", tell=False)
        daemon.peers.ends[PRIMARY] = REFUSED
        daemon.board.states["dsl"] = daemon.board.states["always"]
        daemon.scheduler.note_classes({daemon.remote("bob@far.example").route_class})
        await daemon.settle()
        assert daemon.peers.calls == [PRIMARY]
        assert daemon.states() == []
        assert len(daemon.reports()) == 100


@pytest.mark.timeout(10)  # a lane that spins lets nothing else stop it
async def test_bounce_on_connect_error_fails_what_a_lane_has_that_was_called_from_reserve() -> None:
    daemon = Assembly(rules(smarthost(fails_on_connect_error=True)))
    daemon.peers.ends[PRIMARY] = REFUSED

    async def give(lane: Lane, max_messages: int, max_bytes: int) -> list[Lease]:
        classes = [daemon.remote("bob@far.example").route_class]
        return await daemon.spool.lease("test", classes, now=daemon.clock.now(), max_messages=max_messages)

    lane = Lane(LaneKey("isp"), give, is_reserve=True)
    lane.call(None)
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example", tell=False)
        await daemon.lanes.run(lane)
        await daemon.settle()
        assert daemon.states() == []
        assert len(daemon.reports()) == 1


async def test_bounce_on_connect_error_bounces_nothing_that_a_second_smarthost_could_take() -> None:
    daemon = two_hops(fails_on_connect_error=True)
    daemon.peers.ends = {PRIMARY: REFUSED}
    daemon.peers.answer = says(GREYLISTED)
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example")
        assert daemon.states() == [State.DEFERRED]
        assert daemon.reports() == []


async def test_an_error_of_ours_pauses_and_puts_off_what_the_connection_had() -> None:
    daemon = Assembly(rules(smarthost()))

    async def send(next_hop, options, feed, memory):  # type: ignore[no-untyped-def]
        await feed.take(max_transactions=1, max_bytes=1)
        raise RuntimeError("a bug")

    daemon.lanes._send = send
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example", tell=False)
        await daemon.accept("m2", "bob@far.example")
        first, second = daemon.recipients()
        assert (first.state, first.attempts) == (State.DEFERRED, 1)
        assert "an error of ours" in first.reason
        assert (second.state, second.attempts) == (State.QUEUED, 0)
        assert "a bug" in daemon.scheduler.paused_routes()["isp"]


async def test_a_password_that_cannot_be_read_pauses_the_route_with_the_reason() -> None:
    daemon = Assembly(rules(smarthost()))
    daemon.lanes.transports = daemon.transports(username="ann")
    daemon.secret = SecretError("cannot read the password in /etc/secret: Permission denied")
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example")
        assert daemon.peers.calls == []
        assert daemon.scheduler.paused_routes()["isp"] == str(daemon.secret)


async def test_a_refused_password_is_read_again_the_next_time_and_a_good_one_is_kept() -> None:
    daemon = Assembly(rules(smarthost()))
    daemon.lanes.transports = daemon.transports(username="ann")
    daemon.peers.ends[PRIMARY] = SessionEnd(Culprit.LOGIN, "535 5.7.8 wrong password")
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example")
        assert daemon.secrets_read == 1
        daemon.peers.ends.clear()
        await daemon.advance(MINUTE)
        assert daemon.secrets_read == 2
        await daemon.accept("m2", "bob@far.example")
        assert daemon.secrets_read == 2
        assert len(daemon.peers.taken) == 2


async def test_a_connection_that_achieved_something_is_made_again_at_once() -> None:
    daemon = Assembly(rules(smarthost()))

    async def send(next_hop: HostPort, options, feed, memory):  # type: ignore[no-untyped-def]
        daemon.peers.calls.append(next_hop.host)
        (transaction,) = await feed.take(max_transactions=1, max_bytes=1)
        feed.settle(transaction, [daemon.peers.answer(transaction, "")])
        return SessionEnd(Culprit.CONNECTION, "the connection broke", progress=True)

    daemon.lanes._send = send
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example", tell=False)
        await daemon.accept("m2", "bob@far.example", tell=False)
        await daemon.accept("m3", "bob@far.example")
        assert daemon.states() == []
        assert len(daemon.peers.calls) == 3


# --- direct delivery


async def test_trouble_with_a_domain_is_its_own() -> None:
    daemon = Assembly(rules(direct()))
    daemon.lanes._resolver = FakeResolver({"far.example": NameFailure("no name server answered for far.example")})
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example", "eve@far.example")
        assert [(item.state, item.attempts) for item in daemon.recipients()] == [(State.DEFERRED, 1)] * 2
        assert "no name server answered" in daemon.recipients()[0].reason
        assert daemon.scheduler.paused_routes() == {}


async def test_a_route_to_the_lan_needs_no_link_and_bounces_what_cannot_be_reached() -> None:
    lan = direct(links=("always",), fails_on_connect_error=True)
    daemon = Assembly(rules(lan), up=(), down=("dsl",))
    daemon.lanes._resolver = FakeResolver({"nas.lan": NameFailure("nobody knows nas.lan")})
    async with daemon.running():
        await daemon.accept("m1", "bob@nas.lan")
        ((who, report),) = daemon.reports()
        assert who == "ann"
        assert "Status: 5.4.1" in report and "nobody knows nas.lan" in report


async def test_a_domain_whose_mail_exchanger_is_this_host_is_a_loop() -> None:
    daemon = Assembly(rules(direct()))
    daemon.lanes._resolver = FakeResolver(
        {"far.example": [(10, "mx.far.example")]}, {"mx.far.example": ["127.0.0.1"]}
    )
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example")
        ((who, report),) = daemon.reports()
        assert who == "ann"
        assert "Status: 5.4.6" in report


async def test_an_error_of_ours_puts_a_domain_off() -> None:
    daemon = Assembly(rules(direct()))
    daemon.lanes._resolver = FakeResolver({"far.example": RuntimeError("a bug")})
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example")
        (recipient,) = daemon.recipients()
        assert (recipient.state, recipient.attempts) == (State.DEFERRED, 1)


async def test_a_route_that_is_gone_when_its_lane_starts_is_left_alone() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.directory.rules = replace(daemon.rules, routes=(), next_hops={}, generation="2")
        await daemon.accept("m1", "bob@far.example", tell=False)
        daemon.scheduler.wake()
        await daemon.settle()
        assert daemon.peers.calls == []
