"""A user's .forward is asked once, when the message is delivered, and what it names is stored in the user's place."""

from pathlib import Path

import anyio
import pytest

from masqmail.daemon.rules import Rules
from masqmail.delivery.forward import Forward
from masqmail.delivery.job import LocalJob, LocalMethod, Mailstore
from masqmail.mail.envelope import Notify
from masqmail.mail.outcome import Delivered, Handover, Outcome
from masqmail.mail.status import OK
from masqmail.routing.link import LinkState
from masqmail.spool.api import TargetKind
from masqmail.spool.states import State
from support.assembly import Assembly, rules, smarthost

pytestmark = pytest.mark.anyio

USER = TargetKind.USER


def forwarding(the_rules: Rules | None = None, aliases: tuple[Path, ...] = (), **files: str) -> Assembly:
    """A host whose users have these .forward files; each is asked as often as `asked` says."""
    daemon = Assembly(the_rules or rules(smarthost(), forwards=True), down=("dsl",), aliases=aliases)

    async def answer(job: LocalJob) -> Outcome | Forward | None:
        text = files.get(job.target)
        if not job.asks_forward or text is None:
            return None
        return Forward(((f"/home/{job.target}/.forward", text),))

    daemon.agent.answer = answer
    return daemon


def delivered(daemon: Assembly) -> list[tuple[str, str, str]]:
    return [(job.kind.value, job.target, job.source) for job in daemon.agent.jobs]


async def test_without_a_forward_file_the_mailbox_gets_it() -> None:
    async with forwarding().running() as daemon:
        await daemon.accept("m1", daemon.local("ann", USER))
        assert delivered(daemon) == [("mailbox", "ann", "")]
        assert daemon.states() == []


async def test_what_it_names_takes_the_users_place() -> None:
    async with forwarding(ann='\\ann, ann@isp.example, "|/bin/x"').running() as daemon:
        await daemon.accept("m1", daemon.local("ann", USER))
        assert delivered(daemon) == [("mailbox", "ann", "~ann/.forward"), ("pipe", "|/bin/x", "~ann/.forward")]
        assert [job.variables.user for job in daemon.agent.jobs] == ["ann", "ann"]
        waiting = [item for item in daemon.recipients() if item.state is State.QUEUED]
        assert [(item.target, item.original) for item in waiting] == [("ann@isp.example", "ann@home.example")]
        history = await daemon.spool.history("m1")
        (line,) = [entry for entry in history if entry.event == "forwarded"]
        assert line.text == "~ann/.forward names ann, ann@isp.example, |/bin/x"
        await daemon.link("dsl", LinkState.UP)
        assert daemon.peers.taken == [("m1", "ann@isp.example")]
        assert daemon.states() == []


async def test_it_is_asked_once_and_the_children_survive_a_restart() -> None:
    daemon = forwarding(ann="ann@isp.example, joe")
    gate = anyio.Event()
    answer = daemon.agent.answer
    asked: list[str] = []

    async def count(job: LocalJob) -> object:
        assert answer is not None
        asked.append(job.target)
        if job.target == "joe":
            await gate.wait()
        return await answer(job)

    daemon.agent.answer = count
    async with daemon.running():
        await daemon.accept("m1", daemon.local("ann", USER))
        assert asked == ["ann", "joe"]
    daemon.agent.answer = answer
    async with daemon.running():
        assert asked == ["ann", "joe"]
        assert delivered(daemon) == [("mailbox", "joe", "~ann/.forward")]


async def test_users_who_send_on_to_each_other_keep_one_copy() -> None:
    async with forwarding(ann="joe", joe="ann").running() as daemon:
        await daemon.accept("m1", daemon.local("ann", USER), daemon.local("joe", USER))
        assert len(delivered(daemon)) >= 1
        assert len(delivered(daemon)) == len({target for _, target, _ in delivered(daemon)})
        assert daemon.states() == []
        daemon.agent.jobs.clear()
        await daemon.accept("m2", daemon.local("ann", USER))
        assert delivered(daemon) == [("mailbox", "ann", "~joe/.forward")]
        assert daemon.states() == []


