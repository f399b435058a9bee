"""Postfix, Exim and OpenSMTPD as receivers: each of many messages arrives once, over one connection."""

import re
import smtplib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.authority import Authority, Certificate
from support.daemon import Daemon, smarthost_route
from support.inbox import Inbox
from support.mail import complete_message, submit, without_trace
from support.peers import needs, wait_until
from support.postfix import running_postfix
from support.tlsfront import tls_front
from support.unpacked import running_receiver

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]

MESSAGES = 50

#: The round trips of a connection that are no message's. To TCP, greeting, EHLO and QUIT come those of TLS.
OTHER_ROUND_TRIPS = {"none": 4, "implicit": 4 + 1, "starttls": 4 + 3}


@dataclass(frozen=True)
class Receiver:
    """A server, and the ports at which it is reached by the `tls` of a route."""

    inbox: Inbox
    ports: dict[str, int]


@pytest.fixture(scope="module")
def streaming(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[Receiver]:
    """Postfix or Exim, which have PIPELINING and CHUNKING."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "postfix":
        needs("postfix")
        with running_postfix(folder, certificate=certificate.chain, private_key=certificate.private_key) as postfix:
            yield Receiver(postfix, {"none": postfix.port, "starttls": postfix.port})
    else:
        needs("apt-get", "dpkg", "unshare")
        with running_receiver(request.param, folder, certificate) as (inbox, port):
            yield Receiver(inbox, {"none": port, "starttls": port})


@pytest.fixture(scope="module")
def opensmtpd(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, certificate: Certificate
) -> Iterator[Receiver]:
    """OpenSMTPD, which has neither and hangs up on those who do not wait for its replies."""
    needs("apt-get", "dpkg", "unshare")
    folder = tmp_path_factory.mktemp("opensmtpd")
    with running_receiver("opensmtpd", folder, certificate) as (inbox, port):
        if can_start_tls(port, authority):
            yield Receiver(inbox, {"none": port, "starttls": port})
            return
        with tls_front(port, certificate) as front:
            yield Receiver(inbox, {"none": port, "implicit": front})


def can_start_tls(port: int, authority: Authority) -> bool:
    """OpenSMTPD 6.8, which Debian 12 has, cannot with OpenSSL 3."""
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            client.starttls(context=ssl.create_default_context(cafile=authority.ca))
    except ssl.SSLError:
        return False
    return True


def recipients_of_messages(prefix: str) -> dict[str, int]:
    """How many each has, by its name: one or two."""
    return {f"{prefix}-{number}": 1 + number % 2 for number in range(MESSAGES)}


def round_trips_of_messages(folder: Path, receiver: Receiver, authority: Authority, tls: str) -> int:
    """Lets messages wait for the line and sees each come once for each recipient; how long their connection took."""
    settings = f'tls = "{tls}"\n' + (f'tls_ca = "{authority.ca}"' if tls != "none" else "")
    daemon = Daemon(folder, smarthost_route("far", receiver.ports[tls], settings, link="line"))
    copies, contents = recipients_of_messages(tls), {}
    daemon.start()
    try:
        for name, count in copies.items():
            # every tenth is too big for one segment
            body = b".dots\n" + (b"x" * 70 + b"\n") * (500 if name.endswith("5") else 1)
            contents[name] = complete_message(name, body)
            submit(daemon.port, ["ann@far.test", "bob@far.test"][:count], contents[name])
        assert daemon.masqmail("link", "up", "line").returncode == 0
        daemon.wait_for_empty_queue(60)
        for name, count in copies.items():
            receiver.inbox.wait_for_copies(name, count)
        wait_until(lambda: connections(daemon), "the end of the connection")
    finally:
        daemon.stop()
    for name, content in contents.items():
        assert [without_trace(copy) for copy in receiver.inbox.copies(name)] == [content] * copies[name]
    ((messages, round_trips),) = connections(daemon)
    assert messages == MESSAGES
    return round_trips - OTHER_ROUND_TRIPS[tls]


def connections(daemon: Daemon) -> list[tuple[int, int]]:
    """How many messages and how many round trips each connection had that is closed."""
    found = re.findall(r"connection closed.* messages=(\d+) .*round_trips=(\d+)", daemon.log.read_text())
    return [(int(messages), int(round_trips)) for messages, round_trips in found]


@pytest.mark.parametrize("streaming", ["postfix", "exim"], indirect=True)
@pytest.mark.parametrize("tls", ["none", "starttls"])
def test_fifty_messages_stream_to_a_server_that_takes_chunks(
    tmp_path: Path, streaming: Receiver, authority: Authority, tls: str
) -> None:
    """With DATA, or with a wait after each message, there would be one round trip for each."""
    assert round_trips_of_messages(tmp_path / "host", streaming, authority, tls) <= MESSAGES / 5


@pytest.mark.parametrize("is_protected", [False, True], ids=["clear", "protected"])
def test_fifty_messages_go_to_opensmtpd_without_a_guess(
    tmp_path: Path, opensmtpd: Receiver, authority: Authority, is_protected: bool
) -> None:
    """It has answered MAIL, each RCPT, DATA and the content before the next one leaves."""
    (tls,) = [tls for tls in opensmtpd.ports if (tls != "none") == is_protected]
    round_trips = round_trips_of_messages(tmp_path / "host", opensmtpd, authority, tls)
    assert round_trips == sum(3 + count for count in recipients_of_messages(tls).values())


def test_opensmtpd_hangs_up_on_those_who_guess(opensmtpd: Receiver) -> None:
    with smtplib.SMTP("127.0.0.1", opensmtpd.ports["none"], timeout=30) as client:
        client.ehlo()
        client.send(b"MAIL FROM:<>\r\nRCPT TO:<ann@far.test>\r\n")
        code, text = client.getreply()
        assert (code, b"Pipelining not supported" in text) == (500, True)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.getreply()
