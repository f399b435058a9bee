"""On-demand mail relay, RFC 2645: we log in and say ATRN, and on the same connection the server sends us our mail.

From then on it is our own SMTP server that it speaks to: see `Serve`.
"""

from collections.abc import Awaitable, Callable, Sequence

from masqmail.mail.outcome import Culprit
from masqmail.mail.status import Status
from masqmail.net.errors import NetError
from masqmail.net.session import TlsMemory
from masqmail.net.stream import Stream
from masqmail.retrieval.account import Account, FetchFailure, Inbox, Order
from masqmail.retrieval.smtpsession import Session, logged_in

NO_MAIL_CODE = 453  # RFC 2645 §7
REFUSED_CODE = 450
BUSY_CODE = 451

#: Replies that want another login, RFC 4954 §6.
_LOGIN_CODES = frozenset({530, 534, 535, 538})
#: Replies of a server that does not know the command, RFC 5321 §4.2.4.
_UNKNOWN_CODES = frozenset({500, 502})

#: Takes the mail that comes over a connection, counting in the tally of the inbox; whether the other side ended that
#: as one should. Raises `NetError` when the connection breaks.
Serve = Callable[[Stream, Account, Inbox], Awaitable[bool]]


async def _serve_nobody(stream: Stream, account: Account, inbox: Inbox) -> bool:
    raise FetchFailure("there is nobody here who takes mail", Culprit.US)


class OdmrRetriever:
    """Fetches from one provider. `helo_name` is our name as it is now, else our address; TLS sessions are kept."""

    def __init__(self, helo_name: Callable[[], str] = str, serve: Serve = _serve_nobody) -> None:
        self._helo_name = helo_name
        self._serve = serve
        self._memory = TlsMemory()

    async def fetch(self, account: Account, inbox: Inbox, order: Order) -> None:
        """Takes all that waits, counting in `inbox.tally`. Raises `FetchFailure`."""
        if order.uids:
            raise FetchFailure("with odmr all mail comes or none: single messages have no names", Culprit.MESSAGE)
        async with logged_in(account, self._memory, self._helo_name()) as session:
            inbox.progress()
            status = await session.turn()
            if status.is_success:
                await self._take(session, account, inbox)
                return
            await session.quit()
        if status.code != NO_MAIL_CODE:
            raise _failure(account, status)

    async def _take(self, session: Session, account: Account, inbox: Inbox) -> None:
        stream = await session.hand_over()
        try:
            is_whole = await self._serve(stream, account, inbox)
        except NetError as error:
            raise FetchFailure(f"{account.server}: {error.reason}", error.culprit) from error
        if not is_whole:
            raise FetchFailure(f"{account.server} stopped in the middle of its mail")
        await session.close()

    async def probe(self, account: Account) -> Sequence[bytes]:
        """Logs in and out again. No message is looked at. Raises `FetchFailure`."""
        async with logged_in(account, self._memory, self._helo_name()) as session:
            await session.quit()
        return ()

    async def wait_for_mail(self, account: Account) -> None:
        """The server says nothing by itself."""
        raise FetchFailure("an ODMR server cannot say that there is mail: give `interval` a time")

    async def aclose(self) -> None:
        """Nothing stays open."""


def _failure(account: Account, status: Status) -> FetchFailure:
    """What a refused ATRN means, RFC 2645 §5.2.1."""
    server, domains = account.server, ", ".join(account.domains)
    if status.code in _LOGIN_CODES:
        return FetchFailure(f"{server} wants another login for ATRN: {status}", Culprit.LOGIN)
    if status.code in _UNKNOWN_CODES:
        return FetchFailure(f"{server} does not know ATRN: {status}")
    if status.code == REFUSED_CODE:
        return FetchFailure(f"{server} does not give us the mail for {domains}: {status}")
    if status.code == BUSY_CODE:
        return FetchFailure(f"{server} cannot give us our mail now: {status}")
    return FetchFailure(f"{server} refused ATRN for {domains}: {status}")
