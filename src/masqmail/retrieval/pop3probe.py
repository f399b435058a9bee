"""A look at some header sections of a POP3 mailbox, which stays as it is."""

from collections.abc import Iterator

from masqmail.net.session import TlsMemory
from masqmail.proto.pop3.transaction import Answer, Command, Counted, Done, Text, Verb
from masqmail.retrieval.account import Account
from masqmail.retrieval.pop3session import Request, Session, logged_in

PROBED_MESSAGES = 5
MAX_HEADER_BYTES = 65536  # the rest is passed over

_EXPECTED_HEADER_BYTES = 3000


async def probe(account: Account, memory: TlsMemory) -> list[bytes]:
    """Header sections of the newest messages; without those that the server does not show. Raises `FetchFailure`."""
    async with logged_in(account, memory, pipelining=False) as session:
        headers = await _Look(session).run()
        await session.quit()
    return headers


class _Look:
    """What STAT and TOP say in one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._messages = 0
        self._header = bytearray()
        self._headers: list[bytes] = []

    async def run(self) -> list[bytes]:
        """Raises `FetchFailure`; a refused command is no failure."""
        await self._session.converse(iter([(Command(Verb.STAT), 0)]), self._note)
        await self._session.converse(self._questions(), self._note)
        return self._headers

    def _questions(self) -> Iterator[Request]:
        first = max(1, self._messages - PROBED_MESSAGES + 1)
        for number in range(first, self._messages + 1):
            yield Command(Verb.TOP, number), _EXPECTED_HEADER_BYTES

    async def _note(self, answer: Answer) -> None:
        match answer:
            case Counted(messages):
                self._messages = messages
            case Text(_, data):
                self._header += data[: MAX_HEADER_BYTES - len(self._header)]
            case Done():
                self._headers.append(bytes(self._header))
                self._header.clear()
