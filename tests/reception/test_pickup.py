"""Files in the pickup folder become messages once, or are put aside with a notice; nothing else is touched."""

import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from masqmail.cli.sendmail_pickup import TRAILER
from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Envelope
from masqmail.mail.status import RELAYING_DENIED, SENDER_OK, STORAGE_FULL, Status
from masqmail.mail.wording import Language
from masqmail.reception.pickup import INCOMPLETE_AFTER, RETRY_SECONDS, Pickup
from masqmail.spool.api import Kind, SpoolBroken
from masqmail.spool.intake import HeaderFacts, Intake, IntakeSettings, Origin, Refused, Resolution
from support.spooldouble import SpoolDouble, content_of, resolve_all

pytestmark = pytest.mark.anyio

CONTENT = b"MasqMail-Pickup: 1\nRecipient: <ann@example.org>\n\nSubject: x\r\n\r\nhello\r\n"
UID = os.getuid()


class Users:
    """Knows one user; only `bob@example.org` and the null sender may be set."""

    def origin(self, uid: int) -> Origin:
        return Origin(f"bob (uid {uid})", "local", user="bob", uid=uid, is_submission=True)

    def mailbox(self, uid: int) -> Mailbox:
        return Mailbox("bob", "gw")

    def check_sender(self, uid: int, reverse_path: Mailbox | None) -> Status:
        allowed = (None, Mailbox("bob", "example.org"))
        return SENDER_OK if reverse_path in allowed else RELAYING_DENIED


class Clock:
    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def now(self) -> datetime:
        return self.time


