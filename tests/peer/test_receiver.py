"""Postfix as a plain receiver: how we speak to it, and what becomes of its refusals."""

import email
import email.policy
import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from support.daemon import Daemon, smarthost_route
from support.mail import SENDER, complete_message, message, submit, with_crlf, without_trace
from support.peers import wait_until
from support.postfix import Postfix

pytestmark = pytest.mark.peer

CLEAR = 'tls = "none"'
DOORS = ("chunking", "pipelining", "lockstep", "small", "access", "ascii", "dsn")
MIXED = ("mixed", "mixeddata", "mixedlockstep")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, postfix: Postfix) -> Iterator[Daemon]:
    """Mail for DOOR.test goes through that door; some need a link that somebody declares up."""
    more = "".join(smarthost_route(door, postfix.doors[door], CLEAR) for door in DOORS)
    more += "".join(smarthost_route(door, postfix.doors[door], CLEAR, link="line") for door in ("many", *MIXED))
    daemon = Daemon(tmp_path_factory.mktemp("receiver"), more)
    daemon.start()
    yield daemon
    daemon.stop()


def report_about(daemon: Daemon, text: str) -> EmailMessage:
    """The bounce in the sender's mailbox that says this."""

    def find() -> list[bytes]:
        return [content for content in daemon.mailbox() if text.encode() in content]

    (found,) = wait_until(find, f"a report that says {text!r}")
    return email.message_from_bytes(found, policy=email.policy.default)


def test_a_server_with_chunking_gets_bdat(daemon: Daemon, postfix: Postfix) -> None:
    content = complete_message("chunking")
    submit(daemon.port, "ann@chunking.test", content)
    assert without_trace(postfix.wait_for_copy("chunking")) == content
    session = postfix.session("chunking")
    assert session["bdat"] == 1
    assert "data" not in session


def test_many_messages_go_over_one_connection(daemon: Daemon, postfix: Postfix) -> None:
    names = [f"many-{number}" for number in range(50)]
    submit(daemon.port, ["ann@many.test", "bob@many.test"], *map(message, names))
    assert daemon.masqmail("link", "up", "line").returncode == 0
    for name in names:
        wait_until(lambda name=name: len(postfix.copies(name)) == 2, f"both copies of {name}")
    session = postfix.session("many")
    assert session["mail"] == session["bdat"] == 50
    assert session["rcpt"] == 100
    assert postfix.connections("many") == 1


@pytest.mark.parametrize("door", MIXED)
def test_refused_recipients_among_many_messages_do_not_disturb_the_others(
    daemon: Daemon, postfix: Postfix, door: str
) -> None:
    lists = {
        0: [f"ann@{door}.test"],
        1: [f"nobody@{door}.test"],
        2: [f"nobody@{door}.test", f"ann@{door}.test"],
        3: [f"ann@{door}.test", f"nobody@{door}.test", f"bob@{door}.test"],
    }
    daemon.masqmail("link", "down", "line")
    expected = {}
    for number in range(24):
        name = f"{door}-{number}"
        recipients = lists[number % 4]
        submit(daemon.port, recipients, message(name))
        expected[name] = sum(not recipient.startswith("nobody") for recipient in recipients)
    daemon.masqmail("link", "up", "line")
    daemon.wait_for_empty_queue()
    for name, count in expected.items():
        wait_until(lambda name=name, count=count: len(postfix.copies(name)) >= count, f"{count} copies of {name}")
    assert {name: len(postfix.copies(name)) for name in expected} == expected
    assert postfix.connections(door) == 1
    reports = [mail for mail in daemon.mailbox() if f"nobody@{door}.test".encode() in mail]
    assert len(reports) == 18  # one for each message with a refused recipient


def test_a_server_without_chunking_gets_pipelined_data(daemon: Daemon, postfix: Postfix) -> None:
    submit(daemon.port, ["ann@pipelining.test", "bob@pipelining.test"], message("pipelining"))
    wait_until(lambda: len(postfix.copies("pipelining")) == 2, "both copies")
    session = postfix.session("pipelining")
    assert session["data"] == 1
    assert "bdat" not in session


def test_a_server_without_pipelining_gets_one_command_at_a_time(daemon: Daemon, postfix: Postfix) -> None:
    submit(daemon.port, ["ann@lockstep.test", "bob@lockstep.test"], message("lockstep-0"), message("lockstep-1"))
    wait_until(lambda: len(postfix.copies("lockstep-0") + postfix.copies("lockstep-1")) == 4, "all copies")
    session = postfix.session("lockstep")
    assert session["data"] == session["mail"] == 2
    assert "improper command pipelining" not in postfix.log


