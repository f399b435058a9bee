"""Messages of one IMAP folder on their way into parcels. What breaks on the way is gone on with."""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

import anyio

from masqmail.mail.outcome import Culprit
from masqmail.retrieval.account import FetchFailure, Found, Inbox, Parcel
from masqmail.retrieval.imapconnection import Connection, Lost
from masqmail.retrieval.imapplan import Ask, Download, Folder, Listed, Missing, Piece, Refusal
from masqmail.spool.intake import Refused
from masqmail.system.clock import Clock

#: How long to wait before another connection is made in place of a broken one.
COME_BACK_SECONDS = (0.0, 2.0, 5.0, 15.0)

#: How often a connection may break without anything having come, until the message that was asked for is to blame.
BREAKS = 3
#: So many messages are blamed before the server is.
MAX_BLAMED = 3


class Line(Protocol):
    """Where connections come from."""

    async def connection(self) -> Connection:
        """The connection there is. The first time it is made, or one that was kept is looked at: `FetchFailure`."""

    async def renew(self) -> Connection:
        """Another connection in its place. Raises `FetchFailure`."""


class Taking:
    """Takes some messages. `taken` are the UIDs of those that are ours now, `troubles` what kept others from it."""

    def __init__(
        self,
        line: Line,
        inbox: Inbox,
        folder: Folder,
        messages: Sequence[Listed],
        select: Callable[[str], Awaitable[Folder]],
        clock: Clock,
    ) -> None:
        self.taken: set[int] = set()
        self.troubles: list[str] = []
        self._line = line
        self._inbox = inbox
        self._folder = folder
        self._select = select
        self._clock = clock
        self._download = Download(messages)
        self._sizes = {message.uid: message.size_bytes for message in messages}
        self._parcels: dict[int, Parcel] = {}
        self._withheld: list[int] = []  # that the server did not hand out, without a word
        self._heard_at = time.monotonic()

    async def run(self) -> None:
        """Raises `FetchFailure` when the server cannot be reached any more, and what `Parcel.finish` raises."""
        breaks = blamed = 0
        try:
            while not self._download.is_over and (self._download.is_under_way or not self._inbox.is_closing):
                try:
                    await self._exchange()
                    breaks = 0
                except Lost as lost:
                    breaks += 1
                    if is_repeated := breaks > BREAKS:
                        breaks, blamed = 0, blamed + 1
                    if blamed > MAX_BLAMED:
                        raise lost.as_failure() from lost
                    if (missing := self._download.lost(is_repeated=is_repeated)) is not None:
                        self._give_up(missing._replace(reason=f"{missing.reason}: {lost.reason}"))
                    await self._come_back(lost, COME_BACK_SECONDS[max(0, breaks - 1) :])
            if self._withheld:
                await self._explain_withheld()
        finally:
            for parcel in self._parcels.values():
                parcel.discard()

    async def _exchange(self) -> None:
        """Asks for more, and deals with the next answer."""
        connection = await self._line.connection()
        asks: list[Ask] = []
        while not self._inbox.is_closing and (ask := self._download.next_ask()) is not None:
            asks.append(ask)
        bodies, refusal = await connection.do(partial(connection.session.exchange, asks))
        octets = sum(len(body) for body in bodies.values() if body)
        self._download.adapt(octets, (now := time.monotonic()) - self._heard_at)
        self._heard_at = now
        done: list[int] = []
        for event in self._download.answer(bodies, refusal):
            match event:
                case Piece(uid, data, is_last):
                    self._parcel(uid).write(data)
                    if is_last:
                        done.append(uid)
                case Missing(uid, reason):
                    self._give_up(event)
                    if not reason:
                        self._withheld.append(uid)
        self._inbox.progress()
        await self._finish(done)

    def _parcel(self, uid: int) -> Parcel:
        if uid not in self._parcels:
            self._parcels[uid] = self._inbox.open(self._found(uid))
        return self._parcels[uid]

    async def _finish(self, uids: list[int]) -> None:
        """Waits until these are in the queue, all at once: they share what that costs."""
        failures: list[Exception] = []

        async def finish(uid: int) -> None:
            try:
                await self._parcels.pop(uid).finish()
            except Refused as refused:
                self._inbox.tally.refused += 1
                await self._inbox.refuse(self._found(uid), str(refused.status))
            except Exception as error:
                failures.append(error)  # not in a group of exceptions that nobody expects
            else:
                self.taken.add(uid)
                self._inbox.tally.taken += 1
                self._inbox.tally.taken_bytes += self._sizes[uid]
                self._inbox.progress()

        async with anyio.create_task_group() as group:
            for uid in uids:
                group.start_soon(finish, uid)
        if failures:
            raise failures[0]

    def _give_up(self, missing: Missing) -> None:
        if (parcel := self._parcels.pop(missing.uid, None)) is not None:
            parcel.discard()
        if missing.reason:
            name = self._folder.name_of(missing.uid)
            self.troubles.append(f"message {name.uid} in {name.folder} could not be taken: {missing.reason}")

    async def _explain_withheld(self) -> None:
        """Those that the server still lists were not deleted meanwhile."""
        connection = await self._line.connection()
        try:
            listed = await connection.do(partial(connection.session.list_sizes, self._withheld))
        except (Refusal, Lost):
            return  # the next fetch asks for them again
        for message in listed:
            self._give_up(Missing(message.uid, "the server lists it, and does not hand it out"))

    async def _come_back(self, lost: Lost, waits: Sequence[float]) -> None:
        """Another connection, where what was begun is gone on with. Raises `FetchFailure` when there is none."""
        failure = lost.as_failure()
        for seconds in waits:
            await self._clock.sleep(seconds)
            try:
                await self._line.renew()
                await self._look_again()
                self._heard_at = time.monotonic()
                return
            except Lost as error:
                failure = error.as_failure()
            except Refusal as refusal:
                raise FetchFailure(f"the folder {self._folder.name} cannot be used any more: {refusal}") from refusal
            except FetchFailure as error:
                failure = error
                if error.culprit in (Culprit.LOGIN, Culprit.LOCAL):
                    break
        raise failure from lost

    async def _look_again(self) -> None:
        """Whether the messages that were begun are still what they were."""
        folder = await self._select(self._folder.name)
        if folder.uid_validity != self._folder.uid_validity:
            what = f"the server has renamed all messages in {folder.name} meanwhile"
            raise FetchFailure(what, Culprit.LOCAL)
        begun = self._download.begun
        if not begun:
            return
        connection = await self._line.connection()
        there = await connection.do(partial(connection.session.list_sizes, [message.uid for message in begun]))
        sizes = {message.uid: message.size_bytes for message in there}
        for message in begun:
            if sizes.get(message.uid) != message.size_bytes:
                self._download.drop(message.uid)
                self._give_up(Missing(message.uid))

    def _found(self, uid: int) -> Found:
        return Found(self._folder.name_of(uid), self._sizes[uid])
