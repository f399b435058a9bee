"""The daemon ends: what was begun is finished, so that nothing comes twice, and nothing more is begun."""

from typing import Any

import anyio
import pytest

from masqmail.daemon.locallane import MAILBOX_PLACES
from masqmail.delivery.job import LocalJob
from masqmail.delivery.smtp import SessionEnd
from masqmail.mail.outcome import Outcome
from masqmail.routing.route import Route, Way
from masqmail.spool.api import TargetKind
from masqmail.spool.states import State
from support.assembly import Assembly, rules, smarthost

pytestmark = pytest.mark.anyio


class Finishing:
    """A scheduler that was told to finish, and whether it has."""

    def __init__(self, daemon: Assembly) -> None:
        self._daemon = daemon
        self.is_over = False

    async def run(self) -> None:
        await self._daemon.scheduler.finish()
        self.is_over = True

    async def over_with(self, gate: anyio.Event) -> None:
        """It is, and not before the gate opens."""
        await self._daemon.settle()
        assert not self.is_over
        gate.set()
        await self._daemon.settle()
        assert self.is_over


def hold_up_deliveries(daemon: Assembly) -> anyio.Event:
    """Whatever this host delivers to waits for the event."""
    gate = anyio.Event()

    async def answer(job: LocalJob) -> Outcome | None:
        await gate.wait()
        return None

    daemon.agent.answer = answer
    return gate


async def test_a_delivery_that_was_begun_is_waited_for_and_no_other_begins() -> None:
    daemon = Assembly(rules())
    gate = hold_up_deliveries(daemon)
    finishing = Finishing(daemon)
    async with daemon.running(), anyio.create_task_group() as tasks:
        for number in range(MAILBOX_PLACES + 2):
            await daemon.accept(f"m{number}", daemon.local("ann"))
        tasks.start_soon(finishing.run)
        await daemon.settle()
        await daemon.accept("late", daemon.local("ann"))
        await finishing.over_with(gate)
    assert len(daemon.agent.jobs) == MAILBOX_PLACES
    assert [(item.state, item.reason) for item in daemon.recipients()] == [(State.QUEUED, "")] * 3


async def test_a_program_of_a_pipe_route_that_runs_is_waited_for_and_no_other_starts() -> None:
    daemon = Assembly(rules(Route("fax", ("dsl",), Way.PIPE)))
    gate = hold_up_deliveries(daemon)
    finishing = Finishing(daemon)
    async with daemon.running(), anyio.create_task_group() as tasks:
        await daemon.accept("m1", "joe@far.example")
        await daemon.accept("m2", "joe@far.example")
        tasks.start_soon(finishing.run)
        await finishing.over_with(gate)
    assert [job.kind for job in daemon.agent.jobs] == [TargetKind.REMOTE]
    assert daemon.states() == [State.QUEUED]


async def test_the_answer_for_what_a_server_may_have_taken_is_waited_for_and_it_gets_no_more() -> None:
    daemon = Assembly(rules(smarthost("isp")))
    daemon.peers.gate = anyio.Event()
    finishing = Finishing(daemon)
    async with daemon.running(), anyio.create_task_group() as tasks:
        for number in range(10):
            await daemon.accept(f"m{number}", "joe@far.example", tell=False)
        daemon.scheduler.note_classes({daemon.remote("joe@far.example").route_class})
        await daemon.settle()
        tasks.start_soon(finishing.run)
        await finishing.over_with(daemon.peers.gate)
        await daemon.link("dsl", daemon.board.states["dsl"])  # what else would start a lane
    assert len(daemon.peers.taken) == 8, "the first lot, and not the second"
    assert len(daemon.peers.calls) == 1
    assert [(item.state, item.attempts) for item in daemon.recipients()] == [(State.QUEUED, 0)] * 2


async def test_a_server_that_has_taken_nothing_is_not_waited_for() -> None:
    daemon = Assembly(rules(smarthost("isp")))

    async def silent(*_: Any) -> SessionEnd:
        await anyio.sleep_forever()
        raise AssertionError

    daemon.lanes._send = silent
    async with daemon.running():
        await daemon.accept("m1", "joe@far.example")
        with anyio.fail_after(5):
            await daemon.scheduler.finish()
    assert daemon.states() == [State.QUEUED]


async def test_a_connection_that_came_too_late_is_held_against_nobody() -> None:
    daemon = Assembly(rules(smarthost("isp")))
    is_connected = anyio.Event()

    async def connects(hop: Any, options: Any, feed: Any, memory: Any) -> SessionEnd:
        await is_connected.wait()
        assert not await feed.take(max_transactions=8, max_bytes=1 << 20)
        assert not await feed.wait(60)
        return SessionEnd()

    daemon.lanes._send = connects
    async with daemon.running():
        await daemon.accept("m1", "joe@far.example")
        await daemon.scheduler.finish()
        is_connected.set()
        await daemon.settle()
        assert daemon.scheduler.paused_routes() == {}
        assert daemon.states() == [State.QUEUED]
    assert [item.attempts for item in daemon.recipients()] == [0]


async def test_a_connection_that_breaks_ends_the_wait() -> None:
    daemon = Assembly(rules(smarthost("isp")))
    is_broken = anyio.Event()

    async def breaks(hop: Any, options: Any, feed: Any, memory: Any) -> SessionEnd:
        await feed.begin(await feed.take(max_transactions=8, max_bytes=1 << 20))
        await is_broken.wait()
        raise RuntimeError("an error of ours")

    daemon.lanes._send = breaks
    finishing = Finishing(daemon)
    async with daemon.running(), anyio.create_task_group() as tasks:
        await daemon.accept("m1", "joe@far.example")
        tasks.start_soon(finishing.run)
        await finishing.over_with(is_broken)