async def test_one_copy_each_however_many_ways_lead_there() -> None:
    async with forwarding(ann="joe, x@isp.example", root="x@isp.example, joe").running() as daemon:
        await daemon.accept(
            "m1", daemon.local("joe", USER), daemon.local("ann", USER), daemon.local("root", USER), "x@isp.example"
        )
        assert [job.target for job in daemon.agent.jobs] == ["joe"]
        assert [item.target for item in daemon.recipients() if item.state is State.QUEUED] == ["x@isp.example"]


async def test_a_bad_target_is_reported_and_the_good_ones_get_their_copy() -> None:
    async with forwarding(joe="root, nobody").running() as daemon:
        await daemon.accept("m1", daemon.local("joe", USER))
        assert [job.target for job in daemon.agent.jobs] == ["root", "ann"]
        ((who, report),) = daemon.reports()
        assert who == "ann"
        assert "there is no user nobody here (~joe/.forward)" in report
        assert daemon.states() == []


async def test_a_wish_for_a_success_report_is_met_at_once() -> None:
    async with forwarding(joe="x@isp.example").running() as daemon:
        await daemon.accept("m1", daemon.local("joe", USER, notify=Notify.SUCCESS))
        ((_, report),) = daemon.reports()
        assert "Action: expanded" in report
        (child,) = [item for item in daemon.recipients() if item.target == "x@isp.example"]
        assert child.notify == Notify.NEVER


async def test_an_archive_copy_that_is_sent_on_makes_no_reports_either() -> None:
    async with forwarding(joe="x@isp.example, nobody").running() as daemon:
        await daemon.accept("m1", daemon.local("joe", USER, reported=False))
        assert daemon.reports() == []
        assert {item.reported for item in daemon.recipients()} == {False}


async def test_a_file_that_was_passed_over_shows_as_a_problem_until_it_is_well() -> None:
    trouble = "/home/ann/.forward was passed over: it is a symbolic link"
    outcome = Delivered(OK, handover=Handover.MAILBOX, reason=f"250 2.0.0 Fine; {trouble}")
    async with forwarding().running() as daemon:

        async def answer(job: LocalJob) -> Outcome:
            return outcome

        daemon.agent.answer = answer
        await daemon.accept("m1", daemon.local("ann", USER))
        assert daemon.directory.forward_problems() == [trouble]
        assert daemon.directory.book().forward_troubles == {"ann": trouble}
        outcome = Delivered(OK, handover=Handover.MAILBOX)
        await daemon.accept("m2", daemon.local("ann", USER))
        assert daemon.directory.forward_problems() == []


async def test_where_users_may_have_none_nobody_asks() -> None:
    async with forwarding(rules(), ann="x@isp.example").running() as daemon:
        await daemon.accept("m1", daemon.local("ann", USER))
        assert [(job.target, job.asks_forward) for job in daemon.agent.jobs] == [("ann", False)]


async def test_a_user_of_an_lmtp_server_may_have_one() -> None:
    stores = Mailstore(LocalMethod.LMTP, "/run/lmtp")
    daemon = forwarding(rules(forwards=True, mailbox_of=lambda user: stores), ann="\\ann, joe")
    async with daemon.running():
        await daemon.accept("m1", daemon.local("ann", USER))
        assert sorted(delivered(daemon)) == [
            ("mailbox", "ann", "~ann/.forward"),
            ("mailbox", "joe", "~ann/.forward"),
        ]


async def test_aliases_in_a_forward_file_are_expanded(tmp_path: Path) -> None:
    (tmp_path / "aliases").write_text("club: joe, |/bin/club\n")
    async with forwarding(aliases=(tmp_path / "aliases",), ann="club").running() as daemon:
        await daemon.accept("m1", daemon.local("ann", USER))
        assert sorted(delivered(daemon)) == [
            ("mailbox", "joe", "~ann/.forward"),
            ("pipe", "|/bin/club", f"{tmp_path}/aliases:club"),
        ]


async def test_somebody_who_holds_a_message_holds_what_it_becomes() -> None:
    daemon = forwarding(ann="x@isp.example")
    gate = anyio.Event()
    answer = daemon.agent.answer

    async def wait(job: LocalJob) -> object:
        assert answer is not None
        await gate.wait()
        return await answer(job)

    daemon.agent.answer = wait
    async with daemon.running():
        await daemon.accept("m1", daemon.local("ann", USER))
        await daemon.spool.hold(["m1"], "held by root")
        gate.set()
        await daemon.settle()
        (child,) = daemon.recipients()
        assert (child.target, child.state) == ("x@isp.example", State.HELD)
