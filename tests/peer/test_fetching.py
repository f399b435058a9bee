"""The whole program fetches from Dovecot: every message is in the mailbox as it was on the server, once."""

import hashlib
import json
import os
import re
import shutil
import smtplib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from support.authority import Authority, Certificate
from support.daemon import CONFIGURATION, Daemon
from support.dovecot import LMTP, Dovecot, running_dovecot
from support.dovecotimap import DovecotImap, running_dovecot_imap
from support.dovecotpop import DovecotPop, running_dovecot_pop
from support.peers import needs, open_way, wait_until
from support.ports import free_port

pytestmark = [
    pytest.mark.peer,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can have mail for several people"),
]

PASSWORD = 'open "sesame"'
USERS = ("many", "idle", "drop")
OWNER, ANN, BOB = "games", "man", "news"  # accounts that every Debian has

#: The fields that we put on top: three by the delivery into a mailbox, one when the message was fetched.
OURS = (b"Return-Path", b"Delivered-To", b"Envelope-To", b"Received")


@pytest.fixture(scope="module")
def pop(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[DovecotPop]:
    needs("dovecot")
    if not Path("/usr/lib/dovecot/pop3-login").exists():
        needs("Dovecot with POP3")
    with running_dovecot_pop(tmp_path_factory.mktemp("pop"), certificate, dict.fromkeys(USERS, PASSWORD)) as pop:
        yield pop


@pytest.fixture(scope="module")
def imap(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[DovecotImap]:
    needs("dovecot")
    if not Path("/usr/lib/dovecot/imap-login").exists():
        needs("Dovecot with IMAP")
    with running_dovecot_imap(tmp_path_factory.mktemp("imap"), certificate, dict.fromkeys(USERS, PASSWORD)) as imap:
        yield imap


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's own folder, which another run of pytest closes to other accounts."""
    with tempfile.TemporaryDirectory(prefix="masqmail-") as name:
        open_way(Path(name))
        (Path(name) / "mail").mkdir()
        (Path(name) / "mail").chmod(0o1777)
        (Path(name) / "secret").write_text(f"{PASSWORD}\n")
        (Path(name) / "secret").chmod(0o600)
        yield Path(name)


class Home:
    """A gateway with an account; each user has a Maildir."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self._authority = authority
        self.daemon: Daemon = None  # type: ignore[assignment]

    def start(self, protocol: str, port: int, user: str, *settings: str, tls: str = "implicit") -> Daemon:
        """Begins to fetch from this account."""
        account = (
            f'[links.cable]\ndetect = "always"\n[fetch.isp]\nlinks = ["cable"]\nprotocol = "{protocol}"',
            f'server = "127.0.0.1:{port}"\ntls = "{tls}"\nusername = "{user}"',
            f'password_file = "{self.folder}/secret"',
            *([f'tls_ca = "{self._authority.ca}"'] if tls != "none" else []),
            *settings,
        )
        own_port = free_port()
        text = CONFIGURATION.format(folder=self.folder, port=own_port) + "\n".join(account) + "\n"
        text = text.replace("[host]\n", '[host]\nuser = "root"\n', 1).replace(
            '"laptop.example.org"]', '"laptop.example.org", "home.example"]'
        )
        text = text.replace(f'maildir = "{self.folder}/maildir"', f'maildir = "{self.folder}/mail/${{user}}"')
        self.daemon = Daemon(self.folder, port=own_port, text=text)
        self.daemon.start()
        return self.daemon

    def delivered(self, user: str = OWNER) -> list[bytes]:
        """What is in somebody's mailbox."""
        return [path.read_bytes() for path in (self.folder / "mail" / user / "new").glob("*")]


@pytest.fixture
def home(folder: Path, authority: Authority) -> Iterator[Home]:
    home = Home(folder, authority)
    yield home
    if home.daemon is not None and home.daemon.process is not None:
        home.daemon.stop()


def as_it_came(delivered: bytes) -> bytes:
    """A message out of a mailbox without the four fields that we put on top; all the rest, byte by byte."""
    rest = delivered
    for name in OURS:
        field = re.match(rb"%s: .*\n(?:[\t ].*\n)*" % name, rest)
        assert field is not None, rest[:500]
        rest = rest[field.end() :]
    return rest


def as_kept(content: bytes) -> bytes:
    """What has to be in our Maildir of a file in that of Dovecot, which gives every line of it an end, CRLF."""
    lines = content.replace(b"\r\n", b"\n")
    return lines if lines.endswith(b"\n") else lines + b"\n"


def digests(contents: Iterable[bytes]) -> Counter[str]:
    return Counter(hashlib.sha256(content).hexdigest() for content in contents)


def fetch(home: Home, taken: int) -> None:
    """Fetches: so many messages come, and all reach a mailbox."""
    done = home.daemon.masqmail("fetch", "--json")
    assert done.returncode == 0, (done, home.daemon.log.read_text()[-3000:])
    (end,) = json.loads(done.stdout)
    assert (end["state"], end["taken"]) == ("done", taken), end
    home.daemon.wait_for_empty_queue(60)


# --- a thousand and more, as they are and once


def small(number: int) -> bytes:
    body = b"line %d\n" % number * (number % 40)
    return b"From: bob@far.example\nSubject: number %d\nMessage-ID: <%d@far.example>\n\n" % (number, number) + body


ODD = [
    b"Subject: dots\n\n.\n..\n...\n.x\n\n.",
    b"Subject: long\n\n" + b"x" * 1_000_000 + b"\n" + b"." * 5000 + b"\n",
    b"Subject: long field\nX-Long: " + b"y" * 20_000 + b"\n\nbody\n",
    b"Subject: no end of line\n\nlast",
    b"Subject: 8 bit \xe4\xff\n\n\xe4\xf6\xfc\xff\xfe\n" + bytes(range(128, 256)) * 100 + b"\n",
    b"Subject: CRLF\r\n\r\nalready\r\n",
    b"Subject: replies\n\n+OK\n-ERR\n.\n) UID 5 FETCH (BODY[] {3}\n* BYE\nA1 OK\n",
    b"Subject: From\n\nFrom here on\n>From there\n",
    b"Subject: blank lines\n\n\n\n\n",
    b"Subject: empty\n\n",
    b"Delivered-To: somebody@else.example\nReceived: from far.example\nX-Folded:\n a\n\tb\nSubject: header\n\nbody\n",
]
BIG = b"Subject: big\n\n" + (b"0123456789abcde" * 5 + b"\n.dot\n") * (30_000_000 // 81)
CONTENTS = [*map(small, range(1000)), *ODD, BIG]

WAYS = [("starttls", "false"), ("implicit", "true"), ("implicit", '"7d"')]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("tls", "keep"), WAYS)
def test_every_message_comes_over_pop3_as_it_is_and_once(home: Home, pop: DovecotPop, tls: str, keep: str) -> None:
    pop.fill("many", CONTENTS)
    port = pop.tls_port if tls == "implicit" else pop.port
    home.start("pop3", port, "many", *manual(keep), tls=tls)
    all_come_once(home)
    left = 0 if keep == "false" else len(CONTENTS)
    wait_until(lambda: len(pop.files("many")) == left, f"{left} messages on the server")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("tls", "keep"), WAYS)
def test_every_message_comes_over_imap_as_it_is_and_once(home: Home, imap: DovecotImap, tls: str, keep: str) -> None:
    for path in imap.left("many"):
        path.unlink()
    imap.put("many", *CONTENTS)
    port = imap.tls_port if tls == "implicit" else imap.port
    home.start("imap", port, "many", *manual(keep), tls=tls)
    all_come_once(home)
    left = 0 if keep == "false" else len(CONTENTS)
    wait_until(lambda: len(imap.left("many")) == left, f"{left} messages on the server")


def manual(keep: str) -> tuple[str, ...]:
    return (f'deliver_to = "{OWNER}"', 'interval = "manual"', f"keep = {keep}")


def all_come_once(home: Home) -> None:
    """Fetches all there is, then again, and again after a new start."""
    fetch(home, len(CONTENTS))
    assert digests(map(as_it_came, home.delivered())) == digests(map(as_kept, CONTENTS))
    fetch(home, 0)
    home.daemon.stop()
    home.daemon.start()
    fetch(home, 0)
    assert len(home.delivered()) == len(CONTENTS)


def test_what_has_no_header_section_gets_one_and_stays_as_it_is(home: Home, pop: DovecotPop) -> None:
    pop.fill("drop", [b"no header at all\n"])
    home.start("pop3", pop.tls_port, "drop", *manual("false"))
    fetch(home, 1)
    assert list(map(as_it_came, home.delivered())) == [b"\nno header at all\n"], "an empty line ends our fields"


# --- at once


def farewells(imap: DovecotImap) -> list[str]:
    """How Dovecot says that connections of the user "idle" have ended."""
    return re.findall(r"imap\(idle\)\S* Info: ((?:Disconnected|Connection closed|Logged out).*)", imap.log)


def test_mail_is_here_as_soon_as_it_is_on_the_server(home: Home, imap: DovecotImap) -> None:
    imap.folder("idle")
    home.start("imap", imap.tls_port, "idle", f'deliver_to = "{OWNER}"', 'interval = "idle"', "keep = true")
    wait_until(lambda: home.daemon.ask("status")["fetch"][0]["last_at"], "a first fetch")
    for number in range(3):
        imap.put("idle", small(number))
        wait_until(lambda count=number + 1: len(home.delivered()) == count, "the message in the mailbox", 10)
    assert digests(map(as_it_came, home.delivered())) == digests(map(small, range(3)))
    said = "the server says when there is mail; before: 1 message taken"
    wait_until(lambda: home.daemon.ask("status")["fetch"][0]["reason"].startswith(said), "the end of the last fetch")
    assert imap.log.count("Login: user=<idle>") == 2, "all of it over one connection, behind that of the first fetch"
    assert home.daemon.stop() == 0
    wait_until(lambda: len(farewells(imap)) == 2, "two connections that have ended")
    assert all("Logged out" in farewell for farewell in farewells(imap))


# --- for several people


@pytest.fixture
def provider(folder: Path) -> Iterator[Dovecot]:
    """Keeps all mail for a domain in one mailbox, and records by itself who it was for."""
    needs("dovecot")
    needs(str(LMTP))
    maildir = folder / "kept"
    maildir.mkdir()
    shutil.chown(maildir, "nobody")
    users = ("drop", "ann@home.example", "bob@home.example", "strange@home.example", "far@elsewhere.example")
    with running_dovecot(folder, maildir, dict.fromkeys(users, PASSWORD)) as dovecot:
        wait_until(dovecot.lmtp_socket.exists, "Dovecot's LMTP socket")
        yield dovecot


def subjects(contents: Iterable[bytes]) -> list[str]:
    return sorted(re.search(rb"^Subject: (.*)$", content, re.M)[1].decode() for content in contents)  # type: ignore[index]


def test_mail_for_several_people_goes_to_each_as_the_provider_recorded_it(home: Home, provider: Dovecot) -> None:
    letters = (
        ("for ann", ["ann@home.example"]),
        ("for both", ["ann@home.example", "bob@home.example"]),
        ("for bob", ["bob@home.example"]),
        ("for another domain", ["far@elsewhere.example"]),
        ("for nobody here", ["strange@home.example"]),
    )
    with smtplib.LMTP(str(provider.lmtp_socket)) as lmtp:
        for subject, recipients in letters:
            text = f"From: carl@far.example\nTo: all@lists.example\nSubject: {subject}\n\nHello\n"
            for recipient in recipients:  # smtplib knows no more of LMTP; the provider makes copies anyway
                assert lmtp.sendmail("carl@far.example", recipient, text) == {}
    (home.folder / "aliases").write_text(f"ann: {ANN}\nbob: {BOB}\npostmaster: {OWNER}\n")
    multidrop = ('envelope_header = "Delivered-To"', 'multidrop_domains = ["home.example"]', 'interval = "manual"')
    home.start("imap", provider.port, "drop", f'deliver_to = "{OWNER}"', *multidrop, tls="none")
    fetch(home, 6)
    assert subjects(home.delivered(ANN)) == ["for ann", "for both"]
    assert subjects(home.delivered(BOB)) == ["for bob", "for both"]
    owned = [content for content in home.delivered(OWNER) if b"\nAuto-Submitted:" not in content]
    (notice,) = (content for content in home.delivered(OWNER) if content not in owned)
    assert subjects(owned) == ["for another domain", "for nobody here"]
    assert all(content.startswith(b"Return-Path: <carl@far.example>\n") for content in home.delivered(ANN))
    assert b"  strange@home.example\n" in notice
    fetch(home, 0)


def test_the_ways_in_which_providers_write_the_recipient_down(home: Home, pop: DovecotPop) -> None:
    pop.fill(
        "drop",
        [
            b"X-Original-To: isp-home-ann@home.example\nSubject: one\n\n1\n",
            b"X-Original-To: <isp-home-BOB@Home.Example>\nSubject: two\n\n2\n",
            b"X-Original-To: isp-home-ann@home.example\nX-Original-To: isp-home-bob@home.example\nSubject: three\n\n",
            b"To: ann@home.example\nSubject: four\n\n4\n",
        ],
    )
    (home.folder / "aliases").write_text(f"ann: {ANN}\nbob: {BOB}\n")
    multidrop = ('envelope_header = "X-Original-To"', 'multidrop_domains = ["home.example"]', 'strip = "isp-home-"')
    home.start("pop3", pop.tls_port, "drop", f'deliver_to = "{OWNER}"', 'interval = "manual"', *multidrop)
    fetch(home, 4)
    found = {user: subjects(home.delivered(user)) for user in (ANN, BOB, OWNER)}
    assert found == {ANN: ["one", "three"], BOB: ["two"], OWNER: ["four"]}, "the topmost field is the provider's"