class Desk:
    """A pickup folder with all that belongs to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool = SpoolDouble()
        self.clock = Clock()
        self.resolve: Callable[[Envelope, HeaderFacts], Resolution] = resolve_all
        intake = Intake(self.spool, lambda *both: self.resolve(*both), self.clock, IntakeSettings("gw", 1 << 20))
        self.language = Language.ENGLISH
        self.pickup = Pickup(folder, intake, self.spool, Users(), self.clock, lambda: self.language)

    def leave(self, content: bytes = CONTENT, name: str = "one", trailer: bytes | None = None) -> Path:
        path = self.folder / name
        path.write_bytes(content + (TRAILER % len(content) if trailer is None else trailer))
        return path

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def bad(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "bad").iterdir())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_a_complete_file_becomes_a_message_of_its_owner(desk: Desk) -> None:
    desk.leave()
    assert await desk.pickup.take_all() == 0
    (message,) = desk.spool.messages
    assert message.reverse_path == Mailbox("bob", "gw")
    assert message.owner_uid == UID
    assert [recipient.target for recipient in message.recipients] == ["ann@example.org"]
    assert b"\r\nSubject: x\r\n" in message.header
    assert content_of(message).endswith(b"\r\n\r\nhello\r\n")
    assert desk.names() == []


async def test_bare_line_ends_never_reach_the_spool(desk: Desk) -> None:
    desk.leave(b"MasqMail-Pickup: 1\nRecipient: <a@b>\n\nA: b\n\nx\n.\ny\rz")
    await desk.pickup.take_all()
    assert content_of(desk.spool.messages[0]).endswith(b"\r\n\r\nx\r\n.\r\ny\r\nz\r\n")


async def test_a_message_has_the_time_at_which_it_was_left(desk: Desk) -> None:
    left_at = desk.clock.now().replace(microsecond=0) - timedelta(days=3)
    os.utime(desk.leave(), (left_at.timestamp(),) * 2)
    await desk.pickup.take_all()
    (message,) = desk.spool.messages
    header = message_from_bytes(message.header)
    assert parsedate_to_datetime(header["Date"]) == left_at
    assert parsedate_to_datetime(header["Received"].rpartition(";")[2]) == left_at
    assert message.received_at == desk.clock.now()  # what its lifetime is counted from


async def test_a_message_keeps_the_date_that_it_has(desk: Desk) -> None:
    date = b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    desk.leave(CONTENT.replace(b"Subject", date + b"Subject"))
    await desk.pickup.take_all()
    (message,) = desk.spool.messages
    assert message.header.count(b"Date:") == 1
    assert date in message.header


async def test_a_file_from_the_future_becomes_a_message_of_today(desk: Desk) -> None:
    ahead = desk.clock.now() + timedelta(days=3)
    os.utime(desk.leave(), (ahead.timestamp(),) * 2)
    await desk.pickup.take_all()
    (message,) = desk.spool.messages
    date = parsedate_to_datetime(message_from_bytes(message.header)["Date"])
    assert date == desk.clock.now().replace(microsecond=0)


async def test_a_file_from_before_all_computers_is_taken(desk: Desk) -> None:
    os.utime(desk.leave(), (-(1 << 33),) * 2)
    await desk.pickup.take_all()
    (message,) = desk.spool.messages
    assert parsedate_to_datetime(message_from_bytes(message.header)["Date"]).year in (1969, 1970)


async def test_a_file_that_can_neither_be_taken_nor_moved_leaves_its_name_to_others(desk: Desk) -> None:
    (desk.folder / "bad").touch()
    desk.leave(b"no message", "one")
    for _ in range(2):
        assert await desk.pickup.take_all() == 0
    assert desk.names() == ["bad", "one"]
    (desk.folder / "one").unlink()
    await desk.pickup.take_all()
    desk.leave(name="one")
    await desk.pickup.take_all()
    assert len(desk.spool.messages) == 1
    assert desk.names() == ["bad"]


async def test_an_allowed_sender_is_used(desk: Desk) -> None:
    desk.leave(CONTENT.replace(b"\n", b"\nSender: <bob@example.org>\n", 1), "one")
    desk.leave(CONTENT.replace(b"\n", b"\nSender: <>\n", 1), "two")
    await desk.pickup.take_all()
    assert {message.reverse_path for message in desk.spool.messages} == {Mailbox("bob", "example.org"), None}


async def test_a_sender_that_is_not_allowed_is_a_notice_to_the_owner(desk: Desk) -> None:
    desk.leave(CONTENT.replace(b"\n", b"\nSender: <eve@example.org>\n", 1))
    assert await desk.pickup.take_all() == 0
    (report,) = desk.spool.messages
    assert (report.kind, report.reverse_path) == (Kind.REPORT, None)
    assert [recipient.target for recipient in report.recipients] == ["bob@gw"]
    assert str(RELAYING_DENIED).encode() in content_of(report)
    assert desk.bad() == ["one"]


async def test_the_notice_is_in_the_language_of_the_host(desk: Desk) -> None:
    desk.language = Language.GERMAN
    desk.leave(CONTENT.replace(b"\n", b"\nSender: <eve@example.org>\n", 1))
    await desk.pickup.take_all()
    (report,) = desk.spool.messages
    assert b"Subject: Ihre Nachricht konnte nicht gesendet werden\r\n" in report.header
    assert b"Content-Language: de\r\n" in report.header
    assert str(desk.folder / "bad" / "one").encode() in content_of(report).replace(b"=\r\n", b"")


async def test_a_crash_between_commit_and_removal_makes_no_second_copy(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = desk.leave()

    def crash(self: Path, missing_ok: bool = False) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", crash)
        assert await desk.pickup.take_all() == 1
    assert path.exists()
    assert await desk.pickup.take_all() == 0
    assert len(desk.spool.messages) == 1
    assert desk.names() == []


async def test_a_message_that_has_left_the_queue_is_not_taken_again(desk: Desk) -> None:
    desk.leave()
    copy = Desk(desk.folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        await desk.pickup.take_all()
    copy.spool.forgotten.add(desk.spool.messages[0].queue_id)
    await copy.pickup.take_all()
    assert copy.spool.messages == []
    assert desk.names() == []


async def test_a_file_without_its_end_is_left_alone_until_it_is_old(desk: Desk) -> None:
    desk.leave(trailer=b"")
    assert await desk.pickup.take_all() == 1
    assert desk.names() == ["one"]
    desk.clock.time += INCOMPLETE_AFTER + timedelta(seconds=5)
    assert await desk.pickup.take_all() == 0
    assert desk.bad() == ["one"]
    assert b"it is incomplete" in content_of(desk.spool.messages[0])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"MasqMail-Pickup: 1\n\nno recipients",
        b"MasqMail-Pickup: 1\nRecipient: <a@b>\n",
        CONTENT.replace(b"hello", b"hel\0lo"),
    ],
)
async def test_a_bad_file_is_put_aside_and_its_owner_told(desk: Desk, content: bytes) -> None:
    desk.leave(content)
    assert await desk.pickup.take_all() == 0
    assert desk.bad() == ["one"]
    assert len(desk.spool.messages) == 1
    assert str(desk.folder / "bad" / "one").encode() in content_of(desk.spool.messages[0])


async def test_a_file_that_cannot_be_opened_now_is_left_for_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many(*arguments: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    desk.leave()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", too_many)
        assert await desk.pickup.take_all() == 1
    assert desk.names() == ["one"]
    assert await desk.pickup.take_all() == 0
    assert len(desk.spool.messages) == 1


async def test_links_and_pipes_and_folders_are_put_aside_unread(desk: Desk, tmp_path: Path) -> None:
    secret = tmp_path / "bad" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(CONTENT + TRAILER % len(CONTENT))
    (desk.folder / "symlink").symlink_to(secret)
    os.link(secret, desk.folder / "hardlink")
    os.mkfifo(desk.folder / "fifo")
    (desk.folder / "folder").mkdir()
    assert await desk.pickup.take_all() == 0
    assert desk.spool.messages == []
    assert desk.bad() == ["fifo", "folder", "hardlink", "secret", "symlink"]


async def test_a_temporary_refusal_leaves_the_file_for_later(desk: Desk) -> None:
    def refuse(envelope: Envelope, facts: HeaderFacts) -> Resolution:
        raise Refused(STORAGE_FULL)

    desk.leave()
    desk.resolve = refuse
    assert await desk.pickup.take_all() == 1
    desk.resolve = resolve_all
    assert await desk.pickup.take_all() == 0
    assert len(desk.spool.messages) == 1


async def test_a_fault_of_ours_leaves_the_file_and_takes_the_others(desk: Desk) -> None:
    def fail(envelope: Envelope, facts: HeaderFacts) -> Resolution:
        if b"Subject: x" in facts.header:
            raise RuntimeError("our mistake")
        return resolve_all(envelope, facts)

    desk.leave()
    desk.leave(CONTENT.replace(b"Subject: x", b"Subject: y"), "two")
    desk.resolve = fail
    assert await desk.pickup.take_all() == 1
    assert desk.names() == ["one"]
    assert len(desk.spool.messages) == 1


async def test_a_broken_spool_ends_the_work(desk: Desk) -> None:
    desk.leave()
    desk.spool.failure = SpoolBroken("fsync")
    with pytest.raises(SpoolBroken):
        await desk.pickup.take_all()
    assert desk.names() == ["one"]


async def test_a_missing_folder_holds_nothing(desk: Desk) -> None:
    desk.folder.rmdir()
    assert await desk.pickup.take_all() == 0


async def test_a_folder_that_cannot_be_read_is_tried_again(desk: Desk) -> None:
    desk.folder.rmdir()
    desk.folder.write_bytes(b"no folder")
    assert await desk.pickup.take_all() == 1


async def test_it_looks_again_in_time_only_when_something_is_left(desk: Desk) -> None:
    waits: list[float | None] = []

    class Enough(Exception):
        pass

    async def wait(seconds: float | None) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            desk.leave(trailer=b"")
        else:
            raise Enough

    with pytest.raises(Enough):
        await desk.pickup.run(wait)
    assert waits == [None, RETRY_SECONDS]
