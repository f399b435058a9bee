import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from masqmail.mail.outcome import Culprit
from masqmail.net import session
from masqmail.net.session import TlsMode
from masqmail.retrieval import imapfetch, imapsession, imaptaking
from masqmail.retrieval.account import FetchFailure
from masqmail.spool.api import FetchFate, SpoolFull, Uid
from support.fakeinbox import refused
from support.imapaccount import message, post
from support.imapserver import CAPABILITIES, Box, ImapServer, Mail

pytestmark = pytest.mark.anyio

Say = Callable[[str, str], str | None]


def saying(**replies: str) -> Say:
    """A policy that answers some commands, spaces in their names as underscores."""
    return lambda step, subject: replies.get(step.replace(" ", "_"))


def without(*capabilities: str) -> tuple[str, ...]:
    return tuple(name for name in CAPABILITIES if name not in capabilities)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another connection at once: the clock of these tests stands still."""
    monkeypatch.setattr(imaptaking, "COME_BACK_SECONDS", (0.0, 0.0, 0.0, 0.0))


# --- what is taken


async def test_what_is_new_is_taken_as_it_is_and_deleted_then() -> None:
    contents = [message(number, b"\x00\xff 8 bit\r\n.\r\n..\r\n" + b"x" * 5000) for number in range(20)]
    async with post(*contents) as here:
        inbox = await here.fetch()
        assert sorted(inbox.contents) == sorted(contents)
        assert not here.box.mails
        assert inbox.tally.taken == inbox.tally.expected == inbox.tally.deleted == 20
        assert inbox.taken[0][0] == Uid("INBOX", "7:1")


async def test_twenty_messages_cost_one_command() -> None:
    async with post(*map(message, range(20))) as here:
        await here.fetch()
        fetches = [line for line in here.commands if "BODY" in line]
        assert fetches == ["UID FETCH 1:20 (UID BODY.PEEK[]<0.131072>)"]


async def test_what_is_kept_is_not_touched_and_not_taken_a_second_time() -> None:
    async with post(message(1), message(2)) as here:
        await here.fetch(keep=True)
        here.box.add(message(3))
        inbox = await here.fetch(keep=True)
        assert inbox.contents == [message(1), message(2), message(3)]
        assert not any(mail.flags for mail in here.box.mails.values())
        assert 'EXAMINE "INBOX"' in here.commands
        assert not any("STORE" in line or "SELECT" in line for line in here.commands)


async def test_what_is_kept_for_some_time_is_deleted_after_it() -> None:
    async with post(message(1)) as here:
        inbox = await here.fetch(keep=timedelta(days=7))
        inbox.time += timedelta(days=6)
        await here.fetch(keep=timedelta(days=7))
        assert here.box.mails
        inbox.time += timedelta(days=1)
        await here.fetch(keep=timedelta(days=7))
        assert not here.box.mails
        assert len(inbox.taken) == 1


async def test_what_was_taken_and_not_deleted_is_deleted_the_next_time() -> None:
    async with post(message(1), message(2)) as here:
        here.inbox.remember("7:1", folder="INBOX")
        inbox = await here.fetch()
        assert inbox.contents == [message(2)]
        assert not here.box.mails


async def test_marks_of_messages_that_are_gone_are_dropped() -> None:
    async with post(message(1)) as here:
        for name in ("7:5", "6:1"):
            here.inbox.remember(name, folder="INBOX")
        here.inbox.remember("7:5", folder="Elsewhere")
        inbox = await here.fetch()
        assert sorted(inbox.forgotten) == [Uid("INBOX", "6:1"), Uid("INBOX", "7:5")]


async def test_most_marks_of_kept_mail_are_not_dropped_at_once() -> None:
    async with post(message(1)) as here:
        for number in range(2, 30):
            here.inbox.remember(f"7:{number}", folder="INBOX")
        inbox = await here.fetch(keep=True)
        assert not inbox.forgotten


async def test_with_new_names_for_all_messages_nothing_is_lost() -> None:
    async with post(message(1)) as here:
        await here.fetch(keep=True)
        here.box.uid_validity = 8
        inbox = await here.fetch(keep=True)
        assert [uid.uid for uid, _ in inbox.taken] == ["7:1", "8:1"]


async def test_messages_that_somebody_has_deleted_are_not_taken() -> None:
    async with post(message(1), message(2)) as here:
        here.box.mails[1].flags.add("\\Deleted")
        inbox = await here.fetch(keep=True)
        assert inbox.contents == [message(2)]


async def test_an_empty_folder_is_no_trouble() -> None:
    async with post() as here:
        inbox = await here.fetch()
        assert inbox.tally.expected == 0
        assert not any("SEARCH" in line for line in here.commands)


async def test_several_folders_are_fetched_and_one_that_is_missing_is_named() -> None:
    async with post(message(1)) as here:
        here.boxes["Work"] = Box(uid_validity=9)
        here.boxes["Work"].add(message(2))
        with pytest.raises(FetchFailure, match=r"the folder Nowhere cannot be used: \[NONEXISTENT\] No such folder"):
            await here.fetch(folders=("INBOX", "Nowhere", "Work"))
        assert [uid for uid, _ in here.inbox.taken] == [Uid("INBOX", "7:1"), Uid("Work", "9:1")]


async def test_the_name_of_a_folder_may_have_any_letters() -> None:
    async with post() as here:
        here.boxes["Gel&APY-scht &- weg"] = Box()
        await here.fetch(folders=("Gelöscht & weg",))


async def test_no_more_than_the_limit_is_taken_and_these_are_the_smallest() -> None:
    async with post(*(message(1, b"x" * size) for size in (900, 100, 500))) as here:
        inbox = await here.fetch(max_messages=2)
        assert [len(content) for content in inbox.contents] == [114, 514]
        await here.fetch(max_messages=2)
        assert len(inbox.contents) == 2  # the limit counts in one tally


async def test_what_is_too_big_is_left_with_its_header() -> None:
    async with post(message("big", b"x" * 5000), message("small")) as here:
        inbox = await here.fetch(max_size=1000)
        assert inbox.contents == [message("small")]
        assert inbox.notices == [(Uid("INBOX", "7:1"), 5016, b"Subject: big\r\n\r\n")]
        assert inbox.tally.left == 1
        assert list(here.box.mails) == [1]
        inbox.tally.left = 0
        await here.fetch(max_size=1000)
        assert len(inbox.notices) == 1
        assert inbox.tally.left == 1


async def test_what_was_left_is_taken_when_it_may_be() -> None:
    async with post(message("big", b"x" * 5000)) as here:
        await here.fetch(max_size=1000)
        inbox = await here.fetch(max_size=9000)
        assert len(inbox.taken) == 1


async def test_what_somebody_asks_for_is_taken_alone_and_whatever_its_size() -> None:
    async with post(message("big", b"x" * 5000), message("other")) as here:
        await here.fetch("7:1", max_size=1000)
        assert [uid.uid for uid, _ in here.inbox.taken] == ["7:1"]
        assert list(here.box.mails) == [2]


async def test_what_somebody_asks_for_and_is_not_there_is_said() -> None:
    async with post(message("other")) as here:
        with pytest.raises(FetchFailure, match="there is no message 7:9"):
            await here.fetch("7:9")
        assert not here.inbox.taken


async def test_what_is_asked_for_a_second_time_comes_once() -> None:
    async with post(message(1)) as here:
        await here.fetch("7:1", keep=True)
        await here.fetch("7:1", keep=True)
        assert len(here.inbox.taken) == 1


async def test_what_cannot_be_taken_stays_on_the_server() -> None:
    async with post(message(1), message(2)) as here:
        here.inbox.verdict = lambda found: refused() if found.uid.uid == "7:1" else None
        inbox = await here.fetch()
        assert inbox.fates() == {"7:1": FetchFate.REFUSED, "7:2": FetchFate.TAKEN}
        assert inbox.refusals == [(Uid("INBOX", "7:1"), "550 5.1.1 No such user")]
        assert list(here.box.mails) == [1]


async def test_a_full_disk_ends_the_fetch_and_deletes_nothing() -> None:
    async with post(message(1), message(2)) as here:
        here.inbox.verdict = lambda found: SpoolFull("no room")
        with pytest.raises(SpoolFull):
            await here.fetch()
        assert list(here.box.mails) == [1, 2]
        assert here.inbox.open_parcels == 0


# --- moving in place of deleting

WAYS_TO_MOVE = [(*CAPABILITIES, "MOVE"), ("IMAP4rev1", "IMAP4rev2"), CAPABILITIES, ("IMAP4rev1",)]


@pytest.mark.parametrize("capabilities", WAYS_TO_MOVE)
async def test_what_was_taken_is_moved_to_a_folder_that_is_made_for_it(capabilities: tuple[str, ...]) -> None:
    async with post(message(1), message(2), make=partial(ImapServer, capabilities=capabilities)) as here:
        inbox = await here.fetch(move_to="Gelesen & “alt”")
        name = "Gelesen &- &IBw-alt&IB0-"
        assert sorted(mail.content for mail in here.boxes[name].mails.values()) == [message(1), message(2)]
        assert not here.box.mails
        assert (inbox.tally.moved, inbox.tally.deleted) == (2, 0)
        assert f'SUBSCRIBE "{name}"' in here.commands
        here.box.add(message(3))
        await here.fetch(move_to="Gelesen & “alt”")
        assert len(here.boxes[name].mails) == 3
        assert not any("CREATE" in line for line in here.commands)
        is_one_step = bool({"MOVE", "IMAP4rev2"}.intersection(capabilities))
        assert any("UID MOVE" in line for line in here.commands) is is_one_step
        assert any("UID COPY" in line for line in here.commands) is not is_one_step


async def test_a_server_that_knows_no_subscriptions_will_do() -> None:
    async with post(message(1), make=partial(ImapServer, policy=saying(SUBSCRIBE="BAD What?"))) as here:
        assert (await here.fetch(move_to="Archive")).tally.moved == 1


async def test_with_move_it_takes_one_step() -> None:
    make = partial(ImapServer, capabilities=(*CAPABILITIES, "MOVE"))
    async with post(*map(message, range(5)), make=make) as here:
        here.boxes["Archive"] = Box()
        await here.fetch(move_to="Archive")
        assert [line for line in here.commands if "Archive" in line] == ['UID MOVE 1:5 "Archive"']
        assert not any("STORE" in line or "EXPUNGE" in line for line in here.commands)


async def test_what_is_kept_for_some_time_is_moved_after_it() -> None:
    async with post(message(1)) as here:
        inbox = await here.fetch(keep=timedelta(days=7), move_to="Archive")
        inbox.time += timedelta(days=6)
        await here.fetch(keep=timedelta(days=7), move_to="Archive")
        assert here.box.mails and "Archive" not in here.boxes
        inbox.time += timedelta(days=1)
        await here.fetch(keep=timedelta(days=7), move_to="Archive")
        assert not here.box.mails
        assert [mail.content for mail in here.boxes["Archive"].mails.values()] == [message(1)]


async def test_what_was_not_taken_is_not_moved() -> None:
    async with post(message(1), message("big", b"x" * 5000), message(3)) as here:
        here.inbox.verdict = lambda found: refused() if found.uid.uid == "7:1" else None
        await here.fetch(max_size=1000, move_to="Archive")
        assert sorted(here.box.mails) == [1, 2]
        assert [mail.content for mail in here.boxes["Archive"].mails.values()] == [message(3)]


REFUSED_MOVES = [
    ({"UID_MOVE": "NO [OVERQUOTA] Full", "UID_COPY": "NO [OVERQUOTA] Full"}, r"\[OVERQUOTA\] Full$"),
    ({"CREATE": "NO [NOPERM] Not you"}, r"\[TRYCREATE\] No such folder; nor can it be made: \[NOPERM\] Not you"),
]


@pytest.mark.parametrize("capabilities", WAYS_TO_MOVE)
@pytest.mark.parametrize(("replies", "why"), REFUSED_MOVES)
async def test_what_cannot_be_moved_stays_and_the_reason_is_said(
    capabilities: tuple[str, ...], replies: dict[str, str], why: str
) -> None:
    make = partial(ImapServer, capabilities=capabilities, policy=saying(**replies))
    async with post(message(1), make=make) as here:
        with pytest.raises(FetchFailure, match=f"nothing can be moved to Archive from the folder INBOX: {why}"):
            await here.fetch(move_to="Archive")
        assert not here.box.mails[1].flags
        assert here.inbox.tally.moved == 0
        assert len(here.inbox.taken) == 1
    async with post(message(1)) as again:
        again.inbox = here.inbox
        await again.fetch(move_to="Archive")
        assert not again.box.mails and len(again.boxes["Archive"].mails) == 1
        assert len(again.inbox.taken) == 1


@pytest.mark.parametrize(("step", "copies"), [("UID MOVE", 1), ("UID COPY", 2), ("UID STORE", 1), ("UID EXPUNGE", 1)])
async def test_an_answer_that_is_lost_while_messages_are_moved_loses_none(step: str, copies: int) -> None:
    breaks = iter([True])

    def drop_once(verb: str, subject: str) -> str | None:
        return "DROP" if verb == step and next(breaks, False) else None

    capabilities = (*CAPABILITIES, "MOVE") if step == "UID MOVE" else CAPABILITIES
    async with post(message(1), make=partial(ImapServer, capabilities=capabilities, policy=drop_once)) as here:
        here.boxes["Archive"] = Box()
        with pytest.raises(FetchFailure, match=r"closed the connection|connection broke"):
            await here.fetch(move_to="Archive")
        inbox = await here.fetch(move_to="Archive")
        assert not here.box.mails
        assert [mail.content for mail in here.boxes["Archive"].mails.values()] == [message(1)] * copies
        assert len(inbox.taken) == 1


async def test_a_server_that_does_not_say_that_the_folder_is_missing_has_it_made_too() -> None:
    asked: list[str] = []

    def refuse_first(step: str, subject: str) -> str | None:
        asked.extend([subject] if step == "UID MOVE" else [])
        return "NO What folder?" if step == "UID MOVE" and len(asked) == 1 else None

    make = partial(ImapServer, capabilities=(*CAPABILITIES, "MOVE"), policy=refuse_first)
    async with post(message(1), make=make) as here:
        await here.fetch(move_to="Archive")
        assert len(here.boxes["Archive"].mails) == 1


async def test_a_copy_that_was_made_is_not_made_again_while_others_messages_hold_up_expunge() -> None:
    make = partial(ImapServer, capabilities=without("UIDPLUS"))
    async with post(message(1), message(2), make=make) as here:
        here.box.mails[1].flags.add("\\Deleted")
        inbox = await here.fetch(move_to="Archive")
        await here.fetch(move_to="Archive")
        assert list(here.box.mails) == [1, 2]
        assert inbox.tally.moved == 0
        here.box.mails[1].flags.clear()
        here.inbox.remember("7:1", folder="INBOX")
        await here.fetch(move_to="Archive")
        assert not here.box.mails
        assert [mail.content for mail in here.boxes["Archive"].mails.values()] == [message(2), message(1)]


# --- servers of all kinds


async def test_a_server_without_extensions_will_do() -> None:
    make = partial(ImapServer, capabilities=("IMAP4rev1",))
    async with post(*map(message, range(5)), make=make) as here:
        inbox = await here.fetch()
        assert len(inbox.taken) == 5
        assert not here.box.mails
        assert 'LOGIN "ann" "sesame"' in here.commands


@pytest.mark.parametrize("capabilities", [("IMAP4rev1",), CAPABILITIES])
async def test_a_big_folder_is_searched(monkeypatch: pytest.MonkeyPatch, capabilities: tuple[str, ...]) -> None:
    monkeypatch.setattr(imapfetch, "FEW_MARKS", -1)
    monkeypatch.setattr(imapsession, "SEARCH_MESSAGES", 10)
    make = partial(ImapServer, capabilities=capabilities)
    async with post(*map(message, range(35)), make=make) as here:
        here.box.mails.pop(7)
        inbox = await here.fetch(keep=True)
        assert len(inbox.taken) == 34
        searches = [line for line in here.commands if "SEARCH" in line]
        if "ESEARCH" in capabilities:
            assert searches == ["UID SEARCH RETURN (ALL) ALL"]
        else:
            assert searches == [f"UID SEARCH {numbers}" for numbers in ("1:10", "11:20", "21:30", "31:*")]


async def test_in_a_big_folder_only_new_messages_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imapfetch, "FEW_MESSAGES", 2)
    make = partial(ImapServer, capabilities=without("ESEARCH"))
    async with post(*map(message, range(5)), make=make) as here:
        await here.fetch(keep=True)
        await here.fetch(keep=True)
        assert not any("SEARCH" in line for line in here.commands)
        here.box.add(message("new"))
        inbox = await here.fetch(keep=True)
        assert "UID SEARCH UID 6:*" in here.commands
        assert len(inbox.taken) == 6
        here.clock.advance(timedelta(days=1))
        await here.fetch(keep=True)
        assert "UID SEARCH 1:*" in here.commands


async def test_what_was_not_taken_is_found_again_in_a_big_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imapfetch, "FEW_MESSAGES", 2)
    make = partial(ImapServer, capabilities=without("ESEARCH"))
    async with post(*map(message, range(5)), make=make) as here:
        here.inbox.verdict = lambda found: SpoolFull("no room") if found.uid.uid == "7:3" else None
        with pytest.raises(SpoolFull):
            await here.fetch(keep=True)
        here.inbox.verdict = lambda found: None
        inbox = await here.fetch(keep=True)
        assert sorted(inbox.fates()) == [f"7:{uid}" for uid in range(1, 6)]


async def test_expunge_waits_while_somebody_elses_messages_would_go_too() -> None:
    make = partial(ImapServer, capabilities=without("UIDPLUS"))
    async with post(message(1), message(2), make=make) as here:
        here.box.mails[1].flags.add("\\Deleted")
        inbox = await here.fetch()
        assert list(here.box.mails) == [1, 2]
        assert inbox.tally.deleted == 0
        here.box.mails[1].flags.clear()
        here.inbox.remember("7:1", folder="INBOX")
        await here.fetch()
        assert not here.box.mails


async def test_a_folder_that_is_read_only_is_read_and_its_fault_is_said() -> None:
    make = partial(ImapServer, policy=saying(SELECT="OK [READ-ONLY] done"))
    async with post(message(1), make=make) as here:
        with pytest.raises(FetchFailure, match="nothing can be deleted in the folder INBOX, which is read-only"):
            await here.fetch()
        assert len(here.inbox.taken) == 1


async def test_compression_is_used_where_it_is_offered() -> None:
    make = partial(ImapServer, capabilities=(*CAPABILITIES, "COMPRESS=DEFLATE"))
    contents = [message(number, b"x" * 300_000) for number in range(5)]
    async with post(*contents, make=make) as here:
        inbox = await here.fetch()
        assert inbox.contents == contents
        assert here.servers[0]._sent < 50_000


async def test_a_server_that_does_not_want_to_compress_after_all_is_fine() -> None:
    make = partial(
        ImapServer, capabilities=(*CAPABILITIES, "COMPRESS=DEFLATE"), policy=saying(COMPRESS="NO [COMPRESSIONACTIVE]")
    )
    async with post(message(1), make=make) as here:
        assert len((await here.fetch()).taken) == 1


async def test_a_server_may_say_its_words_in_any_slices() -> None:
    async with post(*map(message, range(5)), slice_bytes=1) as here:
        assert len((await here.fetch()).taken) == 5


@pytest.mark.parametrize("said", [0, 10, 5000, 3_000_000])
async def test_a_server_that_lies_about_sizes_gives_whole_messages(said: int) -> None:
    content = message(1, b"x" * 400_000)
    async with post(content) as here:
        here.box.mails[1].size_bytes = said
        assert (await here.fetch()).contents == [content]


async def test_a_server_that_hands_out_less_than_was_asked_for_gives_whole_messages() -> None:
    content = message(1, bytes(range(32, 256)) * 1000)
    async with post(content, make=partial(ImapServer, most_octets=10_000)) as here:
        assert (await here.fetch()).contents == [content]


async def test_a_message_that_the_server_cannot_read_does_not_keep_others() -> None:
    def refuse(step: str, subject: str) -> str | None:
        uids = subject.split(" ")[0]
        return "NO [SERVERBUG] Internal error" if step == "UID FETCH" and "BODY" in subject and "2" in uids else None

    def hide(command: str, answer: bytes) -> bytes:
        return b"".join(line + b"\r\n" for line in answer.split(b"\r\n")[-2:-1]) if b"SERVERBUG" in answer else answer

    async with post(message(1), message(2), message(4), make=partial(ImapServer, policy=refuse, mangle=hide)) as here:
        here.box.mails[4] = here.box.mails.pop(3)
        here.box.mails[4].content += b"x"
        with pytest.raises(
            FetchFailure, match=r"message 7:2 in INBOX could not be taken: \[SERVERBUG\] Internal error"
        ):
            await here.fetch()
        assert sorted(here.inbox.fates()) == ["7:1", "7:4"]
        assert list(here.box.mails) == [2]


async def test_a_message_that_is_listed_and_not_handed_out_is_told() -> None:
    def withhold(command: str, answer: bytes) -> bytes:
        return answer.splitlines(keepends=True)[-1] if "BODY" in command else answer

    async with post(message(1), make=partial(ImapServer, mangle=withhold)) as here:
        for _ in range(2):
            with pytest.raises(FetchFailure, match="7:1 in INBOX could not be taken: the server lists it"):
                await here.fetch()
        assert list(here.box.mails) == [1]


async def test_a_message_that_is_gone_meanwhile_is_no_trouble() -> None:
    boxes: list[Box] = []

    def make(**options: Any) -> ImapServer:
        boxes.append(options["boxes"]["INBOX"])
        return ImapServer(mangle=vanish, **options)

    def vanish(command: str, answer: bytes) -> bytes:
        if "RFC822.SIZE" in command:
            boxes[0].mails.pop(1, None)
        return answer

    async with post(message(1), message(2), make=make) as here:
        assert (await here.fetch()).contents == [message(2)]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"* 1 FETCH (UID 1 RFC822.SIZE", marks=pytest.mark.slow),  # and then it is silent
        b"* 1 FETCH (UID 1 BODY[]<0> {99999999}\r\n",
        b"* 1 FETCH (UID 1 BODY[]<0> (1 2))\r\n",
        b"* 1 FETCH (UID x BODY[]<0> NIL)\r\n",
        b"garbage\r\n",
        b"A0 OK for another one\r\n",
        b"* 1 FETCH (((((((((\r\n",
    ],
)
async def test_nonsense_ends_the_fetch_with_a_reason_and_takes_nothing(answer: bytes) -> None:
    def mangle(command: str, usual: bytes) -> bytes:
        return answer + usual.split(b"\r\n")[-2] + b"\r\n" if "BODY" in command else usual

    make = partial(ImapServer, mangle=mangle)
    async with post(message(1), make=make) as here:
        with pytest.raises(FetchFailure) as caught:
            await here.fetch(time_scale=0.01)
        assert str(here.account.server) in caught.value.reason
        assert not here.inbox.taken
        assert list(here.box.mails) == [1]


async def test_empty_lines_before_an_answer_lose_nothing() -> None:
    """Newer versions of Python's `imaplib` skip them, older ones give up."""

    def mangle(command: str, usual: bytes) -> bytes:
        return b"\r\n" * 10 + usual if "BODY" in command else usual

    async with post(message(1), make=partial(ImapServer, mangle=mangle)) as here:
        with suppress(FetchFailure):
            await here.fetch(time_scale=0.01)
        assert [*here.inbox.contents, *(mail.content for mail in here.box.mails.values())] == [message(1)]


