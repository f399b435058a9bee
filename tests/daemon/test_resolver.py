"""From the recipients of an envelope to what is stored."""

from pathlib import Path
from typing import Any

import pytest

from masqmail.daemon.subject import MAX_RETURNED_BYTES, MAX_RETURNED_ON_REQUEST_BYTES
from masqmail.mail.address import parse_mailbox
from masqmail.mail.envelope import Envelope, Notify, Recipient, Ret
from masqmail.routing.local import LocalDomains
from masqmail.routing.route import QUEUE_ONLY, Conditions
from masqmail.settings import Pattern
from masqmail.spool.api import Kind, NewMessage, TargetKind
from masqmail.spool.intake import HeaderFacts, Origin, Resolution
from masqmail.spool.memory import MemoryBody
from masqmail.spool.states import State
from support.assembly import Assembly, rules, smarthost

ALIASES = """\
both: ann, bob@far.example
friends: ann, joe
bad: ann, "no such@@thing"
nobody: gone
hook: "|/usr/bin/hook"
"""


@pytest.fixture
def aliases(tmp_path: Path) -> Path:
    path = tmp_path / "aliases"
    path.write_text(ALIASES)
    return path


def resolve(
    aliases: Path, *recipients: Recipient | str, sender: str = "ann@home.example", **more: Any
) -> tuple[Resolution, Assembly]:
    changes, ret, size_bytes = more.pop("rules", {}), more.pop("ret", None), more.pop("size_bytes", 1000)
    daemon = Assembly(rules(smarthost(), **changes), aliases=[aliases])
    found = [Recipient(parse_mailbox(item)) if isinstance(item, str) else item for item in recipients]
    envelope = Envelope(parse_mailbox(sender) if sender else None, tuple(found), ret=ret)
    header = b"From: ann@home.example\r\nSubject: hello\r\n"
    facts = HeaderFacts("m1", header, size_bytes, daemon.clock.now(), Origin("ann", "local"), **more)
    return daemon.resolver.resolve(envelope, facts), daemon


class UnreadBody(MemoryBody):
    """A body that costs nothing, since nobody reads it."""

    def read(self) -> bytes:
        raise AssertionError("somebody reads the body")


def shown(resolution: Resolution) -> list[tuple[str, str]]:
    return [(item.kind.value, item.target) for item in resolution.recipients]


def text(report: NewMessage) -> str:
    assert isinstance(report.body, bytes)
    return (report.header + b"\r\n" + report.body).decode()


def test_every_target_is_stored_once_whatever_leads_to_it(aliases: Path) -> None:
    resolution, _ = resolve(aliases, "both@home.example", "friends@home.example", "bob@FAR.example", "ann@localhost")
    assert shown(resolution) == [("mailbox", "ann"), ("remote", "bob@far.example"), ("mailbox", "joe")]
    assert resolution.reports == []


def test_whatever_one_of_two_recipients_asked_to_be_told_is_told(aliases: Path) -> None:
    never, default = (
        Recipient(parse_mailbox("ann@localhost"), Notify.NEVER),
        Recipient(parse_mailbox("ann@home.example")),
    )
    for pair in ((never, default), (default, never)):
        resolution, _ = resolve(aliases, *pair)
        assert [item.notify for item in resolution.recipients] == [Notify.FAILURE | Notify.DELAY]


def test_a_bad_entry_is_reported_in_the_same_transaction_and_the_good_one_is_delivered(aliases: Path) -> None:
    resolution, _ = resolve(aliases, "bad@home.example")
    assert [item.state for item in resolution.recipients] == [State.QUEUED, State.FAILED]
    (report,) = resolution.reports
    assert "Action: failed" in text(report)
    assert report.kind is Kind.REPORT


def test_bad_recipients_of_the_header_get_one_report_together(aliases: Path) -> None:
    resolution, _ = resolve(aliases, "ann@home.example", bad_recipients=("no address", "@@", "@@"))
    assert [item.state for item in resolution.recipients] == [State.QUEUED, State.FAILED, State.FAILED]
    (report,) = resolution.reports
    assert text(report).count("Final-Recipient") == 2


@pytest.mark.parametrize(
    ("ret", "size_bytes"),
    [(None, MAX_RETURNED_BYTES), (Ret.FULL, MAX_RETURNED_BYTES + 1), (Ret.FULL, MAX_RETURNED_ON_REQUEST_BYTES)],
)
@pytest.mark.parametrize("sender", ["ann@home.example", ""])
def test_a_failure_at_acceptance_returns_the_message_whole(
    aliases: Path, sender: str, ret: Ret | None, size_bytes: int
) -> None:
    body = MemoryBody()
    body.write(b"the only copy\r\n")
    whole = "message/rfc822\r\n\r\nFrom: ann@home.example\r\nSubject: hello\r\n\r\nthe only copy\r\n"
    more = {"sender": sender, "ret": ret, "size_bytes": size_bytes, "body": body}
    for recipient, bad_recipients in (("gone@home.example", ()), ("bad@home.example", ()), ("ann", ("@@",))):
        resolution, _ = resolve(aliases, recipient, bad_recipients=bad_recipients, **more)
        (report,) = resolution.reports
        assert whole in text(report)


