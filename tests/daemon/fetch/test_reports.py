"""Fetched mail is never lost for a failure and never answered: it is kept, and the postmaster is told."""

from datetime import datetime, timedelta
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from masqmail.daemon.reportcap import MAX_TO_ONE
from masqmail.delivery.forward import Forward
from masqmail.delivery.job import LocalJob
from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.mail.envelope import Envelope, Recipient
from masqmail.mail.outcome import Culprit, Failed, Outcome
from masqmail.mail.wording import Language
from masqmail.routing.link import LinkState
from masqmail.spool.api import Kind, NewMessage, TargetKind
from masqmail.spool.intake import HeaderFacts, Origin, Resolution
from masqmail.spool.states import State
from support.assembly import DAY, GREYLISTED, HOUR, NO_SUCH_USER, Assembly, rules, says, smarthost

pytestmark = pytest.mark.anyio

STRANGER = Mailbox("eve", "stranger.example")
HEADER = b"From: Eve Stranger <eve@stranger.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
FROM_ISP = "pop.isp.example (account isp)"
FETCHED: dict[str, Any] = {
    "kind": Kind.FETCHED,
    "reverse_path": STRANGER,
    "header": HEADER,
    "received_from": FROM_ISP,
    "protocol": "POP3",
}


def daemon_of(**changes: Any) -> Assembly:
    return Assembly(rules(smarthost(), **changes))


def resolve(daemon: Assembly, *addresses: str) -> Resolution:
    envelope = Envelope(STRANGER, tuple(Recipient(parse_mailbox(address)) for address in addresses))
    facts = HeaderFacts("m1", HEADER, 1000, daemon.clock.now(), Origin(FROM_ISP, "POP3"), Kind.FETCHED)
    return daemon.resolver.resolve(envelope, facts)


def shown(resolution: Resolution) -> list[tuple[str, State, str]]:
    return [(item.target, item.state, item.original) for item in resolution.recipients]


def text(notice: NewMessage) -> str:
    assert isinstance(notice.body, bytes)
    letter = message_from_bytes(notice.header + b"\r\n" + notice.body, policy=default)
    content = letter.get_content()
    assert isinstance(content, str)
    return content


def states(daemon: Assembly, queue_id: str = "m1") -> list[State]:
    return daemon.states(queue_id)


# at acceptance


def test_mail_for_nobody_here_goes_to_the_postmaster_who_is_told() -> None:
    daemon = daemon_of()
    resolution = resolve(daemon, "gone@home.example")
    assert shown(resolution) == [
        ("gone@home.example", State.FAILED, "gone@home.example"),
        ("root", State.QUEUED, "gone@home.example"),
    ]
    (notice,) = resolution.reports
    assert (notice.kind, notice.reverse_path, [item.target for item in notice.recipients]) == (
        Kind.NOTICE,
        None,
        ["root"],
    )
    assert b"stranger.example" not in notice.header
    for words in (FROM_ISP, "gone@home.example", "Eve Stranger <eve@stranger.example>", "m1", "Reason: "):
        assert words in text(notice)


def test_why_a_message_is_for_somebody_else_is_a_line_of_its_own() -> None:
    why = "its Delivered-To names gone@home.example, ann@home.example, and eve@far.example, outside of them"
    daemon = daemon_of()
    envelope = Envelope(STRANGER, (Recipient(Mailbox("gone")),))
    origin = Origin(f"{FROM_ISP}: {why}", "POP3")
    facts = HeaderFacts("m1", HEADER, 1000, daemon.clock.now(), origin, Kind.FETCHED)
    (notice,) = daemon.resolver.resolve(envelope, facts).reports
    words = text(notice).splitlines()
    assert f"A message that was fetched from {FROM_ISP}" in words
    assert "  (its Delivered-To names gone@home.example, ann@home.example, and" in words
    assert "  eve@far.example, outside of them)" in words


def test_the_other_recipients_get_their_copies() -> None:
    resolution = resolve(daemon_of(), "ann@home.example", "gone@home.example", "lost@home.example")
    assert [(target, state) for target, state, _ in shown(resolution)] == [
        ("ann", State.QUEUED),
        ("gone@home.example", State.FAILED),
        ("lost@home.example", State.FAILED),
        ("root", State.QUEUED),
    ]
    (notice,) = resolution.reports
    assert "gone@home.example" in text(notice)
    assert "lost@home.example" in text(notice)


