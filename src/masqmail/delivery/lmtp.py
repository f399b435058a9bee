"""Delivers to a mailbox through an LMTP server, RFC 2033: Dovecot, Cyrus, whatever keeps the mail.

One message for one recipient over a connection of its own: its header section names the recipient. The reply
behind the final dot is the mailbox's verdict. Trouble with the server defers; its 5yz fails the recipient.

It runs where local deliveries run, as the recipient's user: in a thread, or in a worker of the privileged parent.
So it waits for one socket at a time and has no event loop.
"""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import assert_never

from masqmail.delivery.blame import outcome_of
from masqmail.delivery.hostline import HostLine, LineError
from masqmail.frozen import frozen
from masqmail.mail.envelope import Envelope
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, NotTried, Outcome
from masqmail.proto.errors import PeerError
from masqmail.proto.smtp.client import Client
from masqmail.proto.smtp.clientsession import (
    BLOCK_TIME,
    REPLY_TIMES,
    Answered,
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

CONNECT_SECONDS = 30.0

#: No reply of a server of this host is waited for longer, and nothing where none is due.
LONGEST_WAIT_SECONDS = 300.0


@frozen
class Letter:
    """A message for one recipient. `size_bytes` counts what `pieces` yields; `needs_8bit` tells of 8-bit text."""

    envelope: Envelope
    pieces: Iterable[bytes]
    size_bytes: int
    needs_8bit: bool = False


def deliver(address: str, letter: Letter, *, helo_name: str, stop: threading.Event | None = None) -> Outcome:
    """Hands a letter to the server at the path of a Unix socket or at host:port. Trouble with it is an outcome.

    Once `stop` is set it is given up soon after. Raises `UsageError` when the content has not the size that was
    said; the server has not taken it then.
    """
    try:
        line = HostLine.open(address, CONNECT_SECONDS, stop or threading.Event())
    except LineError as error:
        return NotTried(Culprit.CONNECTION, str(error))
    try:
        return _Session(address, line, letter, helo_name).run()
    finally:
        line.close()


class _Unreadable(Exception):
    """The message itself cannot be read."""


class _Session:
    """One connection. `_outcome` is known before the QUIT, whose answer changes nothing."""

    def __init__(self, name: str, line: HostLine, letter: Letter, helo_name: str) -> None:
        self._name = name
        self._line = line
        self._letter = letter
        self._client = Client(ClientOptions(helo_name, starttls=StartTls.NEVER, lmtp=True))
        self._trouble = NotTried(Culprit.SESSION, f"{name} closed the connection")
        self._outcome: Outcome | None = None

    def run(self) -> Outcome:
        try:
            while self._outcome is None:
                self._turn()
        except LineError as error:
            self._give_up(NotTried(Culprit.CONNECTION, f"{self._name}: {error}"))
        except PeerError as error:
            self._give_up(NotTried(Culprit.SESSION, f"{self._name} spoke no LMTP: {error.status.text}"))
        except _Unreadable as error:
            self._give_up(NotTried(Culprit.LOCAL, f"the message cannot be read: {error}"))
        assert self._outcome is not None
        if self._client.phase is Phase.READY and self._client.is_idle:
            self._client.quit()
            self._line.put_last(self._client.data_to_send())
        return self._outcome

    def _turn(self) -> None:
        """Sends what may be sent now, then hears what is answered."""
        try:
            self._send()
        except LineError:  # what the server said before it hung up counts
            self._client.receive(self._line.take())
            self._hear()
            raise
        self._hear()  # what there was to send may have come to nothing
        if self._outcome is not None:
            return
        awaited = self._client.awaited
        patience = REPLY_TIMES[awaited].total_seconds() if awaited else LONGEST_WAIT_SECONDS
        data = self._line.receive(min(patience, LONGEST_WAIT_SECONDS))
        if not data:
            self._give_up(self._trouble)
            return
        self._client.receive(data)
        self._hear()

    def _send(self) -> None:
        client, line, patience = self._client, self._line, BLOCK_TIME.total_seconds()
        while (data := client.data_to_send()) or client.body_of is not None:
            line.put(data, patience)
            if client.body_of is None:
                continue
            pieces = iter(self._letter.pieces)
            while piece := _next(pieces):
                line.put(client.body_data(piece), patience)
            line.put(client.body_end(), patience)
        line.flush(patience)

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
                case Quitted() | TlsWanted() | Answered():
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
        match outcome:
            case Delivered():
                self._outcome = replace(outcome, remote_host="", handover=Handover.MAILBOX)
            case Deferred() | Failed():
                self._outcome = replace(outcome, remote_host="", said_by_peer=False)
            case NotTried():
                self._outcome = replace(outcome, remote_host="")
            case _:
                assert_never(outcome)


def _next(pieces: Iterator[bytes]) -> bytes:
    """The next piece of the message, or nothing behind its end. Raises `_Unreadable`."""
    try:
        return next(pieces, b"")
    except OSError as error:
        raise _Unreadable(str(error)) from error


def _is_utf8(envelope: Envelope) -> bool:
    """Whether an address needs SMTPUTF8. The text of the message goes as it is, as into any other mailbox."""
    mailboxes = [recipient.mailbox for recipient in envelope.recipients]
    return any(mailbox.needs_smtputf8 for mailbox in (*mailboxes, *filter(None, [envelope.reverse_path])))
