"""Exim and OpenSMTPD as receivers of all mail for one host: every message arrives once, over one connection."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.authority import Authority
from support.daemon import Daemon, smarthost_route
from support.inbox import Inbox
from support.mail import complete_message, submit, without_trace
from support.peers import needs, wait_until
from support.unpacked import running_receiver

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]

MESSAGES = 50

#: How each route protects its connection.
TLS = {"clear": 'tls = "none"', "protected": 'tls = "starttls"\ntls_ca = "{ca}"'}


@pytest.fixture(scope="module", params=("exim", "opensmtpd"))
def receiver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[tuple[Inbox, int]]:
    needs("apt-get", "dpkg", "unshare")
    certificate = authority.issue("127.0.0.1")
    folder = tmp_path_factory.mktemp(request.param)
    with running_receiver(request.param, folder, certificate.chain, certificate.private_key) as receiver:
        yield receiver


@pytest.fixture(params=TLS)
def protection(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def sessions(daemon: Daemon) -> list[int]:
    """How many messages went over each connection that is closed."""
    return [int(count) for count in re.findall(r"connection closed.* messages=(\d+)", daemon.log.read_text())]


def test_fifty_messages_that_waited_arrive_once_over_one_connection(
    tmp_path: Path, receiver: tuple[Inbox, int], authority: Authority, protection: str
) -> None:
    inbox, port = receiver
    settings = TLS[protection].format(ca=authority.ca)
    daemon = Daemon(tmp_path / "host", smarthost_route("far", port, settings, link="line"))
    # half of them to two recipients, every tenth too big for one segment
    copies = {f"{protection}-{number}": 1 + number % 2 for number in range(MESSAGES)}
    daemon.start()
    try:
        for name, count in copies.items():
            body = b".dots\n" + (b"x" * 70 + b"\n") * (500 if name.endswith("5") else 1)
            submit(daemon.port, ["ann@far.test", "bob@far.test"][:count], complete_message(name, body))
        assert daemon.masqmail("link", "up", "line").returncode == 0
        daemon.wait_for_empty_queue(60)
        for name, count in copies.items():
            wait_until(lambda name=name, count=count: len(inbox.copies(name)) >= count, f"{count} copies of {name}")
    finally:
        daemon.stop()
    assert {name: len(inbox.copies(name)) for name in copies} == copies
    assert {without_trace(copy)[-3:] for copy in inbox.inbox()} == {b"xx\n"}
    assert sessions(daemon) == [MESSAGES]
