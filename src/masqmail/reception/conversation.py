"""One SMTP client: bytes from its `Stream` into the machine in `proto.smtp.server`, and its replies back.

Nearly everything happens at once, in the call by which the event loop brings the bytes: no task is woken for a
command. A message's 250 is given by the call that ends its commit, and the next message is read meanwhile. What
takes time and is rare is done by the task of the connection as an errand, one at a time, with everything else
waiting: a login, the start of TLS, a client that does not take its replies, one that fetches its mail.
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
from masqmail.proto.smtp.command import Atrn, Etrn, Mail, Rcpt
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
from masqmail.proto.smtp.turn import TURN_IMPOSSIBLE, TURNING
from masqmail.reception.clerk import Clerk, Commit, Office
from masqmail.reception.ident import LookUp
from masqmail.reception.policy import Session
from masqmail.system import events

#: After so many a client that floods us with commands lets the others have a turn.
EVENTS_IN_A_ROW = 100

#: A client's time is measured in so many parts; one that is silent may have a part more than it should.
PARTS_OF_TIME = 4

_TEXT = (Wait.DATA, Wait.CHUNK)
_NOTHING = Wait.NOTHING  # named once: to look a member up in its Enum takes Python 3.11 as long as a call

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
        self._has_turned = False  # the connection is another machine's
        self._has_time_anew = False  # the client
        self._silent_parts = 0  # of its time
        self._timer: asyncio.TimerHandle | None = None
        self._look_up: LookUp | None = None  # of the client's user, until its answer has been noted

    async def run(self) -> bool:
        """Whether the client has ended the session, and between two messages. Raises `NetError` when it breaks."""
        session = self._session
        events.emit(events.SESSION_STARTED, level=logging.DEBUG, session_id=session.id, client=session.client)
        try:
            self._stream.watch(self.go_on)
            self._measure_time()
            if self._clerk.asks_ident() and self._stream.peer is not None and self._stream.local is not None:
                self._look_up = LookUp(self._stream.peer, self._stream.local)
            self.go_on()
            while (errand := await self._errand) is not None:
                self._errand = self._loop.create_future()
                await errand()
                self._is_busy = False
                self.go_on()
            return self._server.is_idle
        except StreamTimeout:
            self._server.close(TIMED_OUT)
            self._write()
            return False
        finally:
            self._end()
            events.emit(
                events.SESSION_ENDED,
                level=logging.DEBUG,
                session_id=session.id,
                client=session.client,
                messages=self._clerk.messages,
            )

    # what is done at once

    def go_on(self) -> None:
        """Reads, decides and replies, until it has to wait for somebody or it is the turn of others.

        Called whenever something is new.
        """
        if self._is_busy or self._is_working:
            return
        self._is_working = True
        server, stream = self._server, self._stream
        try:
            left = EVENTS_IN_A_ROW
            while left:
                left -= 1
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
        except Exception as error:
            self._fail(error)
        finally:
            self._is_working = False

    def _take_turn(self) -> None:
        if not self._errand.done():  # else we were cancelled meanwhile
            self._is_busy = False
            self.go_on()

    def _write(self) -> None:
        """Sends the replies that have piled up."""
        if output := self._server.take_output():
            self._has_time_anew = True
            self._stream.write(output)

    def _read(self) -> bool:
        """Gives the machine what has arrived; false when there is nothing, or nothing may be read now."""
        server, stream = self._server, self._stream
        if self._host.is_stopping and not self._may_go_on():
            return False
        wait = server.wait
        if wait is _NOTHING:
            return self._end_of_input()
        if self._commits and server.is_blocked:
            return False
        if not stream.is_readable:
            return False
        try:
            data = stream.take()
        except NetError as failure:
            if not self._commits:
                self._fail(failure)
            return False
        if data:
            if wait in _TEXT:
                self._has_time_anew = True
            server.receive(data)
            return True
        return data is not None and self._end_of_input()

    def _may_go_on(self) -> bool:
        """Whether more may be read while the program stops; else the client is told when nothing is owed to it."""
        if self._commits:
            return False
        if self._host.must_end(self._server):
            self._server.close(SHUTTING_DOWN)
            self._write()
        return True

    def _end_of_input(self) -> bool:
        """Nothing more is read, for one side has ended it; what is being stored is still answered."""
        if not self._commits:
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
                    if self._look_up is not None and self._must_wait(self._look_up, event):
                        return
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
                case Atrn():
                    self._send_task(partial(self._turn, event))
                case Etrn():
                    self._send_task(partial(self._start_queue, event))
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

    def _must_wait(self, look_up: LookUp, event: Event) -> bool:
        """Whether the client's user may yet be told; then the event is put off for a moment."""
        if look_up.is_worth_waiting_for:
            self._send_task(partial(self._wait_for_user, look_up, event))
            return True
        self._clerk.identify(look_up.user)
        if look_up.is_over:
            self._look_up = None
        return False

    def _conclude(self, future: asyncio.Future[str]) -> None:
        """Answers the messages whose commits have ended, in their order."""
        commits = self._commits
        while commits and commits[0].future.done():
            self._server.conclude(self._clerk.verdict(commits.popleft()))
        self.go_on()

    # time

    def _measure_time(self) -> None:
        """Looks now and then whether the client takes too long.

        It has its time anew behind a reply and with each piece of text, not with the bytes of a command; and none
        runs while it waits for us.
        """
        if self._has_time_anew or self._is_busy or self._commits:
            self._has_time_anew = False
            self._silent_parts = 0
        else:
            self._silent_parts += 1
        if self._silent_parts >= PARTS_OF_TIME:
            self._fail(StreamTimeout("the client was silent for too long"))
        else:
            seconds = WAIT_SECONDS[self._server.wait] / PARTS_OF_TIME
            self._timer = self._loop.call_later(seconds, self._measure_time)

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

    async def _wait_for_user(self, look_up: LookUp, event: Event) -> None:
        self._write()
        await look_up.wait()
        self._handle(event)

    async def _log_in(self, credentials: Credentials) -> None:
        self._write()
        try:
            status = await self._clerk.authenticate(credentials)
        except Exception as error:
            self._clerk.report_fault(error)
            status = LOGIN_UNAVAILABLE
        self._server.answer(status)

    async def _turn(self, asked: Atrn) -> None:
        """Sends the client its mail on this connection, or says why not. In the first case it is over then."""
        self._write()
        refusal: Status | None = None
        try:
            refusal = await self._clerk.turn(asked.domains, self._server.helo_name, self._begin_turn)
        except Exception as error:
            self._clerk.report_fault(error)
        if not self._has_turned:
            self._server.answer(refusal or TURN_IMPOSSIBLE)

    def _begin_turn(self) -> Stream:
        """Tells the client, and gives the connection away."""
        self._has_turned = True
        self._server.answer(TURNING)
        self._write()
        self._stream.watch(None)
        self._stream.unread(self._server.rest)
        return self._stream

    async def _start_queue(self, asked: Etrn) -> None:
        self._write()
        try:
            status = await self._clerk.start_queue(asked)
        except Exception as error:
            self._clerk.report_fault(error)
            status = LOCAL_ERROR
        self._server.answer(status)

    async def _start_tls(self) -> None:
        """Begins TLS. Whatever fails, no plain text may follow, so the connection ends."""
        self._write()
        context = self._host.policy.tls_context()
        if context is None:
            raise TlsFailure("there is no certificate any more")  # the configuration has changed since EHLO
        await self._stream.start_tls(context, server_side=True, timeout_seconds=WAIT_SECONDS[Wait.TLS])
        self._server.tls_started(self._clerk.tls_started(self._stream.tls))
        self._has_time_anew = True

    def _end(self) -> None:
        self._is_busy = True
        self._stream.watch(None)
        if self._timer is not None:
            self._timer.cancel()
        if self._look_up is not None:
            self._look_up.end()
        self._clerk.discard()
        for commit in self._commits:  # we were cancelled; who is told nothing may send it again
            commit.future.cancel()
        self._commits.clear()

    def _trace(self, direction: str, line: bytes) -> None:
        events.trace(direction, line, session_id=self._session.id)
