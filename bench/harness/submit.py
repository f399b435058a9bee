"""Hands messages to a mail server: `python bench/harness/submit.py HOST:PORT FIRST COUNT SIZE SENDER RECIPIENT`.

They have the numbers from FIRST on: always the same messages, and each has a Message-ID of its own.
"""

import smtplib
import sys
from pathlib import Path

if __name__ == "__main__":  # as a script its own folder is the path, and not `bench`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from harness.limit import Letter

_LINE = b"The quick brown fox jumps over the lazy dog, and then over the next one.\r\n"


def letter(number: int, size_bytes: int, sender: str, recipient: str) -> Letter:
    """Message number so-and-so, of exactly that size."""
    header = (
        f"From: Ann <{sender}>\r\nTo: Bob <{recipient}>\r\nSubject: message {number:06}\r\n"
        f"Date: Sat, 21 Nov 2026 03:00:00 +0000\r\nMessage-ID: <bench-{number:06}@laptop.example.org>\r\n\r\n"
    ).encode()
    missing = size_bytes - len(header)
    body = (_LINE * (missing // len(_LINE) + 1))[: missing - 2] + b"\r\n"
    return Letter(sender, recipient, header + body)


def letters(first: int, count: int, size_bytes: int, sender: str, recipient: str) -> list[Letter]:
    return [letter(number, size_bytes, sender, recipient) for number in range(first, first + count)]


def main() -> None:
    address, first, count, size_bytes, sender, recipient = sys.argv[1:]
    host, _, port = address.rpartition(":")
    with smtplib.SMTP(host, int(port), local_hostname="laptop.example.org") as client:
        for one in letters(int(first), int(count), int(size_bytes), sender, recipient):
            client.sendmail(one.sender, [one.recipient], one.content)


if __name__ == "__main__":
    main()
