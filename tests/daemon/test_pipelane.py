"""Pipe routes in the daemon: rewriting, one run for each recipient, links, retries, and the next route."""

import threading
from dataclasses import replace
from typing import Any

import anyio
import pytest

from masqmail.delivery.job import Content
from masqmail.delivery.piperoute import PipeProgram
from masqmail.delivery.variables import Variables
from masqmail.mail.address import Mailbox
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Outcome
from masqmail.mail.status import LOCAL_ERROR, OK, Status
from masqmail.routing.link import LinkState
from masqmail.routing.route import Conditions, Rewriting, Route, Way
from masqmail.settings import Pattern
from masqmail.spool.states import State
from support.assembly import MINUTE, Assembly, rules, smarthost

pytestmark = pytest.mark.anyio

BUSY = Status(450, "4.7.1", "the line is busy")


def fax(**changes: Any) -> Route:
    route = Route("fax", ("modem",), Way.PIPE, Conditions(recipients=(Pattern("*@fax"),)))
    return replace(route, **changes)


class Program:
    """Stands for `delivery.piperoute.deliver`."""

    def __init__(self) -> None:
        self.outcome: Outcome | Exception = Delivered(OK)
        self.runs: list[tuple[Content, Variables]] = []
        self.gate: threading.Event | None = None
        self.stops: list[threading.Event] = []
        self.most, self._now, self._lock = 0, 0, threading.Lock()

    def __call__(
        self, program: PipeProgram, content: Content, variables: Variables, *, stop: threading.Event, **rest: Any
    ) -> Outcome:
        self.stops.append(stop)
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        while self.gate and not self.gate.wait(0.01) and not stop.is_set():
            pass
        self.runs.append((content, variables))
        with self._lock:
            self._now -= 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    @property
    def recipients(self) -> list[str]:
        return sorted(variables.recipient for _, variables in self.runs)


def assembly(program: Program, *routes: Route, up: tuple[str, ...] = ("modem", "dsl"), **changes: Any) -> Assembly:
    programs = {route.name: PipeProgram(("sendfax",)) for route in routes if route.way is Way.PIPE}
    daemon = Assembly(
        rules(*routes, programs=programs, **changes), up=up, down=("modem",) if "modem" not in up else ()
    )
    daemon.lanes._pipes._run_program = program
    return daemon


async def begun(program: Program, runs: int = 1) -> None:
    """Until so many programs have been started."""
    with anyio.fail_after(5):
        while len(program.stops) < runs:
            await anyio.sleep(0.005)


async def rest(daemon: Assembly) -> None:
    """Until the threads have ended, too."""
    with anyio.fail_after(5):
        await daemon.scheduler.wait_until_idle()
    await daemon.settle()


async def test_each_recipient_is_a_run_of_its_own() -> None:
    program = Program()
    async with assembly(program, fax()).running() as daemon:
        await daemon.accept("m1", "1@fax", "2@fax")
        await rest(daemon)
        assert program.recipients == ["1@fax", "2@fax"]
        assert program.most == 1
        assert daemon.states() == []


async def test_return_path_and_header_are_rewritten_for_a_program_as_well() -> None:
    program = Program()
    rewriting = Rewriting(all=(("ann", "js@isp.example"),))
    async with assembly(program, fax(rewriting=rewriting)).running() as daemon:
        await daemon.accept("m1", "1@fax", header=b"From: Ann <ann@home.example>\r\n")
        await rest(daemon)
        ((content, variables),) = program.runs
        assert content.header == b"From: Ann <js@isp.example>\r\n"
        assert (variables.sender, variables.sender_local, variables.queue_id) == ("js@isp.example", "js", "m1")


async def test_several_programs_run_at_a_time_where_the_route_allows_it() -> None:
    program = Program()
    program.gate = threading.Event()
    async with assembly(program, fax(), connections={"fax": 2}).running() as daemon:
        await daemon.accept("m1", "1@fax", "2@fax", "3@fax")
        await begun(program, 2)
        program.gate.set()
        await rest(daemon)
        assert (program.most, program.recipients) == (2, ["1@fax", "2@fax", "3@fax"])


