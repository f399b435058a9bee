"""The customer's side of ODMR in the whole daemon: what a provider may send us, and what becomes of it."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from masqmail.settings import HostPort
from support.inprocess import USER, House, Tenant
from support.mail import without_trace
from support.transcript import Player, playing

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ACCOUNT = """
[fetch.provider]
links = ["always"]
protocol = "odmr"
server = "{server}"
tls = "none"
username = "example.org"
password_file = "{folder}/secret"
auth = ["cram-md5", "plain"]
multidrop_domains = ["example.org", "example.com"]
interval = "manual"
"""

#: RFC 2645 §6 with a mailbox that there is here, and with the codes that our server adds. P is the provider.
EXAMPLE = """
    P: 220 EXAMPLE.NET on-demand mail relay server ready
    C: EHLO laptop.example.org
    P: 250-EXAMPLE.NET
    P: 250-AUTH CRAM-MD5 EXTERNAL
    P: 250 ATRN
    C: AUTH CRAM-MD5
    P: 334 MTg5Ni42OTcxNzA5NTJASVNQLkNPTQo=
    C: ZXhhbXBsZS5vcmcg...
    P: 235 now authenticated as example.org
    C: ATRN example.org,example.com
    P: 250 OK now reversing the connection
    C: 220 laptop.example.org ...
    P: EHLO EXAMPLE.NET
    C* 250
    P: MAIL FROM: <Lester.Tester@dot.foo.bar>
    C: 250 ...
    P: RCPT TO: <{user}@example.com>
    C: 250 ...
    P: DATA
    C: 354 ...
    P: Subject: on demand
    P:
    P: Hello.
    P: .
    C: 250 ...
    P: QUIT
    C: 221 ...
"""

ASK = """
    P: 220 EXAMPLE.NET ready
    C: EHLO laptop.example.org
    P: 250-EXAMPLE.NET
    P: 250 AUTH PLAIN
    C: AUTH PLAIN ...
    P: 235 welcome
    C: ATRN example.org,example.com
    P: 250 OK
    C: 220 laptop.example.org ...
    P: EHLO EXAMPLE.NET
    C: 250-laptop.example.org greets EXAMPLE.NET
    C: 250-PIPELINING
    C: 250-SIZE 50000000
    C: 250-8BITMIME
    C: 250-SMTPUTF8
    C: 250-CHUNKING
    C: 250-DSN
    C: 250-ENHANCEDSTATUSCODES
    C: 250-LIMITS RCPTMAX=1000
    C: 250 HELP
