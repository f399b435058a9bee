"""Messages of every legal kind arrive byte by byte: through Postfix, and from our Maildir by IMAP."""

import imaplib
import re
import shutil
from collections.abc import Iterator

import pytest

from support.daemon import Daemon, smarthost_route
from support.dovecot import running_dovecot
from support.mail import complete_message, submit, submit_octets, with_crlf, without_trace
from support.peers import needs, open_way, wait_until
from support.postfix import Postfix

pytestmark = pytest.mark.peer

#: An account that every Debian has and that is not root.
ACCOUNT = "mail"
USER, PASSWORD = "ann", "open sesame"

_FOLDED = b"Subject: folded\n\twith a tab\n  and with blanks\n"
_ODD_NAMES = (
    b"x-LOWER-upper: 1\nX_Under.score!:2\nX-Empty:\nX-Blanks:   three  \nTO: Bob <bob@example.net> (a comment)\n"
)
_REPEATED = b"Received: from far (far [192.0.2.1]) by near; Sat, 21 Nov 2026 00:00:00 +0000\nX-Loop: 1\nX-Loop: 2\n"
_MIME = b'MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary="=_x"\n'
_PARTS = b"--=_x\nContent-Type: text/plain\n\none\n--=_x\n\n.\n..\n--=_x--\n"