def test_a_postmaster_who_gets_the_message_anyway_gets_it_once() -> None:
    resolution = resolve(daemon_of(), "root@home.example", "gone@home.example")
    assert [target for target, _, _ in shown(resolution)] == ["root", "gone@home.example"]
    assert len(resolution.reports) == 1


def test_without_a_postmaster_the_message_is_held() -> None:
    daemon = daemon_of()
    daemon.accounts.names = ("ann",)
    resolution = resolve(daemon, "gone@home.example")
    ((target, state, _),) = shown(resolution)
    assert (target, state) == ("gone@home.example", State.HELD)
    assert "held because it was fetched" in resolution.recipients[0].reason


def test_an_entry_of_an_alias_that_does_not_work_brings_the_postmaster_a_copy(tmp_path: Path) -> None:
    aliases = tmp_path / "aliases"
    aliases.write_text('both: ann, "no such@@thing"\n')
    daemon = Assembly(rules(smarthost()), aliases=[aliases])
    resolution = resolve(daemon, "both@home.example")
    assert [(item.target, item.state) for item in resolution.recipients][::2] == [
        ("ann", State.QUEUED),
        ("root", State.QUEUED),
    ]
    (notice,) = resolution.reports
    assert "both@home.example" in text(notice)


def test_mail_that_finds_its_way_makes_no_notice_and_is_archived() -> None:
    daemon = daemon_of(archive_to=parse_mailbox("joe@home.example"))
    resolution = resolve(daemon, "ann@home.example", "bob@far.example")
    assert [item.target for item in resolution.recipients] == ["ann", "bob@far.example", "joe"]
    assert resolution.reports == []


# afterwards


async def test_a_permanent_refusal_holds_it_and_tells_the_postmaster() -> None:
    async with daemon_of().running() as daemon:
        daemon.peers.answer = says(NO_SUCH_USER)
        await daemon.accept("m1", "bob@far.example", **FETCHED)
        (recipient,) = daemon.recipients("m1")
        assert recipient.state is State.HELD
        assert "No such user" in recipient.reason
        assert "held because it was fetched" in recipient.reason
        assert recipient.last_status == NO_SUCH_USER
        ((who, notice),) = daemon.reports()
        assert who == "root"
        for words in (FROM_ISP, "bob@far.example", "Eve Stranger", "No such user", "masqmail queue release m1"):
            assert words in notice
        assert "To: eve" not in notice
        events = [entry.event for entry in await daemon.spool.history("m1")]
        assert events == ["received", "held"]


async def test_what_is_released_is_tried_again() -> None:
    async with daemon_of().running() as daemon:
        daemon.peers.answer = says(NO_SUCH_USER)
        await daemon.accept("m1", "bob@far.example", **FETCHED)
        daemon.peers.answer = lambda transaction, address: says(GREYLISTED)(transaction, address)
        await daemon.spool.release(["m1"])
        daemon.scheduler.note_classes({daemon.recipients("m1")[0].route_class})
        await daemon.settle()
        assert states(daemon) == [State.DEFERRED]


async def test_an_expired_lifetime_holds_it_after_warnings_to_the_postmaster() -> None:
    async with daemon_of().running() as daemon:
        daemon.peers.answer = says(GREYLISTED)
        await daemon.accept("m1", "bob@far.example", **FETCHED)
        await daemon.advance(5 * HOUR, HOUR / 2)
        assert states(daemon) == [State.DEFERRED]
        ((who, warning),) = daemon.reports()
        assert who == "root"
        assert "it is still being tried" in warning
        await daemon.advance(6 * DAY, HOUR)
        assert states(daemon) == [State.HELD]
        assert [who for who, _ in daemon.reports()] == ["root"] * 3  # two warnings, and the end
        assert "nothing is lost" in daemon.reports()[-1][1]


async def test_a_local_failure_holds_it() -> None:
    async with daemon_of().running() as daemon:

        async def answer(job: LocalJob) -> Outcome | None:
            failed = Failed(NO_SUCH_USER, Culprit.RECIPIENT, "the program says no")
            return failed if job.target == "ann" else None

        daemon.agent.answer = answer
        await daemon.accept("m1", daemon.local("ann"), daemon.local("joe"), **FETCHED)
        assert {item.target: item.state for item in daemon.recipients("m1")} == {
            "ann": State.HELD,
            "joe": State.DELIVERED,
        }
        ((who, _),) = daemon.reports()
        assert who == "root"


