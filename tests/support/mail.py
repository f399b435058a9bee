"""Messages for tests, how to hand one in, and how to find it again."""

import re
import smtplib
from collections.abc import Iterable

#: The sender of test messages: the host's root, who has a mailbox there for reports.
SENDER = "root@laptop.example.org"

_TRACE_FIELDS = rb"(?:Return-Path|X-Original-To|Delivered-To|Envelope-To|Received):"
_TRACE = re.compile(rb"(?:" + _TRACE_FIELDS + rb"[^\n]*\n(?:[ \t][^\n]*\n)*)*", re.IGNORECASE)


def message(identity: str, body: bytes = b"It works.\n", *, to: str = "ann@example.net") -> bytes:
    """A small message with an identity of its own, LF line ends."""
    head = f"From: me@laptop.example.org\nTo: {to}\nSubject: test {identity}\nX-Test: {identity}\n\n"
    return head.encode() + body


def complete_message(identity: str, body: bytes = b"It works.\n", *, fields: bytes = b"") -> bytes:
    """The same with all the fields that a submission server would add, and `fields` on top."""
    added = f"Date: Sat, 21 Nov 2026 00:40:08 +0000\nMessage-ID: <{identity}@test.example>\n"
    return fields + added.encode() + message(identity, body)


def identity(content: bytes) -> str:
    """The identity that `message` put into it."""
    match = re.search(rb"^X-Test: ([^\r\n]+)", content, re.MULTILINE)
    assert match, content[:300]
    return match[1].decode()


def without_trace(content: bytes) -> bytes:
    """What stands below the trace fields that hosts and mailboxes put on top; LF line ends."""
    match = _TRACE.match(content)
    assert match
    return content[match.end() :]


def with_crlf(content: bytes) -> bytes:
    return content.replace(b"\n", b"\r\n")


def submit(
    port: int, recipients: str | Iterable[str], *contents: bytes, sender: str = SENDER, options: Iterable[str] = ()
) -> None:
    """Sends messages (LF line ends) over one SMTP connection with DATA."""
    to = [recipients] if isinstance(recipients, str) else list(recipients)
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        for content in contents:
            client.sendmail(sender, to, with_crlf(content), mail_options=list(options))


def submit_octets(port: int, recipient: str, octets: bytes, *, sender: str = SENDER) -> None:
    """Sends one message in one BDAT, exactly these octets."""
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo()
        client.mail(sender, ["BODY=8BITMIME"])
        client.rcpt(recipient)
        client.send(b"BDAT %d LAST\r\n" % len(octets) + octets)
        code, text = client.getreply()
        assert code == 250, text
