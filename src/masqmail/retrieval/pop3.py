"""Fetching over POP3: what is new is taken, what was taken long enough ago is deleted.

A message is deleted only when it is on stable storage with the mark that says so. A session that breaks off at any
point loses nothing, and the next one goes on where it ended: deletions that QUIT did not confirm are made up for.
"""

import secrets
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence

from masqmail.mail.outcome import Culprit
from masqmail.net.session import TlsMemory
from masqmail.proto.pop3.reply import Reply
from masqmail.proto.pop3.transaction import Answer, Command, Counted, Done, Names, Refused, Sizes, Text, Verb
from masqmail.retrieval.account import Account, FetchFailure, Inbox, Order
from masqmail.retrieval.pop3probe import probe
from masqmail.retrieval.pop3session import Garbled, Request, Session, logged_in
from masqmail.retrieval.pop3survey import Message, Rules, Survey, is_hashed
from masqmail.retrieval.pop3transfer import Habits, TooLong, Transfer
from masqmail.spool.api import SpoolError, Uid

MAX_HEADER_BYTES = 65536  # of a header section that TOP shows; the rest is passed over
MAX_TOLD_TROUBLES = 3  # in one reason
MAX_CUTS = 5  # sessions that are cut off in one fetch, because a message gets too long; the next one goes on

_EXPECTED_HEADER_BYTES = 3000

#: Is told the header section of a message, or None when it cannot be had.
_TellHeader = Callable[[int, bytes | None], Awaitable[None]]


class Pop3Retriever:
    """Fetches from one POP3 account. Keeps TLS sessions, and what confused the server."""

    def __init__(self, memory: TlsMemory | None = None) -> None:
        self._memory = memory or TlsMemory()
        self._habits = Habits()

    async def fetch(self, account: Account, inbox: Inbox, order: Order) -> None:
        """Takes what is new, counting in `inbox.tally`. Raises `FetchFailure`."""
        was_confused, cuts = self._habits.garbles, 0
        while True:
            try:
                return await self._fetch(account, inbox, order)
            except TooLong:
                cuts += 1
                if cuts == MAX_CUTS:
                    raise
            except Garbled:
                if was_confused or not self._habits.garbles:
                    raise
                was_confused = True  # one command at a time now

    async def wait_for_mail(self, account: Account) -> None:
        """A POP3 server says nothing by itself."""
        raise FetchFailure("a POP3 server cannot say that there is mail: give `interval` a time")

    async def probe(self, account: Account) -> Sequence[bytes]:
        """Header sections of the newest messages. Raises `FetchFailure`."""
        return await probe(account, self._memory)

    async def aclose(self) -> None:
        """Nothing stays open."""

    async def _fetch(self, account: Account, inbox: Inbox, order: Order) -> None:
        habits = self._habits
        async with logged_in(account, self._memory, pipelining=habits.may_pipeline) as session:
            pipelined = session.client.pipelines
            try:
                await _Visit(session, account, inbox, order, habits).run()
            except FetchFailure as failure:
                if pipelined and isinstance(failure, Garbled):
                    habits.garbles = True
                elif pipelined and failure.culprit is Culprit.CONNECTION:
                    habits.strikes += 1
                raise
            habits.strikes = 0


