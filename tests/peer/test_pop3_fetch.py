"""Fetching from Dovecot over POP3: every byte, nothing twice, and fast over a long line."""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from masqmail.net.session import TlsMode
from masqmail.proto.sasl import Credentials, Secret
from masqmail.retrieval.account import Account, Order
from masqmail.retrieval.pop3 import Pop3Retriever
from masqmail.settings import HostPort
from support.authority import Authority, Certificate
from support.delayline import delay_line
from support.dovecotpop import DovecotPop, running_dovecot_pop
from support.fakeinbox import FakeInbox
from support.peers import needs, wait_until

pytestmark = [pytest.mark.peer, pytest.mark.anyio]

PASSWORD = "open sesame"
ROUND_TRIP_SECONDS = 0.3


@pytest.fixture(scope="module")
def pop(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[DovecotPop]:
    needs("dovecot")
    if not Path("/usr/lib/dovecot/pop3-login").exists():
        needs("Dovecot with POP3")
    with running_dovecot_pop(tmp_path_factory.mktemp("pop"), certificate, {"ann": PASSWORD}) as pop:
        yield pop


Make = Callable[[TlsMode], Account]


@pytest.fixture
def account(pop: DovecotPop, authority: Authority) -> Make:
    def make(mode: TlsMode) -> Account:
        return Account(
            name="dovecot",
            server=HostPort("127.0.0.1", pop.tls_port if mode is TlsMode.IMPLICIT else pop.port),
            credentials=Credentials("ann", Secret(PASSWORD)),
            tls=mode,
            tls_ca=authority.ca,
        )

    return make


def wire(content: bytes) -> bytes:
    """A file of a Maildir as it goes over the line, and so as we have to get it."""
    whole = re.sub(rb"\r?\n", b"\r\n", content)
    return whole if whole.endswith(b"\r\n") else whole + b"\r\n"


def small(number: int) -> bytes:
    body = "line\n" * (number % 40)
    return f"From: ann@example.org\nSubject: {number}\n\n{body}".encode()


ODD = [
    b"Subject: dots\n\n.\n..\n...\n.x\n\n.",
    b"Subject: long\n\n" + b"x" * 100_000 + b"\n" + b"." * 5000 + b"\n",
    b"Subject: no end of line\n\nlast",
    b"Subject: 8 bit \xe4\xff\n\n\xe4\xf6\xfc\xff\xfe\n",
    b"Subject: CRLF\r\n\r\nalready\r\n",
    b"Subject: reply\n\n+OK\n-ERR\n.\n+OK 3\n",
    b"Subject: empty\n\n",
    b"no header at all\n",
]
BIG = b"Subject: big\n\n" + (b"0123456789abcde" * 5 + b"\n.dot\n") * (30_000_000 // 81)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.IMPLICIT])
async def test_a_thousand_messages_come_byte_by_byte_and_none_twice(
    pop: DovecotPop, account: Make, mode: TlsMode
) -> None:
    contents = [*(small(number) for number in range(1000 - len(ODD) - 1)), *ODD, BIG]
    pop.fill("ann", contents)
    inbox, retriever = FakeInbox(), Pop3Retriever()
    for count in (300, 0):  # in two runs, as with a line that goes down in between
        await retriever.fetch(replace(account(mode), max_messages=count, keep=bool(count)), inbox, Order())
    expected = sorted(hashlib.sha256(wire(content)).hexdigest() for content in contents)
    assert sorted(hashlib.sha256(content).hexdigest() for content in inbox.contents) == expected
    wait_until(lambda: pop.files("ann") == [], "an empty mailbox")
    await retriever.fetch(account(mode), inbox, Order())
    assert inbox.known == {}
    assert retriever._habits.sizes_are_true
    assert retriever._habits.may_pipeline
    last = [line for line in pop.log.splitlines() if "Logged out" in line or "Disconnected" in line][-1]
    assert "Logged out" in last


async def test_lone_line_ends_and_nuls_come_as_dovecot_shows_them(pop: DovecotPop, account: Make) -> None:
    pop.fill("ann", [b"Subject: cr\n\na\rb\n", b"Subject: nul\n\na\0b\n"])
    inbox = FakeInbox()
    await Pop3Retriever().fetch(account(TlsMode.IMPLICIT), inbox, Order())
    assert len(inbox.taken) == 2
    assert b"Subject: cr\r\n\r\na\r\nb\r\n" in inbox.contents
    assert any(re.fullmatch(rb"Subject: nul\r\n\r\na[\0\x80]b\r\n", content) for content in inbox.contents)


async def test_what_is_kept_is_taken_once_and_a_big_message_is_told_of(pop: DovecotPop, account: Make) -> None:
    pop.fill("ann", [small(1), small(2), BIG[:2_000_000]])
    inbox, retriever = FakeInbox(), Pop3Retriever()
    keep = replace(account(TlsMode.IMPLICIT), keep=True, max_size=1_000_000)
    for _ in range(2):
        await retriever.fetch(keep, inbox, Order())
    assert (len(inbox.taken), len(inbox.notices)) == (2, 1)
    assert inbox.notices[0][2].startswith(b"Subject: big\r\n")
    await retriever.fetch(keep, inbox, Order((inbox.notices[0][0].uid,)))
    assert len(inbox.taken) == 3
    assert len(pop.files("ann")) == 3


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_pipelining_takes_less_than_a_tenth_of_the_time_over_a_long_line(
    pop: DovecotPop, account: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """200 messages over 300 ms. One at a time is measured with 40, and reckoned for 200 by the time of each."""

    async def seconds(count: int, *, lock_step: bool) -> float:
        contents = [small(number) for number in range(count)]
        pop.fill("ann", contents)
        inbox, retriever = FakeInbox(), Pop3Retriever()
        retriever._habits.garbles = lock_step
        async with delay_line(account(TlsMode.IMPLICIT).server, ROUND_TRIP_SECONDS) as address:
            begin = time.monotonic()
            await retriever.fetch(replace(account(TlsMode.IMPLICIT), server=address), inbox, Order())
            taken = time.monotonic() - begin
        assert sorted(inbox.contents) == sorted(map(wire, contents))
        return taken

    pipelined = await seconds(200, lock_step=False)
    few, none = await seconds(40, lock_step=True), await seconds(0, lock_step=True)
    lock_step = none + (few - none) / 40 * 200
    with capsys.disabled():
        print(
            f"\nPOP3, 200 messages over {ROUND_TRIP_SECONDS * 1000:g} ms: pipelined {pipelined:.1f} s, one at a time "
            f"{lock_step:.1f} s (reckoned from {few:.1f} s for 40), {lock_step / pipelined:.1f} times as long"
        )
    assert pipelined < lock_step / 10
