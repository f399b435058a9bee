"""The real daemon over weeks of its clock: real spool, real sockets, restarts."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from masqmail.routing.link import LinkState
from masqmail.spool.api import StoredRecipient
from masqmail.spool.database import FILE_NAME
from masqmail.spool.states import State
from support.inprocess import House, Tenant
from support.mail import identity, message
from support.ports import free_port
from support.scripted_server import ScriptedServer, listening

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


class Provider:
    """The other end: what it took, and what it refuses."""

    def __init__(self) -> None:
        self.refusal: str | None = None
        self.servers: list[ScriptedServer] = []
        self.next_hop: object = None

    def make(self) -> ScriptedServer:
        server = ScriptedServer(policy=lambda step, subject: self.refusal if step == "RCPT" else None)
        self.servers.append(server)
        return server

    @property
    def taken(self) -> list[tuple[str, str]]:
        """Identity and recipient of everything it took."""
        messages = [taken for server in self.servers for taken in server.taken]
        return sorted((identity(taken.content), who) for taken in messages for who in taken.recipients)


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    found = Provider()
    async with listening(found.make) as listener:
        found.next_hop = listener.address
        yield found


async def link_up(tenant: Tenant) -> None:
    await tenant.daemon.manual_links.declare("line", LinkState.UP)


async def test_after_thirty_days_offline_with_restarts_all_is_delivered_and_nobody_was_bothered(
    tmp_path: Path,
) -> None:
    async with provider() as isp:
        house = House(tmp_path, isp.next_hop)
        sent = []
        for number in range(10):
            async with house.daemon() as tenant:
                for recipient in ("ann@example.net", "bob@example.com"):
                    sent.append((f"m{number}", recipient))
                await tenant.submit(["ann@example.net", "bob@example.com"], message(f"m{number}"))
                await tenant.advance(3 * DAY, 3 * HOUR)
                waiting = await tenant.recipients()
                assert {item.state for item in waiting.values()} == {State.QUEUED}
                assert all(item.age == timedelta(0) and item.attempts == 0 for item in waiting.values())
        assert isp.servers == []
        async with house.daemon() as tenant:
            await link_up(tenant)
            await tenant.until(lambda queue: not queue)
        assert isp.taken == sorted(sent)
        assert house.mailbox() == []


async def test_a_provider_that_cannot_be_reached_for_a_week_costs_no_message_anything(tmp_path: Path) -> None:
    """The postmaster hears of it, once; the senders do not."""
    house = House(tmp_path, f"127.0.0.1:{free_port()}")
    async with house.daemon() as tenant:
        await link_up(tenant)
        await tenant.submit(["ann@example.net"], message("m1"))
        await tenant.until(lambda queue: "refused" in queue["ann@example.net"].reason)
        scheduler = tenant.daemon.scheduler
        for _ in range(7 * 24):
            await tenant.advance(HOUR, HOUR)
            await tenant.until(lambda queue: "provider" in scheduler.paused_routes())
            await scheduler.wait_until_idle()  # else the next hour would count for a try that is still under way
        await tenant.until(lambda queue: set(queue) == {"ann@example.net"})  # the notice is delivered
        (recipient,) = (await tenant.recipients()).values()
        assert (recipient.state, recipient.attempts) == (State.QUEUED, 0)
        assert recipient.age < MINUTE
        reasons = await tenant.reasons()
        assert "paused: cannot connect to 127.0.0.1:" in reasons["ann@example.net"]
    (notice,) = house.mailbox()
    assert b"\nSubject: Route provider does not work\n" in notice


async def test_a_recipient_refused_for_five_days_is_warned_of_twice_and_given_up_once(tmp_path: Path) -> None:
    async with provider() as isp:
        isp.refusal = "450 4.2.1 mailbox busy"
        house = House(tmp_path, isp.next_hop)
        happened: list[tuple[int, timedelta]] = []
        async with house.daemon() as tenant:
            await link_up(tenant)
            await tenant.submit(["ann@example.net"], message("m1"))
            accepted_at = house.clock.now()
            attempts = 1
            while queue := await tenant.until(_attempted(attempts)):
                await tenant.until(lambda queue: set(queue) <= {"ann@example.net"})
                if len(house.mailbox()) != len(happened):
                    happened.append((len(house.mailbox()), house.clock.now() - accepted_at))
                due = queue["ann@example.net"].due
                assert due is not None
                attempts += 1
                await tenant.advance(due - house.clock.now() - MINUTE, HOUR)
                await tenant.advance(due - house.clock.now(), MINUTE)
            assert house.clock.now() - accepted_at < 5 * DAY + 2 * HOUR
        (first, at_first), (second, at_second) = happened
        assert (first, second) == (1, 2)
        assert 4 * HOUR <= at_first < 5 * HOUR + MINUTE
        assert DAY <= at_second < DAY + HOUR + MINUTE
        warnings, last = house.mailbox()[:2], house.mailbox()[2]
        assert [b"Action: delayed" in one and b"Will-Retry-Until: " in one for one in warnings] == [True, True]
        assert b"Action: failed" in last and b"Status: 5.4.7" in last and b"450 4.2.1 mailbox busy" in last
        assert len(house.mailbox()) == 3


def _attempted(attempts: int) -> Callable[[dict[str, StoredRecipient]], bool]:
    """Whether so many attempts were made, or the message has left the queue."""

    def condition(queue: dict[str, StoredRecipient]) -> bool:
        remote = queue.get("ann@example.net")
        return not queue or (remote is not None and remote.state is State.DEFERRED and remote.attempts >= attempts)

    return condition


async def test_a_stop_in_the_middle_of_a_transfer_leaves_nothing_leased(tmp_path: Path) -> None:
    """The server is silent after EHLO. What the daemon had leased it gives back itself, before any recovery."""

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 slow.example\r\n")
        with suppress(ConnectionResetError):  # the daemon may stop before it has read the greeting
            await reader.readline()
            writer.write(b"250-slow.example\r\n250 PIPELINING\r\n")
            await reader.read()
        writer.close()

    server = await asyncio.start_server(be_silent, "127.0.0.1", 0)
    async with server:
        house = House(tmp_path, f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with house.daemon() as tenant:
            for number in range(30):
                await tenant.submit([f"r{number}@example.net"], message(f"m{number}"))
            await link_up(tenant)
            await tenant.until(lambda queue: {item.state for item in queue.values()} == {State.LEASED})
    with closing(sqlite3.connect(tmp_path / "spool" / FILE_NAME)) as connection:
        assert connection.execute("SELECT state, COUNT(*) FROM recipient GROUP BY state").fetchall() == [
            ("queued", 30)
        ]
        assert connection.execute("SELECT COUNT(*) FROM lease").fetchall() == [(0,)]