# --- a connection that breaks


async def test_a_big_message_goes_on_where_the_connection_broke() -> None:
    content = message("big", bytes(range(32, 256)) * 9000)
    cuts = iter([700_000, 700_000, None])
    sent: list[ImapServer] = []

    def make(**options: Any) -> ImapServer:
        server = ImapServer(cut_after=next(cuts), **options)
        sent.append(server)
        return server

    async with post(content, make=make) as here:
        inbox = await here.fetch()
        assert inbox.contents == [content]
        assert inbox.discarded == 0
        assert len(here.servers) == 3
        assert sum(server._sent for server in sent) < 2 * len(content)
        offsets = [line for line in here.commands if "BODY" in line]
        assert "<0." not in offsets[0]


async def test_a_big_message_that_is_another_one_after_the_break_starts_anew() -> None:
    first, second = message("one", b"x" * 2_000_000), message("two", b"y" * 1_900_000)
    cuts = iter([700_000, None, None])

    def make(**options: Any) -> ImapServer:
        server = ImapServer(cut_after=next(cuts), **options)
        if server.cut_after is None:
            server.boxes["INBOX"].mails = {1: Mail(second)}
        return server

    async with post(first, make=make) as here:
        inbox = await here.fetch()
        assert not inbox.taken
        assert inbox.discarded == 1
        assert (await here.fetch(max_messages=0)).contents == [second]