async def test_without_its_link_a_pipe_route_waits_and_spends_nothing() -> None:
    program = Program()
    async with assembly(program, fax(), up=()).running() as daemon:
        await daemon.accept("m1", "1@fax")
        await rest(daemon)
        assert ([item.attempts for item in daemon.recipients()], program.runs) == ([0], [])
        await daemon.link("modem", LinkState.UP)
        await rest(daemon)
        assert program.recipients == ["1@fax"]


async def test_a_program_is_not_stopped_when_the_link_goes_down() -> None:
    program = Program()
    program.gate = threading.Event()
    async with assembly(program, fax()).running() as daemon:
        await daemon.accept("m1", "1@fax")
        await begun(program)
        await daemon.link("modem", LinkState.DOWN)
        daemon.clock.advance(5 * MINUTE)
        daemon.scheduler.wake()
        await daemon.settle()
        assert not program.stops[0].is_set()
        program.gate.set()
        await rest(daemon)
        assert daemon.states() == []


async def test_exit_75_waits_as_the_retry_schedule_says() -> None:
    program = Program()
    program.outcome = Deferred(BUSY, Culprit.RECIPIENT, "the line is busy")
    async with assembly(program, fax()).running() as daemon:
        await daemon.accept("m1", "1@fax")
        await rest(daemon)
        (recipient,) = daemon.recipients()
        assert (recipient.state, recipient.attempts, recipient.reason) == (State.DEFERRED, 1, "the line is busy")
        assert recipient.due == daemon.clock.now() + MINUTE
        program.outcome = Delivered(OK)
        daemon.clock.advance(MINUTE)
        await daemon.settle()
        await rest(daemon)
        assert daemon.states() == []


async def test_after_a_temporary_failure_the_next_route_is_tried_unless_this_is_the_last() -> None:
    for is_last, taken in ((False, [("m1", "1@fax")]), (True, [])):
        program = Program()
        program.outcome = Deferred(BUSY, Culprit.RECIPIENT, "the line is busy")
        async with assembly(program, fax(last=is_last), smarthost()).running() as daemon:
            await daemon.accept("m1", "1@fax")
            await rest(daemon)
            assert daemon.peers.taken == taken


async def test_any_other_exit_code_bounces_with_the_reason() -> None:
    program = Program()
    program.outcome = Failed(Status(554, "5.3.0", "no such number"), Culprit.RECIPIENT, "no such number")
    async with assembly(program, fax()).running() as daemon:
        await daemon.accept("m1", "1@fax", "2@fax")
        await rest(daemon)
        assert [who for who, _ in daemon.reports()] == ["ann", "ann"]
        assert "no such number" in daemon.reports()[0][1]


async def test_an_error_of_ours_defers() -> None:
    program = Program()
    program.outcome = RuntimeError("a bug")
    async with assembly(program, fax()).running() as daemon:
        await daemon.accept("m1", "1@fax")
        await rest(daemon)
        (recipient,) = daemon.recipients()
        assert recipient.state is State.DEFERRED and "an error of ours" in recipient.reason


async def test_a_stop_ends_the_program_and_gives_its_recipient_back() -> None:
    program = Program()
    program.gate = threading.Event()
    async with assembly(program, fax()).running() as daemon:
        await daemon.accept("m1", "1@fax", reverse_path=Mailbox("ann", "home.example"))
        await begun(program)
    assert program.stops[0].is_set()
    assert daemon.states() == [State.QUEUED]


async def test_a_program_that_is_not_there_defers() -> None:
    program = PipeProgram(("/nonexistent/sendfax",), account="nobody")
    daemon = Assembly(rules(fax(), programs={"fax": program}), up=["modem"])
    async with daemon.running():
        await daemon.accept("m1", "1@fax")
        await rest(daemon)
        (recipient,) = daemon.recipients()
        assert recipient.last_status == LOCAL_ERROR.with_text(recipient.reason)
        assert recipient.reason == "cannot run /nonexistent/sendfax: No such file or directory"
