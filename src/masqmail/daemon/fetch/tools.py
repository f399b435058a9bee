"""What the tasks of all accounts work with."""

from collections.abc import Awaitable, Callable, Mapping

import anyio

from masqmail.config.fetch import FetchProtocol, FetchSection
from masqmail.daemon.fetch.inbox import FetchInbox
from masqmail.daemon.fetch.standing import Standing
from masqmail.daemon.fetch.visit import Visitor
from masqmail.frozen import frozen
from masqmail.retrieval.account import Retriever
from masqmail.routing.link import Verdict
from masqmail.spool.api import Spool


@frozen
class Tools:
    """Everything outside of an account. `prepare` is what comes before its first fetch, `slot` is of a link."""

    spool: Spool
    visitor: Visitor
    prepare: Callable[[str], Awaitable[None]]
    make_retriever: Callable[[FetchProtocol], Retriever]
    make_inbox: Callable[[FetchSection], FetchInbox]
    verdicts: Callable[[], Mapping[str, Verdict]]
    slot: Callable[[str], anyio.Semaphore]
    tell_of_failure: Callable[[FetchSection, Standing], Awaitable[bool]]
    tell_of_gone: Callable[[FetchSection, str], Awaitable[None]]
