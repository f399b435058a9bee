"""Pipe routes in the daemon: rewriting, one run for each recipient, links, retries, and the next route."""

from dataclasses import replace
from typing import Any

import anyio
import pytest

from masqmail.daemon.pipelane import PLACES
from masqmail.delivery.job import Content, LocalJob
from masqmail.delivery.piperoute import PipeProgram
from masqmail.mail.address import Mailbox
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Outcome
from masqmail.mail.status import OK, Status
from masqmail.routing.link import LinkState
from masqmail.routing.route import Conditions, Rewriting, Route, Way
from masqmail.settings import Pattern
from masqmail.spool.api import TargetKind
from masqmail.spool.states import State
from support.assembly import MINUTE, Assembly, rules, smarthost

pytestmark = pytest.mark.anyio

BUSY = Status(450, "4.7.1", "the line is busy")


def fax(**changes: Any) -> Route:
    route = Route("fax", ("modem",), Way.PIPE, Conditions(recipients=(Pattern("*@fax"),)))
    return replace(route, **changes)


class Program:
    """Stands for the agent, which runs it; `stopped` counts the runs that were cancelled."""

    def __init__(self) -> None:
        self.outcome: Outcome | Exception = Delivered(OK)
        self.runs: list[tuple[LocalJob, Content]] = []
        self.gate: anyio.Event | None = None
        self.most = self.begun = self.stopped = self._now = 0

    async def deliver(self, job: LocalJob, content: Content) -> Outcome:
        self.begun += 1
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            if self.gate:
                await self.gate.wait()
        except anyio.get_cancelled_exc_class():
            self.stopped += 1
            raise
        finally:
            self._now -= 1
        self.runs.append((job, content))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    @property
    def recipients(self) -> list[str]:
        return sorted(job.variables.recipient for job, _ in self.runs)


def assembly(program: Program, *routes: Route, up: tuple[str, ...] = ("modem", "dsl"), **changes: Any) -> Assembly:
    programs = {route.name: PipeProgram(("sendfax",)) for route in routes if route.way is Way.PIPE}
    daemon = Assembly(
        rules(*routes, programs=programs, **changes), up=up, down=("modem",) if "modem" not in up else ()
    )
    daemon.lanes._pipes._agent = program
    return daemon


async def test_each_recipient_is_a_run_of_its_own() -> None:
    program = Program()
    async with assembly(program, fax()).running() as daemon:
        await daemon.accept("m1", "1@fax", "2@fax")
        await daemon.settle()
        assert program.recipients == ["1@fax", "2@fax"]
        assert program.most == 1
        assert daemon.states() == []


async def test_return_path_and_header_are_rewritten_for_a_program_as_well() -> None:
    program = Program()
    rewriting = Rewriting(all=(("ann", "js@isp.example"),))
    async with assembly(program, fax(rewriting=rewriting)).running() as daemon:
        await daemon.accept("m1", "1@fax", header=b"From: Ann <ann@home.example>\r\n")
        await daemon.settle()
        ((job, content),) = program.runs
        variables = job.variables
        assert (job.kind, job.target) == (TargetKind.REMOTE, "fax")
        assert content.header == b"From: Ann <js@isp.example>\r\n"
        assert (variables.sender, variables.sender_local, variables.queue_id) == ("js@isp.example", "js", "m1")


async def test_several_programs_run_at_a_time_where_the_route_allows_it() -> None:
    program = Program()
    program.gate = anyio.Event()
    async with assembly(program, fax(), connections={"fax": 2}).running() as daemon:
        await daemon.accept("m1", "1@fax", "2@fax", "3@fax")
        assert program.begun == 2
        program.gate.set()
        await daemon.settle()
        assert (program.most, program.recipients) == (2, ["1@fax", "2@fax", "3@fax"])