async def test_small_messages_that_were_lost_on_the_way_come_over_the_next_connection_once() -> None:
    contents = [message(number, b"x" * 20_000) for number in range(30)]
    cuts = iter([200_000, 300_000, None])

    def make(**options: Any) -> ImapServer:
        return ImapServer(cut_after=next(cuts), **options)

    async with post(*contents, make=make) as here:
        inbox = await here.fetch()
        assert sorted(inbox.contents) == sorted(contents)
        assert not here.box.mails


async def test_names_that_changed_while_the_connection_was_broken_end_the_fetch() -> None:
    cuts = iter([700_000, None])

    def make(**options: Any) -> ImapServer:
        server = ImapServer(cut_after=next(cuts), **options)
        server.boxes["INBOX"].uid_validity += 1
        return server

    async with post(message("big", b"x" * 2_000_000), make=make) as here:
        with pytest.raises(FetchFailure, match="the server has renamed all messages in INBOX meanwhile"):
            await here.fetch()
        assert not here.inbox.taken and here.inbox.open_parcels == 0


async def test_a_message_that_ends_the_connection_each_time_does_not_keep_others() -> None:
    def drop(step: str, subject: str) -> str | None:
        return "DROP" if step == "UID FETCH" and "BODY" in subject and "2" in subject.split(" ")[0] else None

    def silent(command: str, answer: bytes) -> bytes:
        return b"" if "BODY" in command and "2" in command.split(" ")[2] else answer

    async with post(message(1), message(2), message(4), make=partial(ImapServer, policy=drop, mangle=silent)) as here:
        here.box.mails[4] = here.box.mails.pop(3)
        with pytest.raises(FetchFailure, match="7:2 in INBOX could not be taken: the connection breaks each time"):
            await here.fetch()
        assert sorted(here.inbox.fates()) == ["7:1", "7:4"]


