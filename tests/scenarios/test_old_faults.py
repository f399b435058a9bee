"""The faults that the original still had in its last version, each with a test that we do not have it.

The page docs/reference/from-masqmail.md lists all of them, D1 to D29, with the test for each; those that have none by
subject are here, with their number in the first line.
"""

import asyncio
import os
import pwd
import smtplib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from masqmail.routing.aliasfile import parse
from masqmail.routing.link import LinkState
from support.configuration import configuration, faults
from support.daemon import CONFIGURATION, Daemon
from support.inprocess import USER, House
from support.mail import message
from support.peers import wait_until
from support.ports import free_port
from support.scripted_server import ScriptedServer, listening

pytestmark = pytest.mark.slow

IS_ROOT = os.geteuid() == 0
FAR = "ann@example.net"


async def converse(house: House, *lines: str, expected: tuple[int, ...]) -> None:
    """Types lines to the daemon's SMTP port and compares the codes of the answers; EHLO goes before."""

    def work() -> list[int]:
        with smtplib.SMTP("127.0.0.1", house.port, timeout=10) as client:
            client.ehlo("laptop.example.net")
            return [client.docmd(line)[0] for line in lines]

    assert tuple(await anyio.to_thread.run_sync(work)) == expected


# --- what comes in


@pytest.mark.anyio
async def test_a_long_line_of_text_with_dots_anywhere_arrives_whole(tmp_path: Path) -> None:
    """D2: pieces of 4095 octets were looked at for dots one by one."""
    line = b"." * 4094 + b"x" + b"." * 9001 + b"y"
    house = House(tmp_path, "127.0.0.1:9")
    async with house.daemon() as tenant:
        await tenant.submit([USER], message("m1", b"before\n" + line + b"\nafter\n"))
        await tenant.until(lambda queue: not queue)
    (delivered,) = house.mailbox()
    assert delivered.endswith(b"\n\nbefore\n" + line + b"\nafter\n")


@pytest.mark.anyio
async def test_after_a_refused_sender_everything_goes_on(tmp_path: Path) -> None:
    """D13: RSET or QUIT after a 501 ended the process."""
    house = House(tmp_path, "127.0.0.1:9")
    async with house.daemon():
        bad, good, to = "MAIL FROM:<no such@@thing>", "MAIL FROM:<joe@example.org>", f"RCPT TO:<{USER}>"
        await converse(house, bad, "QUIT", expected=(501, 221))
        await converse(house, bad, "RSET", good, to, expected=(501, 250, 250, 250))
        await converse(house, bad, to, bad, good, to, "QUIT", expected=(501, 503, 501, 250, 250, 221))


@pytest.mark.anyio
async def test_a_field_is_known_by_its_whole_name(tmp_path: Path) -> None:
    """D14: `B:` was taken out like Bcc, and `F:` was a From."""
    house = House(tmp_path, "127.0.0.1:9")
    async with house.daemon() as tenant:
        text = b"B: kept\nF: nobody@example.org\nTo: me\nBcc: hidden@example.org\nSubject: s\n\nHello\n"
        await tenant.submit([USER], text)
        await tenant.until(lambda queue: not queue)
    (delivered,) = house.mailbox()
    header = delivered.partition(b"\n\n")[0]
    assert b"\nB: kept\n" in header
    assert b"\nF: nobody@example.org\n" in header
    assert b"\nFrom: " in header
    assert b"hidden" not in delivered


def test_nothing_in_a_file_is_cut_off_silently() -> None:
    """D15: alias lines ended after 255 octets, settings after 2047."""
    people = [f"person{number}@example.org" for number in range(2000)]
    entry = parse("everybody: " + ", ".join(people), "/etc/aliases").find("everybody", match_case=True)
    assert entry is not None
    assert [str(item.mailbox) for item in entry.items] == people
    senders = [f"*@host{number}.example.org" for number in range(2000)]
    text = f'[routes.x]\nsmarthost = "mail.example.org"\nsenders = {senders!r}\n'
    (route,) = configuration(text).routes.values()
    assert [str(pattern) for pattern in route.senders] == senders


@pytest.mark.anyio
async def test_an_unknown_user_is_refused_in_the_conversation(tmp_path: Path) -> None:
    """D19: taken first, and given back later to whoever was named as the sender."""
    house = House(tmp_path, "127.0.0.1:9")
    async with house.daemon() as tenant:
        lines = "MAIL FROM:<victim@example.net>", "RCPT TO:<no-such-user@laptop.example.org>", f"RCPT TO:<{USER}>"
        await converse(house, *lines, expected=(250, 550, 250))
        assert await tenant.recipients() == {}


