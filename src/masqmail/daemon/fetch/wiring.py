"""Puts the parts together that fetch mail; loaded when the first account is configured."""

from collections import defaultdict
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from masqmail.config.fetch import FetchProtocol, FetchSection
from masqmail.daemon.fetch.accounts import Secrets, make_retriever
from masqmail.daemon.fetch.fetcher import Fetcher
from masqmail.daemon.fetch.inbox import FetchInbox
from masqmail.daemon.fetch.notices import FetchNotices
from masqmail.daemon.fetch.parcel import AccountTerms, FetchParcel
from masqmail.daemon.fetch.replies import FetchReplies, Orders
from masqmail.daemon.fetch.tools import Tools
from masqmail.daemon.fetch.uids import ImportedUids
from masqmail.daemon.fetch.visit import Visitor
from masqmail.daemon.odmrclient import PROTOCOLS
from masqmail.daemon.odmrclient import make_retriever as make_smtp_retriever
from masqmail.mail.address import Mailbox
from masqmail.net.session import TlsMemory
from masqmail.retrieval.account import Found, Retriever
from masqmail.routing.local import POSTMASTER
from masqmail.routing.multidrop import MultidropRules
from masqmail.spool.api import SpoolError

if TYPE_CHECKING:
    from masqmail.daemon.wiring import Daemon

#: Accounts that are fetched over one link at the same time.
MAX_PER_LINK = 4


async def make_fetcher(daemon: "Daemon", tasks: TaskGroup) -> Fetcher:
    """What fetches mail into the queue of a daemon. Replies to its notices are known from now on."""
    memory = TlsMemory()
    replies = FetchReplies(daemon.spool)
    notices = FetchNotices(daemon.desk, daemon.reporter, daemon.clock, lambda: daemon.configuration.fetch, replies)
    slots: defaultdict[str, anyio.Semaphore] = defaultdict(partial(anyio.Semaphore, MAX_PER_LINK))
    uids = ImportedUids(daemon.configuration.path, daemon.spool, daemon.clock)

    def make_inbox(section: FetchSection) -> FetchInbox:
        def open_parcel(found: Found) -> FetchParcel:
            return FetchParcel(daemon.intake, terms_of(section), found, daemon.clock.now())

        return FetchInbox(section.name, daemon.spool, daemon.clock, notices, open_parcel)

    def make(protocol: FetchProtocol) -> Retriever:
        if protocol in PROTOCOLS:
            return make_smtp_retriever(protocol, daemon)
        return make_retriever(protocol, memory)

    async def prepare(account: str) -> None:
        await replies.load()
        await uids.read(account)

    tools = Tools(
        spool=daemon.spool,
        visitor=Visitor(Secrets(daemon.secrets.read), daemon.clock, daemon.note_trouble),
        prepare=prepare,
        make_retriever=make,
        make_inbox=make_inbox,
        verdicts=daemon.board.verdicts,
        slot=slots.__getitem__,
        tell_of_failure=notices.tell_of_failure,
        tell_of_gone=notices.tell_of_gone,
    )
    fetcher = Fetcher(tasks, tools)
    with suppress(SpoolError):  # each account tries again before it is fetched
        await replies.load()
    daemon.directory.replies = Orders(replies, fetcher, tasks, lambda: daemon.configuration.fetch)
    return fetcher


def terms_of(section: FetchSection) -> AccountTerms:
    """What an account says about the mail that comes from it."""
    return AccountTerms(
        account=section.name,
        server=section.server.host,
        protocol=section.protocol.value.upper(),
        rules=multidrop_of(section),
        return_path=section.return_path,
    )


def multidrop_of(section: FetchSection) -> MultidropRules:
    """Whom mail from an account is for."""
    return MultidropRules(
        deliver_to=section.deliver_to or Mailbox(POSTMASTER),
        envelope_header=section.envelope_header or "",
        strip=section.strip or "",
        domains=section.multidrop_domains,
    )
