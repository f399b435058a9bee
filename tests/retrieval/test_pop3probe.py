"""A look at a POP3 mailbox: its newest header sections, and nothing is changed."""

from dataclasses import replace

import pytest

from masqmail.mail.outcome import Culprit
from masqmail.net.session import TlsMode
from masqmail.proto.sasl import Credentials, Secret
from masqmail.retrieval.account import Account, FetchFailure
from masqmail.retrieval.pop3 import Pop3Retriever
from masqmail.retrieval.pop3probe import MAX_HEADER_BYTES
from masqmail.settings import HostPort
from support.popmailbox import Mail, PopMailbox, mail
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


async def probed(box: PopMailbox, password: str = "sesame") -> list[bytes]:
    """What a look at this mailbox brings."""
    async with listening(box.serve) as listener:
        credentials = Credentials("ann", Secret(password))
        account = replace(ACCOUNT, server=listener.address, credentials=credentials)
        return list(await Pop3Retriever().probe(account))


async def test_the_newest_header_sections_are_shown_and_nothing_else_happens() -> None:
    box = PopMailbox([mail(f"u{number}") for number in range(1, 9)])
    found = await probed(box)
    assert found == [f"Subject: u{number}\r\n\r\n".encode() for number in range(4, 9)]
    assert box.commands() == ["STAT", *(f"TOP {number} 0" for number in range(4, 9)), "QUIT"]
    assert len(box.mails) == 8 and box.sessions[-1].has_quit


async def test_an_empty_mailbox_has_none() -> None:
    box = PopMailbox()
    assert await probed(box) == []
    assert box.commands() == ["STAT", "QUIT"]


async def test_what_the_server_does_not_show_is_passed_over() -> None:
    box = PopMailbox([mail("u1"), mail("u2"), mail("u3")], refuse={"TOP 2 0": 1})
    assert await probed(box) == [b"Subject: u1\r\n\r\n", b"Subject: u3\r\n\r\n"]
    assert await probed(PopMailbox([mail("u1")], missing=frozenset({"TOP", "STAT"}))) == []


async def test_a_long_header_section_is_cut_and_does_not_reach_into_the_next() -> None:
    long = Mail("long", b"Subject: long\r\nX: " + b"x" * (2 * MAX_HEADER_BYTES) + b"\r\n\r\nbody\r\n")
    first, second = await probed(PopMailbox([long, mail("u2")]))
    assert (len(first), second) == (MAX_HEADER_BYTES, b"Subject: u2\r\n\r\n")


async def test_a_refused_login_is_a_failure() -> None:
    with pytest.raises(FetchFailure) as caught:
        await probed(PopMailbox([mail("u1")]), "barley")
    assert caught.value.culprit is Culprit.LOGIN