def test_a_message_above_the_servers_size_is_given_back_without_being_sent(daemon: Daemon, postfix: Postfix) -> None:
    submit(daemon.port, "ann@small.test", message("too-big", b"x" * 70 * 500 + b"\n"))
    report = report_about(daemon, "too-big")
    text, machine, _ = report.iter_parts()
    assert "takes 20000 at most" in " ".join(text.get_content().split())
    assert "said:" not in text.get_content()  # the server was not asked
    assert machine.get_payload(1)["Diagnostic-Code"].startswith("X-MasqMail;")
    assert postfix.session("small").keys() <= {"ehlo", "quit", "commands"}


def test_a_temporary_refusal_waits_and_is_delivered_later(daemon: Daemon, postfix: Postfix, access_map: Path) -> None:
    submit(daemon.port, ["busy@access.test", "ann@access.test"], message("busy"))
    postfix.wait_for_copy("busy")  # ann's
    wait_until(lambda: daemon.queue(), "the message in the queue")
    waiting = wait_until(lambda: deferred(daemon, "busy@access.test"), "the recipient is deferred")
    assert "The mailbox is busy, says Postfix" in waiting["reason"]
    assert waiting["attempts"] == 1
    assert waiting["next_attempt_at"]

    postfix.session("access")  # its end: the next one begins with the changed answers
    before = access_map.read_text()
    access_map.write_text(before.replace("450 4.2.1 The mailbox is busy, says Postfix", "OK"))
    assert daemon.masqmail("flush", "--wait").returncode == 0
    wait_until(lambda: len(postfix.copies("busy")) == 2, "the second copy")
    daemon.wait_for_empty_queue()


def deferred(daemon: Daemon, address: str) -> dict[str, str] | None:
    recipient = daemon.recipient(address)
    return recipient if recipient["state"] == "deferred" else None


def test_a_permanent_refusal_comes_back_with_the_servers_words(daemon: Daemon, postfix: Postfix) -> None:
    submit(daemon.port, ["nobody@access.test", "ann@access.test"], message("nobody"))
    report = report_about(daemon, "nobody@access.test")
    assert report.get_content_type() == "multipart/report"
    text, machine, returned = report.iter_parts()
    assert "Nobody of this name, says Postfix" in " ".join(text.get_content().split())
    fields = machine.get_payload(1)
    assert fields["Final-Recipient"] == "rfc822; nobody@access.test"
    assert fields["Action"] == "failed"
    assert fields["Status"] == "5.1.1"
    assert fields["Diagnostic-Code"].startswith("smtp; 550 5.1.1")
    assert "X-Test: nobody" in returned.as_string()
    postfix.wait_for_copy("nobody")  # ann got hers
    assert report["To"] and report["Return-Path"] == "<>"


def test_a_message_in_utf8_is_given_back_where_the_server_does_not_take_it(daemon: Daemon, postfix: Postfix) -> None:
    content = message("utf8-only").replace(b"Subject: ", "Subject: Grüße ".encode())
    submit(daemon.port, "jürgen@ascii.test", content, options=["SMTPUTF8", "BODY=8BITMIME"])
    report = report_about(daemon, "utf8-only")
    assert "5.6.7" in report.as_string()
    assert not postfix.copies("utf8-only")


def test_wishes_for_reports_are_handed_on(daemon: Daemon, postfix: Postfix) -> None:
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.ehlo()
        client.mail(SENDER, ["RET=HDRS", "ENVID=QQ314159"])
        client.rcpt("ann@dsn.test", ["NOTIFY=SUCCESS", "ORCPT=rfc822;Ann@first.example"])
        client.data(with_crlf(message("dsn")))
    copies = wait_until(
        lambda: found if len(found := postfix.copies("dsn")) == 2 else None, "the message and Postfix's report on it"
    )
    (report,) = [copy for copy in copies if b"multipart/report" in copy]
    assert b"\nOriginal-Envelope-Id: QQ314159\n" in report
    assert b"\nOriginal-Recipient: rfc822;Ann@first.example\n" in report
    assert b"\nAction: delivered\n" in report
    assert b"It works." not in report  # headers only