@pytest.mark.parametrize(
    ("ret", "size_bytes"),
    [(Ret.HDRS, 1000), (None, MAX_RETURNED_BYTES + 1), (Ret.FULL, MAX_RETURNED_ON_REQUEST_BYTES + 1)],
)
def test_a_body_that_no_report_returns_is_not_read(aliases: Path, ret: Ret | None, size_bytes: int) -> None:
    resolution, _ = resolve(aliases, "gone@home.example", ret=ret, size_bytes=size_bytes, body=UnreadBody())
    (report,) = resolution.reports
    assert "Content-Type: text/rfc822-headers\r\n" in text(report)
    success = Recipient(parse_mailbox("friends@home.example"), Notify.SUCCESS)
    unreported = Recipient(parse_mailbox("gone@home.example"), Notify.NEVER)
    for recipient in (success, unreported, "ann@localhost"):
        resolve(aliases, recipient, ret=Ret.FULL, body=UnreadBody())
    resolve(aliases, "gone@home.example", ret=Ret.FULL, body=UnreadBody(), kind=Kind.FETCHED)


@pytest.mark.parametrize("sender", ["", "stranger@home.example"])
def test_where_nobody_can_be_told_the_postmaster_is(aliases: Path, sender: str) -> None:
    resolution, _ = resolve(aliases, "nobody@home.example", sender=sender)
    (report,) = resolution.reports
    assert report.kind is Kind.NOTICE
    assert [item.target for item in report.recipients] == ["root"]


def test_an_expanded_alias_reports_success_at_once_and_its_targets_not_again(aliases: Path) -> None:
    asked = Notify.SUCCESS | Notify.FAILURE
    resolution, _ = resolve(aliases, Recipient(parse_mailbox("friends@home.example"), asked))
    assert [item.notify for item in resolution.recipients] == [Notify.FAILURE] * 2
    (report,) = resolution.reports
    assert "Action: expanded" in text(report)


def test_an_alias_that_leads_to_nobody_was_not_expanded(aliases: Path) -> None:
    asked = Notify.SUCCESS | Notify.FAILURE
    resolution, _ = resolve(aliases, Recipient(parse_mailbox("nobody@home.example"), asked))
    (report,) = resolution.reports
    assert "Action: failed" in text(report)
    assert "Action: expanded" not in text(report)


def test_a_recipient_who_wants_no_failures_gets_none(aliases: Path) -> None:
    resolution, _ = resolve(aliases, Recipient(parse_mailbox("gone@home.example"), Notify.NEVER))
    assert [item.state for item in resolution.recipients] == [State.FAILED]
    assert resolution.reports == []


def test_the_archive_gets_a_copy_that_makes_no_reports(aliases: Path) -> None:
    archive = {"archive_to": parse_mailbox("keep@far.example")}
    resolution, _ = resolve(aliases, "joe@home.example", rules=archive)
    copy = resolution.recipients[1]
    assert (copy.target, copy.reported, copy.notify) == ("keep@far.example", False, Notify.NEVER)
    for kind in (Kind.REPORT, Kind.NOTICE):
        resolution, _ = resolve(aliases, "joe@home.example", rules=archive, kind=kind)
        assert len(resolution.recipients) == 1


def test_a_local_archive_is_a_mailbox_like_others(aliases: Path) -> None:
    archive = {"archive_to": parse_mailbox("both@home.example"), "forwards": True}
    resolution, _ = resolve(aliases, "joe@home.example", rules=archive)
    assert shown(resolution) == [("user", "joe"), ("user", "ann"), ("remote", "bob@far.example")]
    assert [item.reported for item in resolution.recipients] == [True, False, False]


def test_a_user_is_stored_as_one_while_a_forward_file_may_be_asked(aliases: Path) -> None:
    aliases.write_text("two: ann, \\ann\nbox: \\ann\n")
    resolution, _ = resolve(aliases, "two@home.example", "joe", rules={"forwards": True})
    assert shown(resolution) == [("user", "ann"), ("user", "joe")]
    resolution, _ = resolve(aliases, "box@home.example", rules={"forwards": True})
    assert shown(resolution) == [("mailbox", "ann")]


def test_globs_are_looked_up_in_their_files(aliases: Path) -> None:
    globs = aliases.with_name("globs")
    globs.write_text("shop-*@home.example: friends, shop@far.example\n")
    daemon = Assembly(rules(smarthost()), aliases=[aliases])
    daemon.directory.alias_files.glob_paths = (globs,)
    envelope = Envelope(None, (Recipient(parse_mailbox("Shop-7@home.example")),))
    facts = HeaderFacts("m1", b"Subject: hello\r\n", 1000, daemon.clock.now(), Origin("ann", "local"))
    resolution = daemon.resolver.resolve(envelope, facts)
    assert shown(resolution) == [("mailbox", "ann"), ("mailbox", "joe"), ("remote", "shop@far.example")]
    assert {item.original for item in resolution.recipients} == {"Shop-7@home.example"}


