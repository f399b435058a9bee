"""One SMTP client: bytes from its `Stream` into the machine in `proto.smtp.server`, and its replies back.

Nearly everything happens at once, in the call by which the event loop brings the bytes: no task is woken for a
command. A message's 250 is given by the call that ends its commit, and the next message is read meanwhile. What
takes time and is rare is done by the task of the connection as an errand, one at a time, with everything else
waiting: a login, the start of TLS, a client that does not take its replies.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from masqmail.mail.status import LOCAL_ERROR, SHUTTING_DOWN, TIMED_OUT, Status
from masqmail.net.errors import NetError, StreamTimeout, TlsFailure
from masqmail.net.stream import Stream
from masqmail.proto.sasl import Credentials
from masqmail.proto.smtp.command import Mail, Rcpt
from masqmail.proto.smtp.replies import LOGIN_UNAVAILABLE
from masqmail.proto.smtp.server import Server
from masqmail.proto.smtp.session import (
    WAIT_SECONDS,
    Authenticate,
    Begin,
    Body,
    Close,
    Discard,
    End,
    Event,
    StartTls,
    Wait,
)
from masqmail.reception.clerk import Clerk, Commit, Office
from masqmail.reception.policy import Session
from masqmail.system import events

#: After so many a client that floods us with commands lets the others have a turn.
EVENTS_IN_A_ROW = 100

_TEXT = (Wait.DATA, Wait.CHUNK)

Errand = Callable[[], Awaitable[None]]


class Host(Office, Protocol):
    """The service, as a conversation sees it."""

    is_stopping: bool

    def must_end(self, server: Server) -> bool: ...


class Conversation:
    """One client, from the greeting to the end of the connection."""

    def __init__(self, host: Host, stream: Stream, session: Session) -> None:
        self._host = host
        self._stream = stream
        self._session = session
        self._clerk = Clerk(host, session)
        trace = self._trace if events.is_tracing() else None
        self._server = Server(self._clerk.offers(), is_tls=session.tls is not None, trace=trace)
        self._loop = asyncio.get_running_loop()
        self._commits: deque[Commit] = deque()
        self._is_working = False  # in the midst of `go_on`
        self._is_busy = False  # an errand is under way, or the others have their turn: `go_on` does nothing
        self._errand: asyncio.Future[Errand | None] = self._loop.create_future()  # for the task; None is the end
        self._has_replied = False  # and the client has its time anew
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0

    async def run(self) -> None:
        """Raises `NetError` when the connection breaks."""
        session = self._session
        events.emit(events.SESSION_STARTED, level=logging.DEBUG, session_id=session.id, client=session.client)
        try:
            self._stream.watch(self.go_on)
            self.go_on()
            while (errand := await self._errand) is not None:
                self._errand = self._loop.create_future()
                await errand()
                self._is_busy = False
                self.go_on()
        except StreamTimeout:
            self._server.close(TIMED_OUT)
            self._write()
        finally:
            self._end()
            events.emit(
                events.SESSION_ENDED,
                level=logging.DEBUG,
                session_id=session.id,
                client=session.client,
                messages=self._clerk.messages,
            )

    def go_on(self) -> None:
        """Does all that can be done now; called whenever something is new."""
        if self._is_busy or self._is_working:
            return
        self._is_working = True
        try:
            self._work()
        except Exception as error:
            self._fail(error)
        finally:
            self._is_working = False

    # what is done at once

    def _work(self) -> None:
        """Reads, decides and replies, until it has to wait for somebody or it is the turn of others."""
        server, stream = self._server, self._stream
        for _ in range(EVENTS_IN_A_ROW):
            while (event := server.next_event()) is None:
                if server.output:
                    self._write()
                if stream.is_full:
                    self._send_task(self._drain)
                    return
                if not self._read():
                    return
            self._handle(event)
            if self._is_busy:
                return
        self._is_busy = True
        self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        if not self._errand.done():  # else we were cancelled meanwhile
            self._is_busy = False
            self.go_on()

    def _write(self) -> None:
        """Sends the replies that have piled up."""
        if output := self._server.take_output():
            self._stream.write(output)
            self._has_replied = True

    def _read(self) -> bool:
        """Gives the machine what has arrived; false when there is nothing, or nothing may be read now."""
        server, host = self._server, self._host
        if self._commits:
            if server.is_blocked or server.wait is Wait.NOTHING or host.is_stopping:
                return False
        elif host.is_stopping and host.must_end(server):
            server.close(SHUTTING_DOWN)
            self._write()
        data: bytes | None = b""
        if server.wait is not Wait.NOTHING:
            try:
                data = self._stream.take()
            except NetError as failure:
                if not self._commits:
                    self._fail(failure)
                return False
        if data:
            server.receive(data)
            return True
        if data is None:
            self._wait_for_client()
        elif not self._commits:  # the end, on one side or the other
            self._send_task(None)
        return False

    def _handle(self, event: Event) -> None:
        """Does what the machine asks for, and answers what wants an answer now.

        A fault of ours costs this one answer, not the session.
        """
        server, clerk = self._server, self._clerk
        status: Status | None = None
        try:
            match event:
                case Body():
                    clerk.write(event.data)
                case Mail():
                    status = clerk.check_sender(event, server.helo_name)
                case Rcpt():
                    status = clerk.check_recipient(event)
                case Begin():
                    status = clerk.begin(event, server.protocol)
                case End():
                    commit = clerk.commit()
                    self._commits.append(commit)
                    commit.future.add_done_callback(self._conclude)
                case Discard():
                    clerk.discard()
                case Authenticate():
                    self._send_task(partial(self._log_in, event.credentials))
                case StartTls():
                    self._send_task(self._start_tls)
                case Close():
                    pass  # we see that the machine waits for nothing
        except Exception as error:
            clerk.report_fault(error)
            clerk.discard()
            if isinstance(event, Mail | Rcpt | Begin):
                status = LOCAL_ERROR
        if status is not None:
            server.answer(status)

    def _conclude(self, future: asyncio.Future[str]) -> None:
        """Answers the messages whose commits have ended, in their order."""
        commits = self._commits
        while commits and commits[0].future.done():
            self._server.conclude(self._clerk.verdict(commits.popleft()))
        self.go_on()

    # time

    def _wait_for_client(self) -> None:
        """Sees to it that `_ring` is called when the client takes too long; most often a timer is set already.

        It has its time anew behind a reply and with each piece of text, not with the bytes of a command.
        """
        wait = self._server.wait
        if self._has_replied or wait in _TEXT:
            self._has_replied = False
            self._deadline = self._loop.time() + WAIT_SECONDS[wait]
        if self._timer is not None and self._rings_at > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._rings_at = self._deadline
            self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._is_busy or self._commits:
            return  # the client waits for us
        if self._loop.time() < self._deadline:  # it was renewed since
            self._wait_for_client()
        else:
            self._fail(StreamTimeout("the client was silent for too long"))

    # what the task of the connection does

    def _send_task(self, errand: Errand | None) -> None:
        """Has the task do something, or end the conversation; everything else waits."""
        self._is_busy = True
        if not self._errand.done():  # else we were cancelled
            self._errand.set_result(errand)

    def _fail(self, error: Exception) -> None:
        """Has the task raise an error, which ends the conversation."""
        self._is_busy = True
        if not self._errand.done():
            self._errand.set_exception(error)

    async def _drain(self) -> None:
        await self._stream.drain(WAIT_SECONDS[Wait.COMMAND])

    async def _log_in(self, credentials: Credentials) -> None:
        self._write()
        try:
            status = await self._clerk.authenticate(credentials)
        except Exception as error:
            self._clerk.report_fault(error)
            status = LOGIN_UNAVAILABLE
        self._server.answer(status)

    async def _start_tls(self) -> None:
        """Begins TLS. Whatever fails, no plain text may follow, so the connection ends."""
        self._write()
        context = self._host.policy.tls_context()
        if context is None:
            raise TlsFailure("there is no certificate any more")  # the configuration has changed since EHLO
        await self._stream.start_tls(context, server_side=True, timeout_seconds=WAIT_SECONDS[Wait.TLS])
        self._server.tls_started(self._clerk.tls_started(self._stream.tls))
        self._has_replied = True

    def _end(self) -> None:
        self._is_busy = True
        self._stream.watch(None)
        if self._timer is not None:
            self._timer.cancel()
        self._clerk.discard()
        for commit in self._commits:  # we were cancelled; who is told nothing may send it again
            commit.future.cancel()
        self._commits.clear()

    def _trace(self, direction: str, line: bytes) -> None:
        events.trace(direction, line, session_id=self._session.id)
