"""The way to an account's server: a connection, or a program in its place, and how it ends."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from masqmail.net.errors import NetError
from masqmail.net.session import TlsMemory, open_stream
from masqmail.net.stream import Stream
from masqmail.net.wrapper import LOSS_SECONDS, PEACE_SECONDS, Wrapper, open_wrapped
from masqmail.retrieval.account import Account, FetchFailure
from masqmail.system import events


class Session(Protocol):
    """What is said over a connection, by one protocol."""

    is_over: bool  # in peace

    async def log_in(self) -> None:
        """Raises `FetchFailure`."""

    def cut_off(self) -> None:
        """Closes the connection at once; harmless when it is closed."""


S = TypeVar("S", bound=Session)


@asynccontextmanager
async def logged_in(account: Account, memory: TlsMemory, make_session: Callable[[Stream], S]) -> AsyncIterator[S]:
    """A session with the server of an account, ready for questions. Who has it says `quit`; else it is cut off.

    Raises `FetchFailure`, with the last words of a wrapper if there are any.
    """
    session: S | None = None
    wrapper: Wrapper | None = None
    failure: FetchFailure | None = None
    try:
        stream, wrapper = await reach(account, memory)
        session = make_session(stream)
        await session.log_in()
        yield session
    except FetchFailure as error:
        failure = error
    finally:
        if session is not None:
            session.cut_off()
        if wrapper is not None:
            await wrapper.end(PEACE_SECONDS if session is not None and session.is_over else LOSS_SECONDS)
    if failure is not None:
        raise with_last_words(failure, wrapper) from failure


async def reach(account: Account, memory: TlsMemory) -> tuple[Stream, Wrapper | None]:
    """The connection, and the program it leads to where the account has a wrapper. Raises `FetchFailure`."""

    def note_complaint(program: str, line: str) -> None:
        events.emit(events.PROGRAM_SAID, program=program, next_hop=str(account.server), line=line)

    try:
        if account.wrapper:
            stream, _, wrapper = await open_wrapped(account.wrapper, note_complaint)
            return stream, wrapper
        stream, _ = await open_stream(account.server, account, memory)
        return stream, None
    except NetError as error:
        raise FetchFailure(error.reason, error.culprit) from error


def with_last_words(failure: FetchFailure, wrapper: Wrapper | None) -> FetchFailure:
    """The failure with how the wrapper ended, where that was its own doing."""
    verdict = wrapper.verdict if wrapper is not None else ""
    return type(failure)("; ".join(filter(None, (failure.reason, verdict))), failure.culprit)
