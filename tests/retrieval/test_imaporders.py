"""Messages in the folders of an IMAP account that somebody asks for by name."""

import pytest

from masqmail.mail.outcome import Culprit
from masqmail.retrieval.account import FetchFailure, Found, ordered_name
from masqmail.retrieval.imapplan import parse_name
from masqmail.spool.api import Uid
from support.imapaccount import Post, message, post
from support.imapserver import Box

pytestmark = pytest.mark.anyio

BIG = b"x" * 5000
FOLDERS = ("INBOX", "Lists", "a:b")


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        ("7:1", Uid("", "7:1")),
        ("INBOX:7:1", Uid("INBOX", "7:1")),
        ("a:b:7:1", Uid("a:b", "7:1")),
        ("12:7:1", Uid("12", "7:1")),
        ("1", Uid("", "1")),
        ("", Uid("", "")),
    ],
)
def test_a_name_may_have_a_folder_before_it(text: str, uid: Uid) -> None:
    assert parse_name(text) == uid
    assert ordered_name(uid) == text


def in_folders(here: Post, *names: str) -> None:
    """Puts one big message into each of these folders; all are called alike."""
    for name in names:
        here.boxes[name] = Box()
        here.boxes[name].add(message(f"in {name}", BIG))


async def failure(here: Post, *uids: str) -> FetchFailure:
    with pytest.raises(FetchFailure) as caught:
        await here.fetch(*uids, folders=FOLDERS, max_size=1000)
    return caught.value


def taken(here: Post) -> list[str]:
    return [ordered_name(uid) for uid, _ in here.inbox.taken]


@pytest.mark.parametrize("name", [f"{folder}:7:1" for folder in FOLDERS])
async def test_the_folder_says_which_of_several_is_meant(name: str) -> None:
    async with post() as here:
        in_folders(here, *FOLDERS)
        await here.fetch(name, folders=FOLDERS, max_size=1000)
        assert taken(here) == [name]
        selected = [command for command in here.commands if command.startswith(("SELECT", "EXAMINE"))]
        assert len(selected) == 1, "no other folder is looked at"


async def test_a_plain_name_is_enough_where_one_message_was_left() -> None:
    async with post(message("small")) as here:
        in_folders(here, "Lists", "a:b")
        here.boxes["a:b"].uid_validity = 8
        await here.fetch(folders=FOLDERS, max_size=1000)
        assert taken(here) == ["INBOX:7:1"]
        await here.fetch("7:1", folders=FOLDERS, max_size=1000)
        assert taken(here) == ["INBOX:7:1", "Lists:7:1"]


async def test_a_plain_name_of_several_that_were_left_is_refused() -> None:
    async with post() as here:
        in_folders(here, *FOLDERS)
        await here.fetch(folders=FOLDERS, max_size=1000)
        caught = await failure(here, "7:1")
        assert str(caught).endswith("there is a message 7:1 in INBOX and in Lists and in a:b: write INBOX:7:1")
        assert caught.culprit is Culprit.MESSAGE
        assert taken(here) == []
        await here.fetch("Lists:7:1", folders=FOLDERS, max_size=1000)
        assert taken(here) == ["Lists:7:1"]


async def test_a_folder_that_is_not_fetched_has_no_message() -> None:
    async with post() as here:
        in_folders(here, *FOLDERS, "Trash")
        caught = await failure(here, "Trash:7:1")
        assert (str(caught).partition(": ")[2], caught.culprit) == ("there is no message Trash:7:1", Culprit.MESSAGE)


async def test_what_is_there_is_taken_although_another_is_not() -> None:
    async with post() as here:
        in_folders(here, *FOLDERS)
        caught = await failure(here, "Lists:7:1", "Lists:7:9")
        assert caught.culprit is Culprit.MESSAGE
        assert taken(here) == ["Lists:7:1"]


async def test_trouble_with_a_folder_is_no_fault_of_who_asks() -> None:
    async with post() as here:
        in_folders(here, "INBOX")
        assert (await failure(here, "7:9")).culprit is Culprit.SESSION


# --- the program wants to end


async def test_a_fetch_that_has_to_end_takes_what_is_on_its_way_and_deletes_what_is_here() -> None:
    async with post(*(message(number, BIG * 10) for number in range(40))) as here:

        async def close_soon(found: Found) -> None:
            here.inbox.is_closing = True

        here.inbox.before_finish = close_soon
        await here.fetch(folders=("INBOX", "Lists"))
        count = len(here.inbox.taken)
        assert 0 < count < 40
        assert len(here.box.mails) == 40 - count
        assert here.inbox.open_parcels == 0
        assert here.commands[-1] == "LOGOUT"
        assert not [command for command in here.commands if "Lists" in command]
        here.inbox.is_closing, here.inbox.before_finish = False, None
        await here.fetch()
        assert len(here.inbox.taken) == 40 and here.box.mails == {}


async def test_a_big_message_that_is_on_its_way_when_a_fetch_has_to_end_is_dropped() -> None:
    async with post(message("big", b"x" * 9_999_999)) as here:
        progress = here.inbox.progress

        def close() -> None:
            here.inbox.is_closing = here.inbox.open_parcels > 0
            progress()

        here.inbox.progress = close  # type: ignore[method-assign]
        await here.fetch()
        assert (here.inbox.taken, here.inbox.open_parcels, len(here.box.mails)) == ([], 0, 1)
        assert here.commands[-1] == "LOGOUT"