#: Name: extra fields and body, LF line ends.
CORPUS: dict[str, tuple[bytes, bytes]] = {
    "plain": (b"", b"It works.\n"),
    "empty": (b"", b""),
    "blank-line": (b"", b"\n"),
    "trailing-blank-lines": (b"", b"text\n\n\n\n"),
    "leading-blank-lines": (b"", b"\n\n\ntext\n"),
    "dots": (b"", b".\n..\n...\n.text\ntext.\n.\n"),
    "only-dots": (b"", b".\n"),
    "blanks-at-line-ends": (b"", b"text \n\t\n  \n"),
    "mbox-like": (b"", b"From here\n>From there\nFrom: nobody\n"),
    "like-commands": (b"", b"QUIT\nMAIL FROM:<a@b.test>\nRSET\n"),
    "latin1": (b"", bytes(range(0xA0, 0x100)) + b"\n"),
    "every-octet-but-three": (b"", bytes(octet for octet in range(1, 256) if octet not in b"\r\n") + b"\n"),
    "utf8": (b"", "Grüße aus Köln, 世界\n".encode()),
    "long-line": (b"", b"x" * 100_000 + b"\n"),
    "limit-line": (b"", b"x" * 998 + b"\n" + b"." + b"y" * 997 + b"\n"),
    "folded-fields": (_FOLDED, b"text\n"),
    "odd-names": (_ODD_NAMES, b"text\n"),
    "repeated-fields": (_REPEATED, b"text\n"),
    "long-field": (b"References:" + b"".join(b"\n <%060d@example.net>" % n for n in range(300)) + b"\n", b"text\n"),
    "multipart": (_MIME, _PARTS),
    "latin1-header": (b"X-Name: J\xfcrgen\n", b"text\n"),
    "five-megabytes": (b"", b"".join(b"%069d\n" % n for n in range(5_000_000 // 70))),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, postfix: Postfix) -> Iterator[Daemon]:
    doors = ("bdat", "dot")
    more = "".join(smarthost_route(door, postfix.doors[door], 'tls = "none"') for door in doors)
    daemon = Daemon(tmp_path_factory.mktemp("content"), more)
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def imap(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[imaplib.IMAP4]:
    """A mail reader in the Maildir that we deliver to, as its owner."""
    needs("dovecot")
    maildir = daemon.folder / "maildir"
    maildir.mkdir()
    shutil.chown(maildir, ACCOUNT, ACCOUNT)
    open_way(maildir)
    with (
        running_dovecot(tmp_path_factory.mktemp("reader"), maildir, {USER: PASSWORD}) as dovecot,
        imaplib.IMAP4("127.0.0.1", dovecot.port) as reader,
    ):
        reader.login(USER, PASSWORD)
        yield reader


def fetched(imap: imaplib.IMAP4, wanted: str) -> bytes | None:
    """The message with this identity as Dovecot serves it, CRLF line ends."""
    imap.select("INBOX")
    _, (numbers,) = imap.search(None, "HEADER", "X-Test", wanted)
    if not numbers:
        return None
    assert len(numbers.split()) == 1
    _, answer = imap.fetch(numbers.decode(), "(BODY.PEEK[])")
    content: bytes = answer[0][1]
    return content


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("door", ["bdat", "dot"])
def test_postfix_gets_what_was_sent(daemon: Daemon, postfix: Postfix, door: str, name: str) -> None:
    fields, body = CORPUS[name]
    content = complete_message(f"{door}-{name}", body, fields=fields)
    submit(daemon.port, f"ann@{door}.test", content, options=["BODY=8BITMIME"])
    assert_same(postfix.wait_for_copy(f"{door}-{name}"), content)


@pytest.mark.parametrize("name", CORPUS)
def test_dovecot_serves_what_was_sent(daemon: Daemon, imap: imaplib.IMAP4, name: str) -> None:
    fields, body = CORPUS[name]
    content = complete_message(f"imap-{name}", body, fields=fields)
    submit(daemon.port, f"{ACCOUNT}@laptop.example.org", content, options=["BODY=8BITMIME"])
    served = wait_until(lambda: fetched(imap, f"imap-{name}"), f"message {name} in Dovecot")
    assert_same(served.replace(b"\r\n", b"\n"), content)
    assert b"\n" not in served.replace(b"\r\n", b"")


def assert_same(arrived: bytes, sent: bytes) -> None:
    """The message sent is all that stands below trace fields. Tells where it differs, and prints no megabytes."""
    found = arrived[-len(sent) :]
    if found != sent:
        pairs = enumerate(zip(found, sent, strict=False))
        at = next((index for index, (one, other) in pairs if one != other), min(len(found), len(sent)))
        here = slice(max(0, at - 40), at + 40)
        pytest.fail(f"{len(sent)} octets were sent; from {here.start} on {found[here]!r} came for {sent[here]!r}")
    assert without_trace(arrived[: -len(sent)]) == b""


def test_a_header_in_utf8_arrives_unchanged(daemon: Daemon, postfix: Postfix) -> None:
    content = complete_message("smtputf8", fields="Subject: Grüße\nX-Who: Jürgen <jürgen@köln.example>\n".encode())
    submit(daemon.port, "ann@bdat.test", content, options=["SMTPUTF8", "BODY=8BITMIME"])
    assert_same(postfix.wait_for_copy("smtputf8"), content)


@pytest.mark.parametrize("recipient", ["ann@bdat.test", "ann@dot.test"])
def test_a_body_without_a_last_line_end_gets_one(daemon: Daemon, postfix: Postfix, recipient: str) -> None:
    name = f"unended-{recipient}"
    octets = with_crlf(complete_message(name, b"one\ntwo"))
    submit_octets(daemon.port, recipient, octets)
    assert_same(postfix.wait_for_copy(name), complete_message(name, b"one\ntwo\n"))


def test_missing_fields_are_added_below_the_others(daemon: Daemon, postfix: Postfix) -> None:
    head = b"Subject: bare\nX-Test: bare\n"
    submit(daemon.port, "ann@bdat.test", head + b"\ntext\n")
    found = without_trace(postfix.wait_for_copy("bare"))
    assert found.startswith(head)
    assert found.endswith(b"\n\ntext\n")
    added = found.removeprefix(head).removesuffix(b"\n\ntext\n").split(b"\n")
    assert [re.split(rb":", field)[0] for field in added] == [b"Date", b"From", b"Message-ID"]
