"""The SMTP server: a `Conversation` for each client, and what they have in common.

The same code serves the LAN and the Unix socket of `sendmail`; what differs is up to the policy.
"""

import itertools
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from masqmail.mail.status import Status
from masqmail.net.listen import Listener, Report
from masqmail.net.stream import Stream
from masqmail.proto.smtp.reply import format_reply
from masqmail.proto.smtp.server import Server
from masqmail.proto.smtp.session import WAIT_SECONDS, Wait
from masqmail.reception.clerk import Intake
from masqmail.reception.conversation import Conversation
from masqmail.reception.policy import Policy, Session
from masqmail.system import events
from masqmail.system.clock import Clock

TOO_MANY_CONNECTIONS = Status(421, "4.3.2", "Too many connections, try again later")

_LAST_WORDS_SECONDS = 5.0


@dataclass
class Service:
    """All SMTP sessions of the program. `policy` and `intake` may be exchanged while it runs."""

    policy: Policy
    intake: Intake
    clock: Clock

    def __post_init__(self) -> None:
        self.is_stopping = False
        self._is_patient = True
        self._conversations: set[Conversation] = set()
        self._all_gone = anyio.Event()
        self._ids = itertools.count(1)

    def listener(
        self,
        sockets: Sequence[socket.socket],
        *,
        max_connections: int,
        report: Report,
        implicit_tls: bool = False,
    ) -> Listener:
        """What accepts connections for this service."""
        handler = self.handle_tls if implicit_tls else self.handle
        return Listener(sockets, handler, max_connections=max_connections, refuse=self.refuse, report=report)

    def refuse(self, client: str, connections: int) -> bytes:
        """What a client is told when there are too many."""
        reason = f"{connections} are connected there, as many as may be"
        events.emit(events.SESSION_REFUSED, level=logging.WARNING, client=client, reason=reason)
        return format_reply(TOO_MANY_CONNECTIONS)

    async def handle(self, stream: Stream) -> None:
        """Serves one client to the end. Raises `NetError` when the connection breaks."""
        await self.serve(stream)

    async def serve(self, stream: Stream) -> bool:
        """The same; whether it was the client who ended the session, and between two messages."""
        session = Session(next(self._ids), stream.peer, stream.credentials, stream.tls)
        conversation = Conversation(self, stream, session)
        self._conversations.add(conversation)
        try:
            return await conversation.run()
        finally:
            self._conversations.discard(conversation)
            if self.is_stopping and not self._conversations:
                self._all_gone.set()

    async def handle_tls(self, stream: Stream) -> None:
        """The same on a port where TLS begins at once, RFC 8314 §3.3."""
        context = self.policy.tls_context()
        if context is not None:  # else the certificate is gone since the listener was opened
            await stream.start_tls(context, server_side=True, timeout_seconds=WAIT_SECONDS[Wait.TLS])
            await self.handle(stream)

    def must_end(self, server: Server) -> bool:
        """Whether a session must go as soon as it waits for its client, because the program stops."""
        return self.is_stopping and (server.is_idle or not self._is_patient)

    async def stop(self, grace_seconds: float) -> None:
        """Ends every session with 421 (RFC 5321 §3.8): at once, or when its transaction or the grace time is over.

        What is being committed is still answered. The listener is closed before.
        """
        self.is_stopping = True
        if self._conversations:
            self._hang_up()
            with anyio.move_on_after(grace_seconds):
                await self._all_gone.wait()
        self._is_patient = False
        if self._conversations:
            self._hang_up()
            with anyio.move_on_after(_LAST_WORDS_SECONDS):
                await self._all_gone.wait()

    def _hang_up(self) -> None:
        for conversation in list(self._conversations):
            conversation.go_on()