class _Visit:
    """One session that is logged in, from STAT to QUIT."""

    def __init__(self, session: Session, account: Account, inbox: Inbox, order: Order, habits: Habits) -> None:
        self._session = session
        self._account = account
        self._inbox = inbox
        self._order = order
        self._survey: Survey
        self._rules = Rules(account.keep, inbox.now(), account.max_size, frozenset(order.uids))
        self._habits = habits
        self._undead: set[Uid] = set()  # the server has them although it said that it deleted them
        self._transfer = Transfer(session, inbox, self._rules, habits, time_scale=account.time_scale)
        self._refusals: dict[Verb, Reply] = {}
        self._troubles: list[str] = []  # to stand behind the server's name
        self._unmet: list[str] = []  # the same, of what somebody asks for and is not there
        self._knows_all = False  # each message of the mailbox, by its name
        self._has_top = True
        self._header = bytearray()

    async def run(self) -> None:
        """Raises `FetchFailure`, or whatever a bug raises: after a QUIT, if the connection lives."""
        failure: Exception | None = None
        try:
            await self._look()
            await self._name()
            await self._take()
        except SpoolError as error:
            failure = _queue_failure(error)
        except Exception as error:
            failure = error
        if self._session.client.is_idle and not self._session.is_broken:
            try:
                await self._quit()
            except SpoolError as error:
                failure = failure or _queue_failure(error)
        if failure is not None:
            raise failure
        self._complain()

    # what is there

    async def _look(self) -> None:
        """STAT, LIST and UIDL."""
        self._survey = Survey(self._rules, await self._inbox.marks())
        await self._session.converse(self._questions(), self._note)
        if not self._survey.messages:
            self._refusals.pop(Verb.LIST, None)  # some have nothing to list
            self._refusals.pop(Verb.UIDL, None)
        for verb in (Verb.STAT, Verb.LIST):
            self._must_not_refuse(verb)
        if "UIDL" in self._session.client.offered.words or self._survey.has_names:
            self._must_not_refuse(Verb.UIDL)  # what has names today must not come again under others tomorrow
        self._survey.names_end()
        if self._survey.repeated:
            await self._session.converse(iter([(Command(Verb.UIDL), 0)]), self._note_repeated)
            self._must_not_refuse(Verb.UIDL)
        if self._survey.contradiction:
            self._troubles.append(self._survey.contradiction)

    def _questions(self) -> Iterator[Request]:
        yield Command(Verb.STAT), 0
        if self._survey.messages != 0:
            yield Command(Verb.LIST), 0
            yield Command(Verb.UIDL), 0

    async def _note(self, answer: Answer) -> None:
        match answer:
            case Counted(messages):
                self._survey.messages = messages
            case Sizes(rows):
                self._survey.note_sizes(rows)
            case Names(rows) if Verb.LIST not in self._refusals:
                self._survey.note_names(rows)
            case Refused(command, reply):
                self._refusals[command.verb] = reply

    async def _note_repeated(self, answer: Answer) -> None:
        match answer:
            case Names(rows):
                self._survey.note_repeated(rows)
            case Refused(command, reply):
                self._refusals[command.verb] = reply

    def _must_not_refuse(self, verb: Verb) -> None:
        if verb in self._refusals:
            raise FetchFailure(f"{self._account.server} refused {verb.value}: {self._refusals[verb]}")

    # what it is called

    async def _name(self) -> None:
        """Finds names for messages that the server gives none, then knows what to do with each."""
        survey = self._survey
        nameless: list[int] = []

        async def note_header(number: int, header: bytes | None) -> None:
            if header is not None:
                survey.note_header(number, header)
            else:
                nameless.append(number)

        await self._read_headers(survey.unnamed, note_header)
        if self._inbox.is_closing:
            return  # some have no name yet, and so nobody knows which of those that look alike is which
        self._knows_all = not (survey.contradiction or (nameless and self._has_top))
        if nameless and not self._has_top:
            self._settle_nameless(nameless)
        survey.plan()
        self._unmet = [f"has no message {name}" for name in survey.unmet()]

    def _settle_nameless(self, numbers: Collection[int]) -> None:
        if self._account.keep is not False:
            self._knows_all = False
            self._troubles.append(
                f"has {len(numbers)} messages that nothing tells apart, neither UIDL nor TOP: "
                "they can be fetched with `keep = false` only, and would come again else"
            )
            return
        nonce = secrets.token_bytes(16)
        for number in numbers:
            self._survey.note_nameless(number, nonce)

    async def _read_headers(self, numbers: Sequence[int], tell: _TellHeader) -> None:
        """Asks for header sections by TOP; tells None for one that cannot be had."""

        asked = 0

        def questions() -> Iterator[Request]:
            nonlocal asked
            for number in numbers:
                if not self._has_top or self._inbox.is_closing:
                    return
                asked += 1
                yield Command(Verb.TOP, number), _EXPECTED_HEADER_BYTES

        async def handle(answer: Answer) -> None:
            match answer:
                case Text(_, data):
                    self._header += data[: MAX_HEADER_BYTES - len(self._header)]
                case Done(command):
                    header, self._header = bytes(self._header), bytearray()
                    await tell(command.number, header)
                case Refused(command, reply):
                    self._note_refused_top(command, reply)
                    await tell(command.number, None)

        await self._session.converse(questions(), handle)
        for number in numbers[asked:]:
            await tell(number, None)

    def _note_refused_top(self, command: Command, reply: Reply) -> None:
        if "TOP" in self._session.client.offered.words:
            self._troubles.append(f"refused {command}: {reply}")
        else:
            self._has_top = False

    # what is done

    async def _take(self) -> None:
        survey, tally = self._survey, self._inbox.tally
        take = survey.take
        if self._account.max_messages and not self._order.uids:
            take = take[: self._account.max_messages]
        tally.expected, tally.left, tally.refused = tally.taken + len(take), survey.left, survey.refused
        self._inbox.progress()
        await self._leave(survey.leave)
        await self._transfer.run(take, self._deletable(survey.delete))

    def _deletable(self, messages: Sequence[Message]) -> list[Message]:
        """Without those that were deleted the last time: this may be another message with the name of the old one."""
        self._undead = {message.found.uid for message in messages} & self._habits.deleted
        if self._undead:
            self._troubles.append(
                f"still has {len(self._undead)} messages that it said it had deleted; `keep = true` lets them be"
            )
        return [message for message in messages if message.found.uid not in self._undead]

    async def _leave(self, messages: Collection[Message]) -> None:
        """Messages that are too big: their header sections say what they are."""
        by_number = {message.number: message for message in messages}

        async def leave(number: int, header: bytes | None) -> None:
            if header is None and self._has_top:
                return  # another time it may say more
            await self._inbox.leave(by_number[number].found, header or b"")
            self._inbox.tally.left += 1
            self._inbox.progress()

        await self._read_headers(list(by_number), leave)

    async def _quit(self) -> None:
        """Ends the session; then forgets what the server has no more.

        What we have deleted just now is forgotten when it is listed no more: some servers do not do it, and the
        message must not come again. A hash may be that of another message by then, so that goes at once.
        """
        deleted = self._transfer.deleted
        if await self._session.quit():
            gone = {uid for uid in deleted if is_hashed(uid)}
            self._habits.deleted = self._undead | {*deleted} - gone
            gone.update(self._survey.gone() if self._knows_all else ())
            if gone:
                await self._inbox.forget(gone)
        elif deleted:
            self._troubles.append(
                f"did not confirm that it deleted {len(deleted)} messages; they are not taken again"
            )

    def _complain(self) -> None:
        """Raises what went wrong with single messages."""
        troubles = [*self._troubles, *self._transfer.troubles]
        culprit = Culprit.SESSION if troubles else Culprit.MESSAGE
        if troubles := [*troubles, *self._unmet]:
            told = "; ".join(troubles[:MAX_TOLD_TROUBLES])
            more = f"; and {len(troubles) - MAX_TOLD_TROUBLES} more" if len(troubles) > MAX_TOLD_TROUBLES else ""
            raise FetchFailure(f"{self._account.server} {told}{more}", culprit)


def _queue_failure(error: SpoolError) -> FetchFailure:
    return FetchFailure(f"the queue failed: {error}", Culprit.LOCAL)