async def test_a_server_that_does_not_come_back_is_a_failure() -> None:
    count = iter(range(100))

    def make(**options: Any) -> ImapServer:
        if next(count):
            return ImapServer(policy=saying(CONNECT="* BYE Too many connections"), **options)
        return ImapServer(cut_after=700_000, **options)

    async with post(message("big", b"x" * 2_000_000), make=make) as here:
        with pytest.raises(FetchFailure, match="Too many connections"):
            await here.fetch()
        assert here.inbox.open_parcels == 0
        assert len(here.servers) == 1 + 4


@pytest.mark.parametrize("step", ["SELECT", "FETCH", "UID FETCH", "UID STORE", "UID EXPUNGE"])
async def test_a_connection_that_breaks_elsewhere_is_a_failure_and_what_was_taken_stays_taken(step: str) -> None:
    make = partial(ImapServer, policy=lambda verb, subject: "DROP" if verb == step else None)
    async with post(message(1), make=make) as here:
        with pytest.raises(FetchFailure, match=r"closed the connection|connection broke"):
            await here.fetch()
        assert len(here.inbox.taken) == (1 if step in ("UID STORE", "UID EXPUNGE") else 0)
    async with post(message(1)) as again:
        again.inbox = here.inbox
        await again.fetch()
        assert len(again.inbox.taken) == 1
        assert not again.box.mails


