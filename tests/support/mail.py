"""Messages for tests, and how to find one again."""

import re


def message(identity: str, body: bytes = b"It works.\n", *, to: str = "ann@example.net") -> bytes:
    """A small message with an identity of its own, LF line ends."""
    head = f"From: me@laptop.example.org\nTo: {to}\nSubject: test {identity}\nX-Test: {identity}\n\n"
    return head.encode() + body


def identity(content: bytes) -> str:
    """The identity that `message` put into it."""
    match = re.search(rb"^X-Test: ([^\r\n]+)", content, re.MULTILINE)
    assert match, content[:300]
    return match[1].decode()
