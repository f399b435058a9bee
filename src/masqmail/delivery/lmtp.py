"""Delivers to a mailbox through an LMTP server, RFC 2033: Dovecot, Cyrus, whatever keeps the mail.

One message for one recipient over a connection of its own: its header section names the recipient. The reply
behind the final dot is the mailbox's verdict. Trouble with the server defers; its 5yz fails the recipient.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import assert_never

import anyio.to_thread

from masqmail.delivery.blame import outcome_of
from masqmail.delivery.job import Content
from masqmail.mail.envelope import Envelope
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, NotTried, Outcome
from masqmail.net import dial
from masqmail.net import stream as net_stream
from masqmail.net.errors import NetError
from masqmail.net.stream import Stream
from masqmail.proto.errors import PeerError
from masqmail.proto.smtp.client import Client
from masqmail.proto.smtp.clientsession import (
    BLOCK_TIME,
    REPLY_TIMES,
    ClientOptions,
    Ended,
    Phase,
    Quitted,
    Ready,
    StartTls,
    TlsWanted,
    Verdicts,
)
from masqmail.proto.smtp.compose import Outgoing
from masqmail.settings import HostPort

CONNECT_TIME = timedelta(seconds=30)

#: No reply of a server of this host is waited for longer, and nothing where none is due.
LONGEST_WAIT = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Letter:
    """A message for one recipient. `size_bytes` counts what `content` yields; `needs_8bit` tells of 8-bit text."""

    envelope: Envelope
    content: Content
    size_bytes: int
    needs_8bit: bool = False


async def deliver(address: str, letter: Letter, *, helo_name: str) -> Outcome:
    """Hands a letter to the server at the path of a Unix socket or at host:port. Trouble with it is an outcome.

    Raises `UsageError` when the content has not the size that was said; the server has not taken it then.
    """
    try:
        stream = await _connect(address)
    except NetError as error:
        return NotTried(error.culprit, error.reason)
    except ValueError as error:
        return NotTried(Culprit.CONNECTION, f"cannot connect to {address}: {error}")
    try:
        return await _Session(address, stream, letter, helo_name).run()
    finally:
        stream.abort()


async def _connect(address: str) -> Stream:
    seconds = CONNECT_TIME.total_seconds()
    if address.startswith("/"):
        return await net_stream.attach(await dial.open_unix_socket(Path(address), timeout_seconds=seconds))
    host, _, port = address.rpartition(":")
    hop = HostPort(host.strip("[]"), int(port))
    return await net_stream.attach(await dial.open_socket(hop, timeout_seconds=seconds))


class _Session:
    """One connection. `_outcome` is known before the QUIT, whose answer changes nothing."""

    def __init__(self, name: str, stream: Stream, letter: Letter, helo_name: str) -> None:
        self._name = name
        self._stream = stream
        self._letter = letter
        self._client = Client(ClientOptions(helo_name, starttls=StartTls.NEVER, lmtp=True))
        self._trouble = NotTried(Culprit.SESSION, f"{name} closed the connection")
        self._outcome: Outcome | None = None

    async def run(self) -> Outcome:
        try:
            while self._outcome is None:
                await self._turn()
        except NetError as error:
            self._give_up(NotTried(error.culprit, f"{self._name}: {error.reason}"))
        except PeerError as error:
            self._give_up(NotTried(Culprit.SESSION, f"{self._name} spoke no LMTP: {error.status.text}"))
        except OSError as error:  # the body cannot be read
            self._give_up(NotTried(Culprit.LOCAL, f"the message cannot be read: {error}"))
        assert self._outcome is not None
        if self._client.phase is Phase.READY and self._client.is_idle:
            self._client.quit()
            self._stream.write(self._client.data_to_send())
            await self._stream.aclose()
        return self._outcome

    async def _turn(self) -> None:
        """Sends what may be sent now, then hears what is answered."""
        await self._send()
        self._hear()  # what there was to send may have come to nothing
        if self._outcome is not None:
            return
        awaited = self._client.awaited
        patience = min(REPLY_TIMES[awaited], LONGEST_WAIT) if awaited else LONGEST_WAIT
        data = await self._stream.receive(patience.total_seconds())
        if not data:
            self._give_up(self._trouble)
            return
        self._client.receive(data)
        self._hear()

    async def _send(self) -> None:
        client, stream = self._client, self._stream
        while (data := client.data_to_send()) or client.body_of is not None:
            stream.write(data)
            if client.body_of is None:
                continue
            chunks = self._letter.content.chunks()
            while chunk := await anyio.to_thread.run_sync(partial(_next, chunks)):
                stream.write(client.body_data(chunk))
                await stream.drain(BLOCK_TIME.total_seconds())
            stream.write(client.body_end())
        await stream.drain(BLOCK_TIME.total_seconds())

    def _hear(self) -> None:
        while self._outcome is None and (event := self._client.next_event()) is not None:
            match event:
                case Ready():
                    letter = self._letter
                    utf8 = _is_utf8(letter.envelope)
                    self._client.start(Outgoing(letter.envelope, letter.size_bytes, letter.needs_8bit, utf8))
                case Verdicts():
                    self._conclude(event)
                case Ended(culprit, reason):
                    self._give_up(NotTried(culprit, f"{self._name} {reason}"))
                case Quitted() | TlsWanted():
                    self._give_up(self._trouble)
                case _:
                    assert_never(event)

    def _give_up(self, trouble: NotTried) -> None:
        """The connection is of no use any more. What had been sent as a whole may have arrived."""
        self._trouble = trouble
        self._client.abandon()
        while self._outcome is None and (event := self._client.next_event()) is not None:
            if isinstance(event, Verdicts):
                self._conclude(event)
        self._outcome = self._outcome or trouble

    def _conclude(self, event: Verdicts) -> None:
        """The server is part of this host: no report names it as a remote one."""
        (verdict,) = event.verdicts
        outcome = outcome_of(verdict, host=self._name, takes_dsn=False, trouble=self._trouble)
        if isinstance(outcome, Delivered):
            outcome = replace(outcome, remote_host="", handover=Handover.MAILBOX)
        elif isinstance(outcome, Deferred | Failed):
            outcome = replace(outcome, remote_host="", said_by_peer=False)
        self._outcome = outcome


def _next(chunks: Iterator[bytes]) -> bytes:
    return next(chunks, b"")


def _is_utf8(envelope: Envelope) -> bool:
    """Whether an address needs SMTPUTF8. The text of the message goes as it is, as into any other mailbox."""
    mailboxes = [recipient.mailbox for recipient in envelope.recipients]
    return any(mailbox.needs_smtputf8 for mailbox in (*mailboxes, *filter(None, [envelope.reverse_path])))