async def test_a_server_that_says_goodbye_is_quoted() -> None:
    make = partial(
        ImapServer, mangle=lambda command, answer: b"* BYE Down for repairs\r\n" if "SIZE" in command else answer
    )
    async with post(message(1), make=make) as here:
        with pytest.raises(FetchFailure, match="said goodbye: Down for repairs") as caught:
            await here.fetch()
        assert caught.value.culprit is not Culprit.LOGIN


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        ("* BYE Too many connections", ": said goodbye: Too many connections"),
        ("+OK POP3 here", " does not greet us like an IMAP server: +OK POP3 here"),
        ("HTTP/1.1 400 Bad Request", " does not greet us like an IMAP server: HTTP/1.1 400 Bad Request"),
    ],
)
async def test_a_greeting_that_is_no_welcome_is_quoted(greeting: str, reason: str) -> None:
    async with post(message(1), make=partial(ImapServer, greeting=greeting)) as here:
        with pytest.raises(FetchFailure) as caught:
            await here.fetch()
        assert str(caught.value).endswith(reason)


async def test_a_goodbye_in_the_middle_of_the_log_in_is_quoted() -> None:
    make = partial(
        ImapServer, mangle=lambda command, answer: b"* BYE No more\r\n" if "AUTHENTICATE" in command else answer
    )
    hang_up = saying(PROOF="DROP")
    async with post(message(1), make=partial(make, policy=hang_up)) as here:
        with pytest.raises(FetchFailure, match="said goodbye: No more"):
            await here.fetch()


