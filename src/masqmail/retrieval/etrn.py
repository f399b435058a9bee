"""ETRN, RFC 1985: we ask a server to send now what it keeps for our domains; it comes to our own SMTP server."""

from collections.abc import Callable, Sequence

from masqmail.mail.outcome import Culprit
from masqmail.mail.status import Status
from masqmail.net.session import TlsMemory
from masqmail.retrieval.account import Account, FetchFailure, Inbox, Order
from masqmail.retrieval.smtpsession import logged_in

_LOGIN_CODES = frozenset({530, 534, 535, 538})
_UNKNOWN_CODES = frozenset({500, 502})


class EtrnRetriever:
    """Asks one server. `helo_name` is our name as it is now, else our address; TLS sessions are kept."""

    def __init__(self, helo_name: Callable[[], str] = str) -> None:
        self._helo_name = helo_name
        self._memory = TlsMemory()

    async def fetch(self, account: Account, inbox: Inbox, order: Order) -> None:
        """Asks for each domain. Raises `FetchFailure`, when the others have been asked for too."""
        if order.uids:
            raise FetchFailure(
                "with etrn the server sends what it has: single messages have no names", Culprit.MESSAGE
            )
        refusals: list[FetchFailure] = []
        async with logged_in(account, self._memory, self._helo_name()) as session:
            for domain in account.domains:
                inbox.progress()
                status = await session.request(domain)
                if not status.is_success:
                    refusals.append(_failure(account, domain, status))
            await session.quit()
        if refusals:
            raise FetchFailure("; ".join(dict.fromkeys(one.reason for one in refusals)), refusals[0].culprit)

    async def probe(self, account: Account) -> Sequence[bytes]:
        """Logs in, if there is a name, and out again. Raises `FetchFailure`."""
        async with logged_in(account, self._memory, self._helo_name()) as session:
            await session.quit()
        return ()

    async def wait_for_mail(self, account: Account) -> None:
        """The server says nothing by itself."""
        raise FetchFailure("ETRN cannot wait for mail: give `interval` a time")

    async def aclose(self) -> None:
        """Nothing stays open."""


def _failure(account: Account, domain: str, status: Status) -> FetchFailure:
    """What a refused ETRN means, RFC 1985 §5.3."""
    server = account.server
    if status.code in _LOGIN_CODES:
        return FetchFailure(f"{server} wants another login for ETRN: {status}", Culprit.LOGIN)
    if status.code in _UNKNOWN_CODES:
        return FetchFailure(f"{server} does not know ETRN: {status}")
    return FetchFailure(f"{server} does not send the mail for {domain}: {status}")
