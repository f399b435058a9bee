"""What the tests of fetching with IMAP share: an account at the scripted server, and a fetch."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from masqmail.net.session import TlsMode
from masqmail.proto.sasl import Credentials, Secret
from masqmail.retrieval.account import Account, Order
from masqmail.retrieval.imap import ImapRetriever
from masqmail.settings import HostPort
from masqmail.system.clock import FakeClock
from support.fakeinbox import FakeInbox
from support.imapserver import Box, ImapServer
from support.scripted_server import Listener, listening

ACCOUNT = Account(
    name="test",
    server=HostPort("127.0.0.1", 0),
    credentials=Credentials("ann", Secret("sesame")),
    tls=TlsMode.NONE,
    clear_password=True,
)


def message(name: object, body: bytes = b"Hello\r\n") -> bytes:
    """A small message."""
    return f"Subject: {name}\r\n\r\n".encode() + body


@dataclass
class Post:
    """An account, its server and who fetches."""

    listener: Listener
    account: Account
    boxes: dict[str, Box]
    clock: FakeClock = field(default_factory=FakeClock)
    inbox: FakeInbox = field(default_factory=FakeInbox)

    def __post_init__(self) -> None:
        self.retriever = ImapRetriever(self.clock)

    @property
    def box(self) -> Box:
        return self.boxes["INBOX"]

    @property
    def servers(self) -> list[ImapServer]:
        """One for each connection that was made."""
        return self.listener.servers  # type: ignore[return-value]

    @property
    def commands(self) -> list[str]:
        """What the last server heard, without tags."""
        return [line.partition(" ")[2] for line in self.servers[-1].commands]

    async def fetch(self, *uids: str, **changes: Any) -> FakeInbox:
        await self.retriever.fetch(replace(self.account, **changes), self.inbox, Order(uids))
        return self.inbox


@asynccontextmanager
async def post(
    *contents: bytes,
    make: Callable[..., ImapServer] = ImapServer,
    tls: ssl.SSLContext | None = None,
    implicit_tls: bool = False,
    slice_bytes: int = 0,
    **changes: Any,
) -> AsyncIterator[Post]:
    """A server with these messages in its INBOX. `changes` are of the account."""
    boxes = {"INBOX": Box()}
    boxes["INBOX"].add(*contents)
    options: dict[str, Any] = {"tls": tls, "implicit_tls": implicit_tls, "slice_bytes": slice_bytes}
    async with listening(lambda: make(boxes=boxes), **options) as listener:
        here = Post(listener, replace(ACCOUNT, server=listener.address, **changes), boxes)
        try:
            yield here
        finally:
            await here.retriever.aclose()
