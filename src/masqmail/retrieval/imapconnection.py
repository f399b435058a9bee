"""A connection to an IMAP server: made, used from a worker thread, waited on in the event loop, and closed.

The library blocks, so each exchange with the server is a call in a thread (`do`). All that can go wrong comes out of
it as one of three: `Refusal` (the server says no), `Lost` (another connection may go on) or `FetchFailure` (the end).
"""

import concurrent.futures
import imaplib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import checkpoint

from masqmail.mail.outcome import Culprit
from masqmail.net.errors import NetError
from masqmail.net.session import TlsMemory, TlsMode, keep_session, protect
from masqmail.net.stream import Stream
from masqmail.net.wrapper import LOSS_SECONDS, PEACE_SECONDS, Wrapper
from masqmail.proto.errors import PeerError
from masqmail.retrieval.account import Account, FetchFailure
from masqmail.retrieval.imapplan import Refusal
from masqmail.retrieval.imapwire import Wire
from masqmail.retrieval.reach import reach, with_last_words
from masqmail.system.clock import Clock

if TYPE_CHECKING:
    from masqmail.retrieval.imapsession import Session

CLOSE_SECONDS = 8.0

#: A connection that was suspended for longer is not used any more.
SHORT_SUSPEND_SECONDS = 5.0
#: One that was used a moment ago is taken to be alive.
FRESH_SECONDS = 20.0

Found = TypeVar("Found")


class Lost(Exception):
    """The connection is of no use any more; another one may be."""

    def __init__(self, reason: str, culprit: Culprit = Culprit.CONNECTION) -> None:
        super().__init__(reason)
        self.reason = reason
        self.culprit = culprit

    def as_failure(self) -> FetchFailure:
        return FetchFailure(self.reason, self.culprit)


class Connection:
    """One connection, logged in."""

    def __init__(self, account: Account, memory: TlsMemory, clock: Clock, stream: Stream) -> None:
        self.session: Session
        self.wrapper: Wrapper | None = None
        self.wire = Wire(stream, str(account.server), account.credentials)
        self.is_broken = False
        self._account = account
        self._memory = memory
        self._clock = clock
        self._stream = stream
        self._limiter = anyio.CapacityLimiter(1)  # a slow server holds up nobody else's threads
        self._asleep = _time_asleep(clock)
        self._used_at = clock.boottime()

    @classmethod
    async def open(cls, account: Account, memory: TlsMemory, clock: Clock) -> "Connection":
        """Connects and logs in. Raises `FetchFailure`, with the last words of a wrapper if there are any."""
        make_session = _load()
        stream, wrapper = await reach(account, memory)
        connection = cls(account, memory, clock, stream)
        connection.wrapper = wrapper
        failure: FetchFailure | None = None
        try:
            await connection._start(make_session)
            return connection
        except Lost as lost:
            failure = lost.as_failure()
        except FetchFailure as error:
            failure = error
        finally:
            if not hasattr(connection, "session") or failure is not None:
                await connection.cut_off()
        raise with_last_words(failure, wrapper) from failure

    async def do(self, work: Callable[[], Found]) -> Found:
        """Does work of the session in a thread. Raises `Refusal`, `Lost` or `FetchFailure`."""
        if self.is_broken:
            raise Lost(f"{self._account.server}: the connection was given up")
        is_whole = False
        try:
            found = await anyio.to_thread.run_sync(work, limiter=self._limiter)
            is_whole = True
            self._used_at, self._asleep = self._clock.boottime(), _time_asleep(self._clock)
            return found
        except Refusal:
            is_whole = True
            raise
        except concurrent.futures.CancelledError as error:
            await checkpoint()  # which raises what cancels us
            raise self._lost("the exchange was interrupted") from error
        except NetError as error:
            raise Lost(f"{self._account.server}: {error.reason}", error.culprit) from error
        except PeerError as error:
            raise self._lost(error.status.text) from error
        except (imaplib.IMAP4.error, ValueError, KeyError) as error:
            said = self._account.credentials.conceal(str(error))
            raise self._lost(f"broke the protocol: {_tidy(said)}") from error
        finally:
            if not is_whole:
                self.is_broken = True
                self._stream.abort()

    async def hear(self, seconds: float) -> bytes | None:
        """The next line while the server is idling, or None. Raises `Lost`."""
        try:
            return await self.wire.hear(seconds)
        except NetError as error:
            self.is_broken = True
            raise Lost(f"{self._account.server}: {error.reason}", error.culprit) from error
        except PeerError as error:
            self.is_broken = True
            raise self._lost(error.status.text) from error

    @property
    def was_suspended(self) -> bool:
        """Whether the machine slept since the connection was last used: it is probably dead."""
        return _time_asleep(self._clock) - self._asleep > SHORT_SUSPEND_SECONDS

    def fits(self, account: Account) -> bool:
        """Whether it is the one that this account wants."""
        mine = self._account
        return (mine.server, mine.tls, mine.credentials.username, mine.wrapper) == (
            account.server,
            account.tls,
            account.credentials.username,
            account.wrapper,
        )

    async def check(self) -> None:
        """Raises `Lost` when it is of no use any more. Ends IDLE."""
        if self.is_broken or self.was_suspended:
            raise self._lost("the connection was given up")
        if self.session.is_idling or self._clock.boottime() - self._used_at > FRESH_SECONDS:
            await self.do(self.session.probe)

    async def close(self) -> None:
        """Says goodbye, if the server still listens."""
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            try:
                if not self.is_broken and not self.was_suspended:
                    await self.do(self.session.log_out)
                    await keep_session(self._stream, self._account.server, self._account, self._memory)
                    await self._stream.aclose()
            except (Refusal, Lost, FetchFailure, NetError):
                pass
        await self.cut_off(PEACE_SECONDS)

    async def cut_off(self, patience_seconds: float = LOSS_SECONDS) -> None:
        """Closes at once; harmless when it is closed."""
        self.is_broken = True
        self._stream.abort()
        wrapper, self.wrapper = self.wrapper, None
        if wrapper is not None:
            await wrapper.end(patience_seconds)

    async def _start(self, make_session: "Callable[[Wire, Account], Session]") -> None:
        if self._account.tls is TlsMode.IMPLICIT:
            try:
                await self._protect()
            except NetError as error:
                raise Lost(f"{self._account.server}: {error.reason}", error.culprit) from error
        session = await self.do(partial(make_session, self.wire, self._account))
        await self.do(partial(session.start, self._protect))
        self.session = session

    async def _protect(self) -> None:
        await protect(self._stream, self._account.server, self._account, self._memory)

    def _lost(self, what: str) -> Lost:
        return Lost(f"{self._account.server} {what}", Culprit.SESSION)


def _load() -> "Callable[[Wire, Account], Session]":
    """What needs the library. Raises `FetchFailure` where that is not installed."""
    try:
        from masqmail.retrieval.imapsession import Session
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "imapclient":
            raise
        what = "IMAP needs the Python library IMAPClient, which is not installed"
        raise FetchFailure(f"{what}: pip install 'masqmail[imap]'", Culprit.LOCAL) from error
    return Session


def _tidy(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:300])


def _time_asleep(clock: Clock) -> float:
    """How long this machine was suspended since it started."""
    return clock.boottime() - clock.monotonic()
