"""Asks a client's host which of its users has connected to us, RFC 1413, while the session goes on.

Nobody is let in or turned away for the answer. It goes into Received and the queue, for people.
"""

import asyncio
import logging

import anyio

from masqmail.net import dial
from masqmail.net.errors import NetError
from masqmail.proto.ident import PORT, Question
from masqmail.settings import HostPort
from masqmail.system import events

#: The whole look-up; what comes later is not wanted any more.
DEADLINE_SECONDS = 5.0

#: So long after the connection was made a first MAIL waits for the answer.
PATIENCE_SECONDS = 0.5

_READ_BYTES = 1024


class LookUp:
    """One question, asked in a task that belongs to the conversation: who begins it ends it."""

    def __init__(self, peer: HostPort, local: HostPort) -> None:
        self._peer = peer
        self._local = local
        self._question = Question(peer.port, local.port)
        self._loop = asyncio.get_running_loop()
        self._patient_until = self._loop.time() + PATIENCE_SECONDS
        self._task = self._loop.create_task(self._run())

    @property
    def user(self) -> str:
        """The answer, if it has come."""
        return self._question.user

    @property
    def is_over(self) -> bool:
        return self._task.done()

    @property
    def is_worth_waiting_for(self) -> bool:
        return not self.is_over and self._loop.time() < self._patient_until

    async def wait(self) -> None:
        """Until the answer is there, or it has taken too long for a client to wait."""
        await asyncio.wait([self._task], timeout=max(self._patient_until - self._loop.time(), 0))

    def end(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        try:
            with anyio.move_on_after(DEADLINE_SECONDS):
                await self._ask()
        except (NetError, OSError):
            pass  # most hosts have no such service
        except Exception as error:
            events.emit(events.INTERNAL_ERROR, level=logging.ERROR, exception=error)

    async def _ask(self) -> None:
        question, loop = self._question, self._loop
        address = HostPort(self._peer.host, PORT)
        sock = await dial.open_socket(address, timeout_seconds=DEADLINE_SECONDS, local_address=self._local.host)
        with sock:
            await loop.sock_sendall(sock, question.request)
            while not question.is_over:
                question.receive(await loop.sock_recv(sock, _READ_BYTES))