@pytest.mark.slow
async def test_a_server_that_is_silent_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CONNECT_TIME", timedelta(days=1))
    make = partial(ImapServer, mangle=lambda command, answer: b"" if "SIZE" in command else answer)
    async with post(message(1), make=make) as here:
        with pytest.raises(FetchFailure, match=r"no (whole )?answer within"):  # whole: a thread came late
            await here.fetch(time_scale=0.001)


@pytest.mark.slow
async def test_a_server_that_never_stops_talking_is_given_up() -> None:
    endless = b"* 5 EXISTS\r\n" * 100_000
    make = partial(
        ImapServer, mangle=lambda command, answer: endless if "NOOP" in command or "SELECT" in command else answer
    )
    async with post(message(1), make=make) as here:
        with pytest.raises(FetchFailure, match="a lot more than it was asked for"):
            await here.fetch()


async def test_nobody_at_home_is_a_failure_of_the_connection() -> None:
    async with post() as here:
        account = here.account
    with pytest.raises(FetchFailure, match="connection refused") as caught:
        await here.fetch(server=account.server)
    assert caught.value.culprit is Culprit.CONNECTION


# --- the library, and secrets


async def test_without_the_library_the_failure_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("imapsession", "imaplibrary"):
        monkeypatch.delitem(sys.modules, f"masqmail.retrieval.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "imapclient", None)
    async with post(message(1)) as here:
        with pytest.raises(FetchFailure, match=r"pip install 'masqmail\[imap\]'") as caught:
            await here.fetch()
        assert caught.value.culprit is Culprit.LOCAL


@pytest.mark.parametrize("capabilities", [("IMAP4rev1",), ("IMAP4rev1", "AUTH=PLAIN"), CAPABILITIES])
async def test_no_log_holds_the_password_or_a_message(
    caplog: pytest.LogCaptureFixture, capabilities: tuple[str, ...]
) -> None:
    caplog.set_level(1)
    logging.getLogger("masqmail").setLevel(1)
    async with post(
        message("private", b"between us\r\n"), make=partial(ImapServer, capabilities=capabilities)
    ) as here:
        await here.fetch()
    logging.getLogger("masqmail").setLevel(logging.NOTSET)
    text = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "UID FETCH" in text
    assert "sesame" not in text
    assert "AGFubgBzZXNhbWU=" not in text
    assert "between us" not in text


async def test_the_newest_headers_can_be_had_to_look_at() -> None:
    async with post(*map(message, range(9))) as here:
        headers = await here.retriever.probe(here.account)
        assert list(headers) == [f"Subject: {number}\r\n\r\n".encode() for number in range(4, 9)]
        assert len(here.box.mails) == 9


async def test_a_wrapper_may_greet_us_as_logged_in() -> None:
    program = (
        "import sys\n"
        "print('* PREAUTH [CAPABILITY IMAP4rev1] ann is in', end='\\r\\n', flush=True)\n"
        "for line in sys.stdin:\n"
        "    tag, verb = line.split()[:2]\n"
        "    if verb == 'CAPABILITY': print('* CAPABILITY IMAP4rev1', end='\\r\\n')\n"
        "    if verb == 'EXAMINE': print('* OK [UIDVALIDITY 1] fine', end='\\r\\n')\n"
        "    print(f'{tag} OK done', end='\\r\\n', flush=True)\n"
    )
    async with post() as here:
        inbox = await here.fetch(wrapper=(sys.executable, "-c", program), tls=TlsMode.NONE, keep=True)
        assert inbox.tally.expected == 0
        assert not here.servers
