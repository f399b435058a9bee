"""One visit to the server of an account: the password, the retriever under a vigil, and what its end means."""

from collections.abc import Awaitable, Callable
from logging import ERROR

import anyio

from masqmail.config.fetch import FetchSection
from masqmail.daemon.fetch.accounts import Secrets, account_of
from masqmail.daemon.fetch.vigil import Vigil
from masqmail.daemon.fetch.waits import within
from masqmail.daemon.secrets import SecretError
from masqmail.mail.outcome import Culprit
from masqmail.proto.sasl import Secret
from masqmail.retrieval.account import Account, FetchFailure
from masqmail.spool.api import SpoolBroken, SpoolError
from masqmail.system.clock import Clock
from masqmail.system.events import INTERNAL_ERROR, emit

#: What somebody does at a server. Raises `FetchFailure`, and whatever his faults are.
Work = Callable[[Account], Awaitable[None]]


class ConnectionDead(Exception):
    """The connection was given up because it showed no sign of life after a suspend or a change of its link."""


class LinkNews:
    """Hears about links: `wait` returns at the next word."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def tell(self) -> None:
        self._event.set()
        self._event = anyio.Event()

    async def wait(self) -> None:
        await self._event.wait()


class Visitor:
    """Does what is to be done at the servers of accounts, and makes of every trouble a `FetchFailure`.

    `on_broken` hears that the spool is broken, which ends the program.
    """

    def __init__(self, secrets: Secrets, clock: Clock, on_broken: Callable[[BaseException], None]) -> None:
        self.secrets = secrets
        self.clock = clock
        self._on_broken = on_broken

    async def visit(
        self,
        section: FetchSection,
        work: Work,
        *,
        signs: Callable[[], int],
        has_link: Callable[[], bool],
        link_news: LinkNews,
    ) -> None:
        """Does the work with the password of the account. Raises `FetchFailure` or `ConnectionDead`.

        A password that was kept from another time and is refused now is read anew, and another one tried at once.
        """

        async def do(secret: Secret) -> None:
            await self._watch(lambda: work(account_of(section, secret)), signs, has_link, link_news)

        was_known = self.secrets.is_known(section)
        secret = await self._secret(section)
        try:
            await do(secret)
        except FetchFailure as failure:
            if failure.culprit is not Culprit.LOGIN:
                raise
            self.secrets.forget(section.name)
            if not was_known or (renewed := await self._secret(section)) == secret:
                raise
            await self._try_renewed(section, do, renewed)

    async def _try_renewed(
        self, section: FetchSection, do: Callable[[Secret], Awaitable[None]], secret: Secret
    ) -> None:
        try:
            await do(secret)
        except FetchFailure as failure:
            if failure.culprit is Culprit.LOGIN:
                self.secrets.forget(section.name)
            raise

    async def _secret(self, section: FetchSection) -> Secret:
        try:
            return await self.secrets.of(section)
        except SecretError as error:
            raise FetchFailure(str(error), Culprit.LOCAL) from error

    async def _watch(
        self,
        work: Callable[[], Awaitable[None]],
        signs: Callable[[], int],
        has_link: Callable[[], bool],
        link_news: LinkNews,
    ) -> None:
        """Does the work as long as its connection seems alive."""
        vigil, is_dead = Vigil(self.clock), False
        failure: FetchFailure | None = None
        vigil.look(signs(), has_link=has_link())

        async def look_after() -> None:
            nonlocal is_dead
            while True:
                await within(self.clock, vigil.next_look(), link_news.wait)
                if vigil.look(signs(), has_link=has_link()):
                    is_dead = True
                    group.cancel_scope.cancel()
                    return

        async with anyio.create_task_group() as group:
            group.start_soon(look_after)
            try:
                await work()
                is_dead = False
            except Exception as error:
                failure = self.meaning_of(error)
            group.cancel_scope.cancel()
        if is_dead:
            raise ConnectionDead
        if failure is not None:
            raise failure

    def meaning_of(self, error: Exception) -> FetchFailure:
        """Every trouble as a reason; what nobody expected is also an event with its traceback."""
        cause = _first(error)
        match cause:
            case FetchFailure():
                return cause
            case SpoolError():
                if isinstance(cause, SpoolBroken):
                    self._on_broken(cause)
                return FetchFailure(f"the queue cannot take it now: {cause}", Culprit.LOCAL)
            case ImportError():
                return FetchFailure(str(cause), Culprit.LOCAL)
        emit(INTERNAL_ERROR, level=ERROR, exception=error, reason="mail could not be fetched")
        return FetchFailure(f"a fault of ours, which the log tells more about: {cause!r}", Culprit.US)


def _first(error: Exception) -> Exception:
    """The error itself, or the first one of a group of them."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