async def test_without_its_link_a_pipe_route_waits_and_spends_nothing() -> None:
    program = Program()
    async with assembly(program, fax(), up=()).running() as daemon:
        await daemon.accept("m1", "1@fax")
        await daemon.settle()
        assert ([item.attempts for item in daemon.recipients()], program.runs) == ([0], [])
        await daemon.link("modem", LinkState.UP)
        await daemon.settle()
        assert program.recipients == ["1@fax"]


async def test_a_program_is_not_stopped_when_the_link_goes_down() -> None:
    program = Program()
    program.gate = anyio.Event()
    async with assembly(program, fax()).running() as daemon:
        await daemon.accept("m1", "1@fax")
        assert program.begun == 1
        await daemon.link("modem", LinkState.DOWN)
        daemon.clock.advance(5 * MINUTE)
        daemon.scheduler.wake()
        await daemon.settle()
        assert program.stopped == 0
        program.gate.set()
        await daemon.settle()
        assert daemon.states() == []


async def test_exit_75_waits_as_the_retry_schedule_says() -> None:
    program = Program()
    program.outcome = Deferred(BUSY, Culprit.RECIPIENT, "the line is busy")
    async with assembly(program, fax()).running() as daemon:
        await daemon.accept("m1", "1@fax")
        await daemon.settle()
        (recipient,) = daemon.recipients()
        assert (recipient.state, recipient.attempts, recipient.reason) == (State.DEFERRED, 1, "the line is busy")
        assert recipient.due == daemon.clock.now() + MINUTE
        program.outcome = Delivered(OK)
        daemon.clock.advance(MINUTE)
        await daemon.settle()
        await daemon.settle()
        assert daemon.states() == []


async def test_after_a_temporary_failure_the_next_route_is_tried_unless_this_is_the_last() -> None:
    for is_last, taken in ((False, [("m1", "1@fax")]), (True, [])):
        program = Program()
        program.outcome = Deferred(BUSY, Culprit.RECIPIENT, "the line is busy")
        async with assembly(program, fax(last=is_last), smarthost()).running() as daemon:
            await daemon.accept("m1", "1@fax")
            await daemon.settle()
            assert daemon.peers.taken == taken


async def test_any_other_exit_code_bounces_with_the_reason() -> None:
    program = Program()
    program.outcome = Failed(Status(554, "5.3.0", "no such number"), Culprit.RECIPIENT, "no such number")
    async with assembly(program, fax()).running() as daemon:
        await daemon.accept("m1", "1@fax", "2@fax")
        await daemon.settle()
        assert [who for who, _ in daemon.reports()] == ["ann", "ann"]
        assert "no such number" in daemon.reports()[0][1]


async def test_an_error_of_ours_defers() -> None:
    program = Program()
    program.outcome = RuntimeError("a bug")
    async with assembly(program, fax()).running() as daemon:
        await daemon.accept("m1", "1@fax")
        await daemon.settle()
        (recipient,) = daemon.recipients()
        assert recipient.state is State.DEFERRED and "an error of ours" in recipient.reason


async def test_a_stop_ends_the_program_and_gives_its_recipient_back() -> None:
    program = Program()
    program.gate = anyio.Event()
    async with assembly(program, fax()).running() as daemon:
        await daemon.accept("m1", "1@fax", reverse_path=Mailbox("ann", "home.example"))
        assert program.begun == 1
    assert program.stopped == 1
    assert daemon.states() == [State.QUEUED]


async def test_programs_of_many_routes_leave_room_for_mailboxes() -> None:
    program = Program()
    program.gate = anyio.Event()
    routes = [
        fax(name=f"fax{number}", conditions=Conditions(recipients=(Pattern(f"*@fax{number}"),)))
        for number in range(12)
    ]
    async with assembly(program, *routes).running() as daemon:
        for number in range(12):
            await daemon.accept(f"m{number}", f"1@fax{number}")
        await daemon.settle()
        assert program.begun == PLACES
        program.gate.set()
        await daemon.settle()
        assert (program.begun, daemon.states()) == (12, [])