def test_an_archive_that_is_a_recipient_already_stays_one(aliases: Path) -> None:
    resolution, _ = resolve(aliases, "joe@home.example", rules={"archive_to": parse_mailbox("joe@home.example")})
    assert [item.reported for item in resolution.recipients] == [True]


@pytest.mark.parametrize(
    ("changes", "more", "remote", "local"),
    [
        ({}, {}, "", ""),
        ({}, {"queue_only": True}, QUEUE_ONLY, QUEUE_ONLY),
        ({"sends_at_once": False}, {}, QUEUE_ONLY, ""),
    ],
)
def test_odq_keeps_all_of_a_message_and_on_flush_what_is_remote(
    aliases: Path, changes: dict[str, Any], more: dict[str, Any], remote: str, local: str
) -> None:
    resolution, _ = resolve(aliases, "both@home.example", rules=changes, **more)
    assert {item.kind: item.route_class.mark for item in resolution.recipients} == {
        TargetKind.MAILBOX: local,
        TargetKind.REMOTE: remote,
    }


def test_the_scheduler_hears_of_the_classes_of_reports_too(aliases: Path) -> None:
    resolution, daemon = resolve(aliases, "nobody@home.example", sender="bob@far.example")
    (report,) = resolution.reports
    assert {item.route_class for item in report.recipients} <= daemon.scheduler._classes


def test_a_pipe_knows_its_entry(aliases: Path) -> None:
    resolution, _ = resolve(aliases, "hook@home.example")
    (pipe,) = resolution.recipients
    assert (pipe.kind, pipe.target, pipe.source) == (TargetKind.PIPE, "|/usr/bin/hook", f"{aliases}:hook")


# what is remembered from one message to the next


def again(
    daemon: Assembly, recipient: str, header: bytes = b"", size: int = 1000
) -> list[tuple[str, tuple[str, ...]]]:
    """Where a message for this recipient goes now: targets with their routes."""
    envelope = Envelope(parse_mailbox("ann@home.example"), (Recipient(parse_mailbox(recipient)),))
    facts = HeaderFacts("m1", header, size, daemon.clock.now(), Origin("ann", "local"))
    return [(item.target, item.route_class.routes) for item in daemon.resolver.resolve(envelope, facts).recipients]


def test_a_new_configuration_counts_for_the_next_message() -> None:
    daemon = Assembly(rules(smarthost()))
    assert again(daemon, "bob@far.example") == [("bob@far.example", ("isp",))]
    daemon.directory.rules = rules(smarthost("new"), generation="2", local=LocalDomains("gw", ("home.example",)))
    assert again(daemon, "bob@far.example") == [("bob@far.example", ("new",))]
    daemon.directory.rules = rules(smarthost(), generation="3", local=LocalDomains("gw", ("far.example",)))
    assert again(daemon, "ann@far.example") == [("ann", ("local",))]


def test_an_edited_alias_counts_for_the_next_message(aliases: Path) -> None:
    daemon = Assembly(rules(smarthost()), aliases=[aliases])
    for entry, target in (("both: joe", "joe"), ("both: eve@far.example", "eve@far.example")):
        aliases.write_text(f"{entry}\n")
        assert [name for name, _ in again(daemon, "both@home.example")] == [target]


def test_a_new_account_counts_for_the_next_message() -> None:
    daemon = Assembly(rules(smarthost()))
    envelope = Envelope(parse_mailbox("joe@home.example"), (Recipient(parse_mailbox("zoe@home.example")),))
    facts = HeaderFacts("m1", b"", 1000, daemon.clock.now(), Origin("ann", "local"))
    for names, state in ((("joe",), State.FAILED), (("joe", "zoe"), State.QUEUED), (("joe",), State.FAILED)):
        daemon.accounts.names = names
        assert [item.state for item in daemon.resolver.resolve(envelope, facts).recipients] == [state]


def test_conditions_on_size_and_from_are_asked_for_every_message() -> None:
    small = smarthost("small", conditions=Conditions(max_size_bytes=1000))
    ours = smarthost("ours", conditions=Conditions(from_headers=(Pattern("ann"),)))
    daemon = Assembly(rules(small, ours))
    for header, size, expected in (
        (b"From: ann@home.example\r\n", 1000, ("small", "ours")),
        (b"From: joe@home.example\r\n", 1000, ("small",)),
        (b"From: ann@home.example\r\n", 1001, ("ours",)),
        (b"From: joe@home.example\r\n", 1001, ()),
    ):
        assert again(daemon, "bob@far.example", header, size) == [("bob@far.example", expected)]


def test_nobody_looks_into_the_alias_files_for_mail_that_goes_elsewhere(
    aliases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Assembly(rules(smarthost()), aliases=[aliases])
    monkeypatch.setattr(daemon.directory, "book", None)
    assert again(daemon, "bob@far.example") == [("bob@far.example", ("isp",))]