async def test_a_copy_for_the_archive_is_not_held() -> None:
    async with daemon_of().running() as daemon:
        daemon.peers.answer = says(NO_SUCH_USER)
        await daemon.accept("m1", daemon.remote("keep@far.example", reported=False), **FETCHED)
        assert states(daemon) == []
        assert daemon.reports() == []


async def test_our_own_address_in_its_header_makes_no_loop() -> None:
    async with daemon_of().running() as daemon:
        header = b"Delivered-To: joe@gw.home.example\r\n" + HEADER
        await daemon.accept("m1", daemon.local("joe"), **{**FETCHED, "header": header})
        assert [job.target for job in daemon.agent.jobs] == ["joe"]
        assert daemon.states() == []


async def test_a_forward_file_that_names_nobody_holds_it() -> None:
    async with daemon_of(forwards=True).running() as daemon:

        async def answer(job: LocalJob) -> Forward | None:
            is_anns = job.asks_forward and job.target == "ann"
            return Forward((("/home/ann/.forward", "gone, joe"),)) if is_anns else None

        daemon.agent.answer = answer
        await daemon.accept("m1", daemon.local("ann", TargetKind.USER), **FETCHED)
        assert {item.target: item.state for item in daemon.recipients("m1")} == {
            "gone": State.HELD,
            "joe": State.DELIVERED,
        }
        ((who, notice),) = daemon.reports()
        assert who == "root"
        assert "m1" in notice


async def test_a_bounce_by_hand_gives_the_whole_message_to_the_postmaster() -> None:
    async with daemon_of().running() as daemon:
        body = b"0123456789\r\n" * 20_000
        await daemon.accept("m1", "bob@far.example", tell=False, **{**FETCHED, "body": body})
        await daemon.spool.hold(["m1"], "held by root")
        queued = await daemon.spool.find("m1")
        assert queued is not None
        await daemon.desk.bounce(queued, "root")
        await daemon.settle()
        assert daemon.states() == []
        (who,) = [job.target for job in daemon.agent.jobs]
        assert who == "root"
        assert body in bytes(daemon.agent.contents[0].body)  # type: ignore[arg-type]


async def test_of_too_many_notices_the_rest_is_held_like_reports() -> None:
    async with daemon_of().running() as daemon:
        daemon.peers.answer = says(NO_SUCH_USER)
        for number in range(MAX_TO_ONE + 2):
            await daemon.accept(f"m{number}", "bob@far.example", **FETCHED)
        assert len(daemon.reports()) == MAX_TO_ONE
        messages = [await daemon.spool.find(queue_id) for queue_id in daemon.spool._queue]
        kept = [item for item in messages if item is not None and item.message.kind is Kind.NOTICE]
        assert [item.recipients[0].state for item in kept] == [State.HELD] * 2


async def test_being_offline_changes_nothing() -> None:
    async with Assembly(rules(smarthost()), down=("dsl",)).running() as daemon:
        await daemon.accept("m1", "bob@far.example", **FETCHED)
        await daemon.advance(30 * DAY, timedelta(days=1))
        assert states(daemon) == [State.QUEUED]
        await daemon.link("dsl", LinkState.UP)
        assert daemon.peers.taken == [("m1", "bob@far.example")]
        assert daemon.reports() == []


# the letters


@pytest.mark.parametrize("language", Language)
async def test_the_letters_are_there_in_every_language(language: Language) -> None:
    daemon = daemon_of()
    daemon.reporter.texts = type(daemon.reporter.texts)(language)
    (notice,) = resolve(daemon, "gone@home.example").reports
    words = text(notice)
    for there in ("gone@home.example", "Grüße", "m1", FROM_ISP):
        assert there in words
    assert "{" not in words


def test_a_header_without_anything_is_told_as_well() -> None:
    daemon = daemon_of()
    envelope = Envelope(None, (Recipient(Mailbox("gone")),))
    when = datetime.fromisoformat("2026-11-21T12:00:00+00:00")
    facts = HeaderFacts("m1", b"", 1000, when, Origin(FROM_ISP, "POP3"), Kind.FETCHED)
    (notice,) = daemon.resolver.resolve(envelope, facts).reports
    assert "From:    -\r\n" in text(notice)
