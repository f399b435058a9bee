"""Dovecot as a provider's IMAP server: what it holds arrives as it is, once, over good lines and bad ones."""

import random
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from masqmail.net.session import TlsMode
from masqmail.proto.sasl import Credentials, Secret
from masqmail.retrieval.account import Account, FetchFailure, Order
from masqmail.retrieval.imap import ImapRetriever
from masqmail.retrieval.imapsession import Session
from masqmail.settings import HostPort
from masqmail.spool.api import Uid
from support.authority import Authority, Certificate
from support.cutline import cut_line
from support.daemon import Daemon
from support.dovecotimap import COMPRESSION, DovecotImap, running_dovecot_imap
from support.fakeinbox import FakeInbox
from support.peers import needs, wait_until

pytestmark = [pytest.mark.peer, pytest.mark.anyio]

PASSWORD = 'open "sesame" \\ now'
USERS = ("plain", "many", "big", "waits", "folders", "kept", "slow", "lines", "left", "moved", "daemon")

MODES = [TlsMode.NONE, TlsMode.STARTTLS, TlsMode.IMPLICIT]


@pytest.fixture(scope="module")
def imap(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[DovecotImap]:
    needs("dovecot")
    if not Path("/usr/lib/dovecot/imap-login").exists():
        needs("Dovecot with IMAP")
    folder = tmp_path_factory.mktemp("imap")
    with running_dovecot_imap(folder, certificate, dict.fromkeys(USERS, PASSWORD)) as imap:
        yield imap


def account(imap: DovecotImap, authority: Authority, user: str, mode: TlsMode = TlsMode.STARTTLS) -> Account:
    return Account(
        name=user,
        server=HostPort("127.0.0.1", imap.tls_port if mode is TlsMode.IMPLICIT else imap.port),
        credentials=Credentials(user, Secret(PASSWORD)),
        tls=mode,
        tls_ca=authority.ca if mode is not TlsMode.NONE else None,
        clear_password=mode is TlsMode.NONE,
    )


async def fetch(account: Account, inbox: FakeInbox | None = None) -> FakeInbox:
    inbox, retriever = inbox or FakeInbox(), ImapRetriever()
    try:
        await retriever.fetch(account, inbox, Order())
    finally:
        await retriever.aclose()
    return inbox


def message(number: int, body: bytes = b"Hello\n") -> bytes:
    return f"From: bob@example.org\nSubject: number {number}\nMessage-ID: <{number}@example.org>\n\n".encode() + body


def on_the_wire(content: bytes) -> bytes:
    """What Dovecot makes of a file with LF line ends."""
    return content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


WAYS = ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", ""]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
async def test_dovecot_lets_us_in(imap: DovecotImap, authority: Authority, way: str, mode: TlsMode) -> None:
    imap.put("plain", message(1))
    wanted = replace(account(imap, authority, "plain", mode), mechanisms=tuple(filter(None, [way])))
    before = imap.log.count("Login: user=<plain>")
    inbox = await fetch(wanted)
    assert inbox.contents == [on_the_wire(message(1))]
    wait_until(lambda: imap.log.count("Login: user=<plain>") > before, "the login in Dovecot's log")
    line = [line for line in imap.log.splitlines() if "Login: user=<plain>" in line][-1]
    assert (", TLS" in line) is (mode is not TlsMode.NONE)
    assert not way or f"method={way}," in line


@pytest.mark.parametrize("way", WAYS)
async def test_dovecot_refuses_a_wrong_password(imap: DovecotImap, authority: Authority, way: str) -> None:
    wrong = Credentials("plain", Secret("open barley"))
    wanted = replace(account(imap, authority, "plain"), credentials=wrong, mechanisms=tuple(filter(None, [way])))
    with pytest.raises(FetchFailure, match=r"refused the login of plain: \[AUTHENTICATIONFAILED\]"):
        await fetch(wanted)


@pytest.mark.parametrize("mode", MODES)
async def test_a_thousand_messages_arrive_as_they_are_and_once(
    imap: DovecotImap, authority: Authority, mode: TlsMode
) -> None:
    contents = [message(number, b"line %d\n" % number * (number % 100)) for number in range(1000)]
    imap.put("many", *contents)
    inbox = await fetch(account(imap, authority, "many", mode))
    assert sorted(inbox.contents) == sorted(map(on_the_wire, contents))
    assert not imap.left("many")
    assert not (await fetch(account(imap, authority, "many", mode), inbox)).tally.left
    assert len(inbox.taken) == 1000


ODD = {
    "dots": b".\n..\n.x\n\n.\n",
    "one long line": b"x" * 1_000_000 + b"\n",
    "no end": b"no end of line",
    "empty": b"",
    "eight bits": bytes(range(128, 256)) * 100 + b"\n",
    "parentheses": b") UID 5 FETCH (BODY[] {3}\n* BYE\n" * 50,
    "literals": b"{5}\n{1000000}\n" * 10,
    "piece": b"y" * (128 * 1024),
}


@pytest.mark.parametrize("name", ODD)
async def test_odd_lines_arrive_as_they_are(imap: DovecotImap, authority: Authority, name: str) -> None:
    imap.put("lines", message(1, ODD[name]))
    inbox = await fetch(account(imap, authority, "lines"))
    assert inbox.contents == [on_the_wire(message(1, ODD[name]))]


async def test_dovecot_compresses_where_it_can(imap: DovecotImap, authority: Authority) -> None:
    if not COMPRESSION.exists():
        needs("Dovecot with compression")
    content = message(1, b"the same again and again\n" * 40_000)
    imap.put("plain", content)
    async with cut_line(imap.port) as line:
        inbox = await fetch(replace(account(imap, authority, "plain", TlsMode.NONE), server=line.address))
        assert inbox.contents == [on_the_wire(content)]
        assert line.from_server_bytes < len(content) / 5


async def test_thirty_megabytes_go_on_where_the_line_breaks(imap: DovecotImap, authority: Authority) -> None:
    body = b"".join(b"%09d of many lines that make a big message\n" % number for number in range(650_000))
    content = message(1, body)
    assert len(content) > 30_000_000
    imap.put("big", content)
    wire = on_the_wire(content)
    wanted = account(imap, authority, "big")
    # compressed it is a lot shorter, so it breaks after so many octets of that
    cuts = [400_000, 400_000, 700_000] if COMPRESSION.exists() else [8_000_000, 8_000_000, 3_000_000]
    async with cut_line(imap.port, cuts=cuts) as line:
        inbox = FakeInbox()
        await fetch(replace(wanted, server=line.address, tls_ca=authority.ca), inbox)
        assert line.connections == 4
    assert len(inbox.taken) == 1
    assert inbox.contents[0] == wire
    assert inbox.discarded == 0
    assert not imap.left("big")


async def test_new_mail_wakes_who_waits(imap: DovecotImap, authority: Authority) -> None:
    wanted, inbox, retriever = account(imap, authority, "waits"), FakeInbox(), ImapRetriever()
    imap.folder("waits")
    try:
        await retriever.wait_for_mail(wanted)  # nobody has looked yet
        await retriever.fetch(wanted, inbox, Order())
        for number in range(3):
            with anyio.fail_after(20):
                async with anyio.create_task_group() as group:
                    group.start_soon(retriever.wait_for_mail, wanted)
                    await anyio.sleep(0.2)
                    imap.put("waits", message(number))
            await retriever.fetch(wanted, inbox, Order())
            assert len(inbox.taken) == number + 1
        assert imap.log.count("Login: user=<waits>") == 1
    finally:
        await retriever.aclose()


async def test_folders_are_fetched_by_name(imap: DovecotImap, authority: Authority) -> None:
    imap.put("folders", message(1))
    imap.put("folders", message(2), folder="Work")
    imap.put("folders", message(3), folder="Gel&APY-scht")
    wanted = replace(account(imap, authority, "folders"), folders=("INBOX", "Work", "Nowhere", "Gelöscht"))
    inbox = FakeInbox()
    with pytest.raises(FetchFailure, match=r"the folder Nowhere cannot be used: Mailbox doesn't exist"):
        await fetch(wanted, inbox)
    assert [uid.folder for uid, _ in inbox.taken] == ["INBOX", "Work", "Gelöscht"]
    assert not imap.left("folders", "Work")


async def test_what_is_kept_stays_unseen_and_comes_once(imap: DovecotImap, authority: Authority) -> None:
    wanted, inbox = replace(account(imap, authority, "kept"), keep=True), FakeInbox()
    imap.put("kept", *map(message, range(10)))
    await fetch(wanted, inbox)
    imap.put("kept", message(10))
    await fetch(wanted, inbox)
    await fetch(wanted, inbox)
    assert len(inbox.taken) == 11
    assert all(file.name.endswith((".test", ":2,")) or ",S=" in file.name for file in imap.left("kept"))
    assert not any("S" in file.name.partition(":2,")[2] for file in imap.left("kept"))


@pytest.mark.parametrize("can_move", [True, False])
async def test_what_was_taken_is_moved_to_a_folder_that_is_made_for_it(
    imap: DovecotImap, authority: Authority, can_move: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def has(session: Session, *capabilities: str) -> bool:
        return any(name != "MOVE" and session._client.has_capability(name) for name in capabilities)

    if not can_move:
        monkeypatch.setattr(Session, "has", has)
    name = "With Move" if can_move else "Ohne &- f&APw-r sp&AOQ-ter"
    wanted = replace(account(imap, authority, "moved"), move_to="With Move" if can_move else "Ohne & für später")
    inbox = FakeInbox()
    contents = [message(number) for number in range(20)]
    imap.put("moved", *contents)
    await fetch(wanted, inbox)
    imap.put("moved", message(20))
    await fetch(wanted, inbox)
    assert sorted(inbox.contents) == sorted(map(on_the_wire, [*contents, message(20)]))
    assert inbox.tally.moved == 21 and inbox.tally.deleted == 0
    assert not imap.left("moved")
    assert sorted(file.read_bytes() for file in imap.left("moved", name)) == sorted([*contents, message(20)])
    assert name in (imap.root / "mail" / "moved" / "subscriptions").read_text().splitlines()


async def test_a_folder_that_cannot_be_made_is_said_and_the_mail_stays(
    imap: DovecotImap, authority: Authority
) -> None:
    imap.put("moved", message(1))
    wanted, inbox = replace(account(imap, authority, "moved"), move_to="Old/Mail"), FakeInbox()
    with pytest.raises(FetchFailure, match=r"can be moved to Old/Mail from the folder INBOX: .*nvalid mailbox"):
        await fetch(wanted, inbox)
    assert len(imap.left("moved")) == 1
    await fetch(replace(wanted, move_to=""), inbox)
    assert not imap.left("moved") and len(inbox.taken) == 1


async def test_what_is_too_big_is_left_and_can_be_asked_for(imap: DovecotImap, authority: Authority) -> None:
    imap.put("left", message(1, b"x" * 5000), message(2))
    wanted, inbox = replace(account(imap, authority, "left"), max_size=1000), FakeInbox()
    await fetch(wanted, inbox)
    ((name, _, header),) = inbox.notices
    assert header == on_the_wire(message(1, b""))
    assert isinstance(name, Uid) and len(inbox.taken) == 1
    retriever = ImapRetriever()
    await retriever.fetch(wanted, inbox, Order((name.uid,)))
    assert inbox.contents[1] == on_the_wire(message(1, b"x" * 5000))
    assert not imap.left("left")


async def test_the_newest_headers_can_be_had_to_look_at(imap: DovecotImap, authority: Authority) -> None:
    imap.put("plain", *map(message, range(8)))
    headers = await ImapRetriever().probe(account(imap, authority, "plain"))
    assert len(headers) == 5  # of Dovecot's choice, as all came in the same moment
    assert set(headers) < {on_the_wire(message(number, b"")) for number in range(8)}
    await fetch(account(imap, authority, "plain"))


async def test_over_a_slow_line_two_hundred_messages_take_a_tenth_of_lock_step(
    imap: DovecotImap, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    imap.put("slow", *(message(number, b"some text\n" * 300) for number in range(200)))
    wanted = account(imap, authority, "slow")
    async with cut_line(imap.port, delay_seconds=0.15) as line:
        began = time.monotonic()
        inbox = await fetch(replace(wanted, server=line.address, tls_ca=authority.ca))
        took = time.monotonic() - began
    assert len(inbox.taken) == 200
    lock_step = 200 * 0.3  # one round trip for each message, and nothing else
    with capsys.disabled():
        print(f"\n200 messages over 300 ms: {took:.1f} s; a round trip for each would be {lock_step:.0f} s")
    assert took < lock_step / 10


# --- the whole program


@pytest.fixture
def daemon(tmp_path: Path, imap: DovecotImap, authority: Authority) -> Iterator[Daemon]:
    """Fetches for root, as soon as there is mail."""
    (tmp_path / "secret").write_text(f"{PASSWORD}\n")
    more = (
        f'[fetch.idle]\nprotocol = "imap"\nserver = "127.0.0.1:{imap.port}"\ntls = "starttls"\n'
        f'tls_ca = "{authority.ca}"\nusername = "daemon"\npassword_file = "{tmp_path}/secret"\n'
        f'links = ["always"]\ndeliver_to = "root"\ninterval = "idle"\n\n[links.always]\ndetect = "always"\n'
    )
    imap.folder("daemon")
    daemon = Daemon(tmp_path, more)
    daemon.start()
    yield daemon
    if daemon.process is not None:
        daemon.stop()


def delivered(daemon: Daemon) -> list[bytes]:
    return [path.read_bytes() for path in (daemon.folder / "maildir" / "new").glob("*")]


def numbers(contents: list[bytes]) -> list[int]:
    """Which of our messages these are."""
    return sorted(int(re.search(rb"^Subject: number (\d+)", content, re.M)[1]) for content in contents)  # type: ignore[index]


@pytest.mark.slow
def test_mail_at_the_server_is_soon_in_the_mailbox(imap: DovecotImap, daemon: Daemon) -> None:
    for number in range(2):
        imap.put("daemon", message(number, b"for the daemon\n"))
        wait_until(lambda count=number + 1: len(delivered(daemon)) == count, "the message in the mailbox")
    assert numbers(delivered(daemon)) == [0, 1]
    assert all(content.endswith(b"\n\nfor the daemon\n") for content in delivered(daemon))
    wait_until(lambda: not imap.left("daemon"), "an empty folder at the server")


@pytest.mark.slow
def test_a_daemon_that_is_killed_loses_nothing_and_takes_nothing_twice(imap: DovecotImap, daemon: Daemon) -> None:
    pause = random.Random(5)
    imap.put("daemon", *(message(number, b"x" * 3000 + b"\n") for number in range(600)))
    began = imap.log.count("Login: user=<daemon>")
    for kills in range(1, 9):
        logins = imap.log.count("Login: user=<daemon>")
        if daemon.process is None:
            daemon.start(wait=False)
        wait_until(lambda count=logins + (kills > 1): imap.log.count("Login: user=<daemon>") >= count, "a login")
        time.sleep(pause.uniform(0.0, 0.3))  # at any moment of a fetch
        daemon.kill()
    daemon.start()
    assert imap.log.count("Login: user=<daemon>") - began >= 7
    wait_until(lambda: len(delivered(daemon)) >= 600 and not imap.left("daemon"), "all messages", seconds=60)
    daemon.wait_for_empty_queue()
    assert numbers(delivered(daemon)) == list(range(600))
