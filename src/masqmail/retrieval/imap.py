"""Fetching with IMAP, RFC 9051 and RFC 3501. Needs the library IMAPClient, which is loaded when it is used first."""

import re
from collections.abc import Sequence
from functools import partial

from masqmail.net.session import TlsMemory
from masqmail.retrieval.account import Account, FetchFailure, Inbox, Order
from masqmail.retrieval.imapconnection import Connection, Lost
from masqmail.retrieval.imapfetch import Fetch, Known
from masqmail.retrieval.imapplan import Refusal
from masqmail.system.clock import Clock, SystemClock

#: How often IDLE is renewed. Servers hang up after 30 minutes (RFC 2177), routers forget connections much sooner.
KEEP_ALIVE_SECONDS = 540.0
SHORTEST_KEEP_ALIVE_SECONDS = 120.0
#: How often to look whether the machine was suspended.
PULSE_SECONDS = 60.0

#: When to ask anew where waiting shows not all: the server cannot IDLE, or there are several folders.
POLL_SECONDS = 300.0

#: A connection that breaks sooner than that while we wait is the server's wish.
EARLY_SECONDS = 30.0

PROBED_MESSAGES = 5

_EXISTS = re.compile(rb"\* (\d+) EXISTS\b", re.IGNORECASE)
_EXPUNGE = re.compile(rb"\* \d+ EXPUNGE\b", re.IGNORECASE)


class ImapRetriever:
    """One account's server. Keeps its connection once somebody has waited for mail."""

    def __init__(self, clock: Clock | None = None, memory: TlsMemory | None = None) -> None:
        self._clock = clock or SystemClock()
        self._memory = memory or TlsMemory()
        self._known: dict[str, Known] = {}
        self._connection: Connection | None = None
        self._waits = False  # there is somebody who waits for mail between fetches
        self._keep_alive = KEEP_ALIVE_SECONDS

    async def fetch(self, account: Account, inbox: Inbox, order: Order) -> None:
        """Takes what is new. Raises `FetchFailure`."""
        line = _Line(self, account)
        is_done = False
        try:
            await Fetch(account, inbox, order, line, self._known, self._clock).run()
            is_done = True
        except Lost as lost:
            raise lost.as_failure() from lost
        except FetchFailure:
            is_done = True
            raise
        finally:
            if not self._waits or not is_done:
                await self.close(in_peace=is_done)

    async def wait_for_mail(self, account: Account) -> None:
        """Returns when there may be something new. Raises `FetchFailure`."""
        self._waits = True
        began = self._clock.boottime()
        try:
            await self._wait(account)
        except Refusal as refusal:
            await self.close(in_peace=True)
            raise _no_folder(account, refusal) from refusal
        except Lost as lost:
            await self.close(in_peace=False)
            if self._clock.boottime() - began < EARLY_SECONDS:
                raise lost.as_failure() from lost
            self._keep_alive = max(self._keep_alive / 2, SHORTEST_KEEP_ALIVE_SECONDS)

    async def probe(self, account: Account) -> Sequence[bytes]:
        """Header sections of the newest messages in the first folder. Raises `FetchFailure`."""
        connection = await self.connection(account)
        try:
            folder = await connection.do(partial(connection.session.select, account.folders[0], read_only=True))
            return await connection.do(partial(connection.session.last_headers, folder.exists, PROBED_MESSAGES))
        except Refusal as refusal:
            raise _no_folder(account, refusal) from refusal
        except Lost as lost:
            raise lost.as_failure() from lost
        finally:
            await self.close(in_peace=True)

    async def aclose(self) -> None:
        """Says goodbye to the server."""
        await self.close(in_peace=True)

    async def connection(self, account: Account) -> Connection:
        """The connection there is if it is still good, or a new one. Raises `FetchFailure`."""
        if self._connection is not None:
            if self._connection.fits(account):
                try:
                    await self._connection.check()
                    return self._connection
                except (Lost, Refusal):
                    pass
            await self.close(in_peace=False)
        self._connection = await Connection.open(account, self._memory, self._clock)
        return self._connection

    async def close(self, *, in_peace: bool) -> None:
        """Closes the connection if there is one, with or without a goodbye."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if in_peace:
            await connection.close()
        else:
            await connection.cut_off()

    async def _wait(self, account: Account) -> None:
        connection = await self.connection(account)
        if not connection.session.can_idle:
            await self.close(in_peace=True)
            await self._clock.sleep(POLL_SECONDS)
            return
        name = account.folders[0]
        folder = await connection.do(partial(connection.session.select, name, read_only=True))
        known = self._known.get(name)
        is_same = known is not None and known.uid_validity == folder.uid_validity
        if known is None or not is_same or (folder.uid_next is not None and folder.uid_next > known.uid_next):
            return  # something came since it was looked at
        is_all = len(account.folders) == 1 and known.is_done
        await self._idle(connection, folder.exists, None if is_all else self._clock.boottime() + POLL_SECONDS)

    async def _idle(self, connection: Connection, exists: int, until: float | None) -> None:
        """Returns with news, at `until`, or when the machine was suspended. Raises `Lost`."""
        while until is None or self._clock.boottime() < until:
            if not await connection.do(partial(connection.session.start_idle, exists)):
                return
            ends = self._clock.boottime() + self._keep_alive
            while connection.session.is_idling and self._clock.boottime() < min(ends, until or ends):
                line = await connection.hear(PULSE_SECONDS)
                if connection.was_suspended:
                    await self.close(in_peace=False)
                    return
                if line is None:
                    continue
                if (count := _EXISTS.match(line)) is not None:
                    if int(count[1]) > exists:
                        return
                    exists = int(count[1])
                elif _EXPUNGE.match(line):
                    exists = max(0, exists - 1)
                elif line.upper().startswith(b"* BYE"):
                    raise Lost(f"the server said goodbye: {line[6:].decode('ascii', 'replace')}")
                elif connection.session.is_end_of_idle(line):
                    break
            if not await connection.do(partial(connection.session.ask_for_news, exists)):
                return


def _no_folder(account: Account, refusal: Refusal) -> FetchFailure:
    return FetchFailure(f"{account.server}: the folder {account.folders[0]} cannot be used: {refusal}")


class _Line:
    """Connections for one fetch."""

    def __init__(self, retriever: ImapRetriever, account: Account) -> None:
        self._retriever = retriever
        self._account = account
        self._connection: Connection | None = None

    async def connection(self) -> Connection:
        if self._connection is None:
            self._connection = await self._retriever.connection(self._account)
        return self._connection

    async def renew(self) -> Connection:
        await self._retriever.close(in_peace=False)
        self._connection = await self._retriever.connection(self._account)
        return self._connection