@pytest.mark.anyio
async def test_a_nul_octet_cuts_no_line(tmp_path: Path) -> None:
    """D21: it ended the line for the server; the message is refused instead."""
    house = House(tmp_path, "127.0.0.1:9")
    async with house.daemon():

        def work() -> tuple[int, bytes]:
            with smtplib.SMTP("127.0.0.1", house.port, timeout=10) as client:
                client.ehlo("laptop.example.net")
                client.mail("joe@example.org")
                client.rcpt(USER)
                return client.data(b"Subject: s\r\n\r\none\x00two\r\n")

        assert (await anyio.to_thread.run_sync(work))[0] == 554
    assert house.mailbox() == []


@pytest.mark.anyio
async def test_commands_are_answered_as_the_standard_says(tmp_path: Path) -> None:
    """D22: EHLO kept a transaction, what is no command was a 501, and the postmaster needed a domain."""
    house = House(tmp_path, "127.0.0.1:9")
    async with house.daemon():
        mail = "MAIL FROM:<joe@example.org>"
        await converse(house, mail, "EHLO again.example.net", f"RCPT TO:<{USER}>", expected=(250, 250, 503))
        await converse(house, "FROBNICATE now", expected=(500,))
        await converse(house, mail, "RCPT TO:<Postmaster>", expected=(250, 250))


# --- what is decided


@pytest.mark.parametrize(
    "setting",
    [
        'queue.retry = ["10"]',
        'queue.retry = ["-5m"]',
        "queue.retry = [600]",
        'queue.retry = "0s"',
        "queue.retry = []",
        'links.x = { detect = "command", command = "x", interval = "10" }',
    ],
)
def test_an_interval_without_sense_is_a_fault(setting: str) -> None:
    """D23: `-q10` was a daemon that never looked at its queue, without a word."""
    (fault,) = faults(setting)
    assert "; write " in fault


@pytest.mark.anyio
async def test_who_leaves_the_from_field_out_gets_round_no_condition(tmp_path: Path) -> None:
    """D27: a route for certain From addresses took what had none. Here a From is made from the sender."""
    server = ScriptedServer()
    async with listening(lambda: server) as listener:
        condition = 'from_headers = ["*@laptop.example.org"]\n'
        house = House(tmp_path, listener.address, condition)
        async with house.daemon() as tenant:
            text = b"To: x\nSubject: {who}\n\nHello\n"
            await tenant.submit([FAR], text, sender="stranger@elsewhere.example")
            await tenant.submit([FAR], b"From: bad <<x\n" + text, sender=f"{USER}@laptop.example.org")
            await tenant.submit(["bob@example.net"], text, sender=f"{USER}@laptop.example.org")
            await tenant.daemon.manual_links.declare("line", LinkState.UP)
            # the postmaster is told of those that no route takes, and has that at once
            await tenant.until(lambda queue: bool(house.mailbox()))
            await tenant.until(lambda queue: set(queue) == {FAR})
            assert len(await tenant.daemon.spool.listing()) == 2
    assert [taken.recipients for taken in server.taken] == [("bob@example.net",)]


@pytest.mark.anyio
async def test_a_program_that_names_the_link_is_not_asked_for_every_message(tmp_path: Path) -> None:
    """D26: it ran for each message, and whoever sent one waited for it."""
    asked = tmp_path / "asked"
    script = f"echo x >> {asked}; exit 1"
    house = House(tmp_path, "127.0.0.1:9", f'[links.ask]\ndetect = "command"\ncommand = ["sh", "-c", "{script}"]\n')
    async with house.daemon() as tenant:
        await anyio.to_thread.run_sync(wait_until, lambda: asked.exists() and asked.read_text(), "the first question")
        for number in range(20):
            await tenant.submit([FAR], message(f"m{number}"))
        assert len(await tenant.daemon.spool.listing()) == 20
    assert asked.read_text() == "x\n"