"""
RELAY = """
import os, selectors, socket
line = socket.create_connection(("127.0.0.1", {port}))
ways = {{0: line.fileno(), line.fileno(): 1}}
with selectors.DefaultSelector() as waiting:
    for source in ways:
        waiting.register(source, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if not (data := os.read(key.fd, 65536)):
                raise SystemExit
            os.write(ways[key.fd], data)
"""
LETTER = "P: DATA\nC: 354 ...\nP: Subject: x\nP:\nP: Hello.\nP: .\nC: 250 ...\n"
BYE = "P: QUIT\nC: 221 ..."


@asynccontextmanager
async def customer(folder: Path, player: Player, more: str = "", domains: str = "") -> AsyncIterator[Tenant]:
    account = ACCOUNT.format(server=player.address, folder=folder)
    house = House(folder, HostPort("127.0.0.1", 1), account + more)
    names = f'"localhost", "laptop.example.org", "example.com"{domains}'
    house._text = house._text.replace("[paths]", f"local_domains = [{names}]\n[paths]")
    (folder / "secret").write_text("sesame\n")
    async with house.daemon() as tenant:
        yield tenant


async def fetch(tenant: Tenant) -> dict[str, Any]:
    """What a person is told of it at last."""
    assert tenant.daemon.fetcher is not None
    [*_, last] = [document async for document in tenant.daemon.fetcher.fetch(["provider"])]
    return dict(last)  # type: ignore[call-overload]


async def session(folder: Path, text: str, more: str = "") -> tuple[House, dict[str, Any]]:
    """One fetch from a provider that says this once the roles have turned."""
    async with playing(ASK + text) as player, customer(folder, player, more) as tenant:
        told = await fetch(tenant)
        await tenant.until(lambda found: all(one.target != USER or one.state.is_ended for one in found.values()))
        return tenant.house, told


async def test_the_example_of_the_standard(tmp_path: Path) -> None:
    async with playing(EXAMPLE.format(user=USER)) as player, customer(tmp_path, player) as tenant:
        told = await fetch(tenant)
        await tenant.until(lambda found: not found)
    assert (told["state"], told["taken"]) == ("done", 1), told
    [content] = tenant.house.mailbox()
    assert without_trace(content) == b"Subject: on demand\n\nHello.\n"
    assert b"Return-Path: <Lester.Tester@dot.foo.bar>\n" in content
    assert b"with ESMTP" in content


async def test_mail_for_others_is_refused_and_for_our_domains_is_not(tmp_path: Path) -> None:
    text = f"""
    P: MAIL FROM:<lester@far.test>
    C: 250 ...
    P: RCPT TO:<victim@far.test>
    C: 550 5.7.1 ...
    P: RCPT TO:<nobody-knows@example.com>
    C: 550 5.1.1 ...
    P: RCPT TO:<ann@example.org>
    C: 250 ...
    P: RCPT TO:<{USER}@example.com>
    C: 250 ...
    """
    house, told = await session(tmp_path, text + LETTER + BYE)
    assert len(house.mailbox()) == 1 and told["taken"] == 1


async def test_a_provider_can_neither_log_in_nor_begin_tls_nor_ask_for_mail(tmp_path: Path) -> None:
    text = """
    P: AUTH PLAIN AGFubgBzZXNhbWU=
    C: 502 5.5.1 ...
    P: STARTTLS
    C: 502 5.5.1 ...
    P: ATRN
    C: 502 5.5.1 ...
    P: ETRN example.org
    C: 502 5.5.1 ...
    P: MAIL FROM:<> XSELF
    C: 555 ...
    """
    await session(tmp_path, text + BYE)


async def test_a_letter_that_is_too_big_for_the_account_stays_at_the_provider(tmp_path: Path) -> None:
    text = f"""
    P: MAIL FROM:<lester@far.test> SIZE=100000
    C: 452 4.3.4 ...
    P: MAIL FROM:<lester@far.test> SIZE=1000
    C: 250 ...
    P: RCPT TO:<{USER}@example.com>
    C: 250 ...
    """
    house, told = await session(tmp_path, text + LETTER + BYE, 'max_size = "50KB"\n')
    assert len(house.mailbox()) == 1
    assert (told["taken"], told["left"]) == (1, 1)


async def test_what_is_for_nobody_here_goes_to_deliver_to_where_that_is_given(tmp_path: Path) -> None:
    text = """
    P: MAIL FROM:<lester@far.test>
    C: 250 ...
    P: RCPT TO:<nobody-knows@example.com>
    C: 250 ...
    P: RCPT TO:<somebody@far.test>
    C: 250 ...
    """
    house, _ = await session(tmp_path, text + LETTER + BYE, f'deliver_to = "{USER}"\n')
    [content] = house.mailbox()
    assert without_trace(content) == b"Subject: x\n\nHello.\n"


async def test_prefix_and_return_path_are_as_the_account_says(tmp_path: Path) -> None:
    text = f"""
    P: MAIL FROM:<lester@far.test>
    C: 250 ...
    P: RCPT TO:<mbox-foo-{USER}@example.com>
    C: 250 ...
    """
    more = 'strip = "mbox-foo-"\nreturn_path = "postmaster"\n'
    null = text.replace("lester@far.test", "")
    house, _ = await session(tmp_path, text + LETTER + null + LETTER + BYE, more)
    first, second = sorted(house.mailbox())
    assert first.startswith(b"Return-Path: <>\n"), "a report stays one"
    assert second.startswith(b"Return-Path: <postmaster@laptop.example.org>\n")


async def test_a_provider_that_stops_in_the_middle_is_a_failure_and_what_came_stays(tmp_path: Path) -> None:
    text = f"P: MAIL FROM:<lester@far.test>\nC: 250 ...\nP: RCPT TO:<{USER}@example.com>\nC: 250 ...\n"
    house, told = await session(tmp_path, text + LETTER + text + "P: DATA\nC: 354 ...\nP: Subject: half\nX:")
    assert len(house.mailbox()) == 1
    assert told["taken"] == 1 and "stopped in the middle" in told["reason"]


async def test_a_program_may_take_the_place_of_the_connection(tmp_path: Path) -> None:
    """It has no address, and so neither has what comes through it."""
    text = f"P: MAIL FROM:<lester@far.test>\nC: 250 ...\nP: RCPT TO:<{USER}@example.com>\nC: 250 ...\n"
    async with playing(ASK + text + LETTER + BYE) as player:
        (tmp_path / "relay.py").write_text(RELAY.format(port=player.address.port))
        more = f'wrapper = ["{sys.executable}", "-IS", "{tmp_path}/relay.py"]\n'
        async with customer(tmp_path, player, more) as tenant:
            told = await fetch(tenant)
            await tenant.until(lambda found: not found)
    assert (told["state"], told["taken"]) == ("done", 1), told
    [content] = tenant.house.mailbox()
    assert b"Received: from EXAMPLE.NET" in content


async def test_many_messages_stream_in_chunks(tmp_path: Path) -> None:
    letter = "Subject: x\r\n\r\nHello.\r\n"
    one = f"P: MAIL FROM:<l@far.test>\nP: RCPT TO:<{USER}@example.com>\nP: BDAT {len(letter)} LAST\n"
    one += "P: Subject: x\nP:\nP: Hello.\n"
    text = one * 30 + "P: QUIT\n" + "C: 250 ...\n" * 90 + "C: 221 ..."
    house, told = await session(tmp_path, text)
    assert len(house.mailbox()) == told["taken"] == 30
