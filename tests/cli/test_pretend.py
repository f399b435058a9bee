"""The pretend provider."""

import smtplib
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from masqmail.cli.pretend import Provider

LETTER = b"Subject: Hello\r\n\r\n.A line with a dot\r\n"


def send(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail("me@laptop.example.org", ["ann@example.net", "bob@example.com"], LETTER)
        client.sendmail("", ["ann@example.net"], LETTER)


@pytest.mark.anyio
async def test_it_takes_everything_and_keeps_envelope_and_letter_in_a_maildir(tmp_path: Path) -> None:
    folder = tmp_path / "arrived"
    provider = Provider(folder)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(provider.serve)
        await anyio.to_thread.run_sync(send, provider.port)
        with anyio.fail_after(5):
            first, second = await provider.arrivals.receive(), await provider.arrivals.receive()
        tasks.cancel_scope.cancel()
    assert first.file.parent == folder / "new"
    assert first.file.read_bytes() == (
        b"Return-Path: <me@laptop.example.org>\nDelivered-To: ann@example.net\nDelivered-To: bob@example.com\n"
        b"Subject: Hello\n\n.A line with a dot\n"
    )
    assert str(first) == "from me@laptop.example.org for ann@example.net, bob@example.com, 38 bytes"
    assert second.file.read_bytes().startswith(b"Return-Path: <>\n")
    assert second.envelope.reverse_path is None