@pytest.mark.anyio
async def test_nobody_who_hands_in_mail_waits_for_a_server_elsewhere(tmp_path: Path) -> None:
    """D25: the last version delivered before it read the next command."""
    connected = asyncio.Event()

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(be_silent, "127.0.0.1", 0)
    async with server:
        house = House(tmp_path, f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with house.daemon() as tenant:
            await tenant.daemon.manual_links.declare("line", LinkState.UP)
            with anyio.fail_after(10):
                await tenant.submit([FAR], message("m1"))
                await connected.wait()
                for number in range(5):
                    await tenant.submit([FAR, USER], message(f"n{number}"))
                await tenant.until(lambda queue: len(house.mailbox()) == 5)


# --- who may do what, and as whom


ALIASES = """\
who: "|/bin/sh -c 'grep Uid /proc/self/status >> {folder}/open/alias'"
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon as a process; started by root it runs as nobody."""
    folder = tmp_path_factory.mktemp("faults")
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o011)
    port = free_port()
    text = CONFIGURATION.format(folder=folder, port=port)
    text = text.replace(f'"{folder}/maildir"', f'"{folder}/open/${{user}}"')
    if IS_ROOT:
        text = text.replace("[host]\n", '[host]\nuser = "nobody"\ngroup = "nogroup"\n', 1)
    script = f"grep Uid /proc/self/status >> {folder}/open/detector; exit 1"
    text += f'[links.ask]\ndetect = "command"\ncommand = ["/bin/sh", "-c", "{script}"]\n'
    text += '[routes.far]\nlinks = ["line"]\nsmarthost = "127.0.0.1:9"\n'
    daemon = Daemon(folder, port=port, text=text)
    (folder / "open").mkdir()
    (folder / "open").chmod(0o1777)
    (folder / "aliases").write_text(ALIASES.format(folder=folder))
    daemon.start()
    yield daemon
    daemon.stop()


def test_an_id_is_no_path(daemon: Daemon) -> None:
    """D20: `mailrm ../../x` reached files beside the queue."""
    victims = [daemon.folder / name for name in ("victim", "victim-H", "victim-D", "spool/victim-H")]
    for victim in victims:
        victim.write_text("mine")
    assert daemon.sendmail(FAR, message=message("m1")).returncode == 0
    (waiting,) = daemon.queue()
    paths = ["../victim", str(daemon.folder / "victim"), "../../victim", f"../{waiting['id']}", "%2e%2e/victim", "."]
    for path in paths:
        for words in (("queue", "remove", "--", path), ("queue", "show", path), ("queue", "body", path)):
            assert daemon.masqmail(*words).returncode == os.EX_DATAERR, words
    assert daemon.sendmail("-Mrm", *paths, message=b"").returncode == os.EX_DATAERR
    assert [victim.read_text() for victim in victims] == ["mine"] * 4
    assert [item["id"] for item in daemon.queue()] == [waiting["id"]]
    assert daemon.sendmail("-Mrm", waiting["id"], message=b"").returncode == 0
    assert daemon.queue() == []


@pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")
def test_who_writes_to_himself_gets_his_mail_once(daemon: Daemon) -> None:
    """D28: the mailbox was not written, or it was, and the process ended and delivered again."""
    as_user("games", lambda: submit(daemon, "games"))
    daemon.wait_for_empty_queue()
    (delivered,) = (daemon.folder / "open/games/new").iterdir()
    assert delivered.stat().st_uid == pwd.getpwnam("games").pw_uid


@pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")
def test_no_program_that_we_start_has_root_in_any_of_its_identities(daemon: Daemon) -> None:
    """D29: programs had the real user ID of whoever started the daemon, and a shell made it the effective one."""
    assert daemon.sendmail("who", message=message("m2")).returncode == 0
    daemon.wait_for_empty_queue()
    nobody = str(pwd.getpwnam("nobody").pw_uid)
    for name in ("alias", "detector"):
        file = daemon.folder / "open" / name
        lines = wait_until(lambda file=file: file.exists() and file.read_text(), name).splitlines()
        assert {tuple(line.split()) for line in lines} == {("Uid:", *[nobody] * 4)}


def as_user(name: str, work: Callable[[], None]) -> None:
    """Does something in a forked process that has become this user."""
    account = pwd.getpwnam(name)
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
            os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def submit(daemon: Daemon, recipient: str) -> None:
    """Hands in a message as whoever this process is."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(daemon.folder / "run/submit.sock"))
        answers = connection.makefile("rb")
        assert answers.readline().startswith(b"220")
        for line, code in (
            ("HELO me", b"250"),
            ("MAIL FROM:<games@laptop.example.org>", b"250"),
            (f"RCPT TO:<{recipient}@laptop.example.org>", b"250"),
            ("DATA", b"354"),
            ("Subject: s\r\n\r\nHello\r\n.", b"250"),
            ("QUIT", b"221"),
        ):
            connection.sendall(line.encode() + b"\r\n")
            assert answers.readline().startswith(code), line
