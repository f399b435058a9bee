"""Messages of a POP3 account that somebody asks for by name, and how far a fetch is that was begun anew."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from masqmail.mail.outcome import Culprit
from masqmail.net.session import TlsMode
from masqmail.proto.sasl import Credentials, Secret
from masqmail.retrieval.account import Account, FetchFailure, Found, Order
from masqmail.retrieval.pop3 import Pop3Retriever
from masqmail.settings import HostPort
from support.fakeinbox import FakeInbox
from support.popmailbox import ALL_CAPABILITIES, Mail, PopMailbox, mail
from support.scripted_server import listening

pytestmark = pytest.mark.anyio

ACCOUNT = Account(
    name="isp",
    server=HostPort("nowhere.invalid", 110),
    credentials=Credentials("ann", Secret("sesame")),
    tls=TlsMode.NONE,
    clear_password=True,
    mechanisms=("USER",),
)


@asynccontextmanager
async def at(box: PopMailbox) -> AsyncIterator[Account]:
    async with listening(box.serve) as listener:
        yield replace(ACCOUNT, server=listener.address)


async def failure(account: Account, *uids: str) -> FetchFailure:
    with pytest.raises(FetchFailure) as caught:
        await Pop3Retriever().fetch(account, FakeInbox(), Order(uids))
    return caught.value


async def test_a_message_that_is_not_there_is_no_fault_of_the_account() -> None:
    async with at(PopMailbox([mail("a")])) as account:
        caught = await failure(account, "b")
        assert (str(caught), caught.culprit) == (f"{account.server} has no message b", Culprit.MESSAGE)


async def test_what_else_is_wrong_is_one() -> None:
    async with at(PopMailbox([mail("a")], refuse={"RETR 1": 1})) as account:
        caught = await failure(account, "a", "b")
        assert caught.culprit is Culprit.SESSION
        assert "refused RETR 1" in str(caught) and "has no message b" in str(caught)


async def test_what_came_before_the_server_got_confused_counts() -> None:
    box = PopMailbox([mail(f"m{number}") for number in range(6)])
    confused = iter([True])

    def confuse(line: str, reply: bytes) -> bytes:
        return b"what?\r\n" if line == "RETR 4" and next(confused, False) else reply

    box.rewrite = confuse
    seen: list[tuple[int, int]] = []
    inbox = FakeInbox()
    progress = inbox.progress

    def note() -> None:
        seen.append((inbox.tally.taken, inbox.tally.expected))
        progress()

    inbox.progress = note  # type: ignore[method-assign]
    async with at(box) as account:
        await Pop3Retriever().fetch(account, inbox, Order())
    assert len(box.sessions) == 2 and box.mails == []
    assert seen[-1] == (6, 6)
    assert all(taken <= expected for taken, expected in seen)


# --- the program wants to end


def closing(inbox: FakeInbox, *, after: int) -> FakeInbox:
    """An inbox that closes when so many messages are here."""

    async def close(found: Found) -> None:
        inbox.is_closing = len(inbox.taken) >= after - 1

    inbox.before_finish = close
    return inbox


@pytest.mark.parametrize("capabilities", [ALL_CAPABILITIES, ("TOP", "UIDL", "USER")])
async def test_a_fetch_that_has_to_end_takes_what_is_on_its_way_and_says_quit(capabilities: tuple[str, ...]) -> None:
    box = PopMailbox([mail(f"m{number}", size=30_000) for number in range(80)], capabilities)
    async with at(box) as account:
        inbox = closing(FakeInbox(), after=3)
        await Pop3Retriever().fetch(account, inbox, Order())
        count = len(inbox.taken)
        assert 3 <= count < 60
        assert box.sessions[-1].has_quit and len(box.mails) == 80 - count
        assert inbox.open_parcels == 0
        inbox.is_closing, inbox.before_finish = False, None
        await Pop3Retriever().fetch(account, inbox, Order())
    assert len(inbox.taken) == 80 and box.mails == []


async def test_what_looks_alike_is_not_mixed_up_when_a_fetch_has_to_end() -> None:
    """Two messages with the same header section: the first one goes, and its name must not be that of the other."""
    twins = [Mail("", b"Subject: twin\r\n\r\none\r\n"), Mail("", b"Subject: twin\r\n\r\ntwo\r\n")]
    box = PopMailbox(list(twins[:1]), missing=frozenset({"UIDL"}), capabilities=("TOP", "USER"))
    inbox = FakeInbox()
    async with at(box) as account:
        await Pop3Retriever().fetch(replace(account, keep=True), inbox, Order())
        box.mails = [twins[1], twins[0]]

        def close(line: str, reply: bytes) -> bytes:
            inbox.is_closing |= line == "TOP 1 0"
            return reply

        box.rewrite = close
        await Pop3Retriever().fetch(account, inbox, Order())
        assert box.mails == [twins[1], twins[0]], "nothing is deleted by half of the names"
        box.rewrite, inbox.is_closing = None, False
        await Pop3Retriever().fetch(account, inbox, Order())
    assert {b"Subject: twin\r\n\r\none\r\n", b"Subject: twin\r\n\r\ntwo\r\n"} <= set(inbox.contents)
    assert box.mails == []
