"""Replies to notices about messages that stay on a server for their size: each has such a message fetched.

A notice gives an address of this host that nobody can guess and nobody else knows. It is made from a secret in the
spool and the name of the message on its server, so nothing needs to be stored for it; its second half proves that it
is one of ours, before anybody looks which message it is about.
"""

import base64
import hmac
import secrets
from collections.abc import Callable, Iterable
from logging import ERROR

import anyio
from anyio.abc import TaskGroup

from masqmail.daemon.fetch.fetcher import Fetcher
from masqmail.mail.address import Mailbox
from masqmail.retrieval.account import ordered_name
from masqmail.routing.local import LocalDomains
from masqmail.spool.api import FetchFate, FetchMark, Spool
from masqmail.system.events import INTERNAL_ERROR, emit

LOCAL_PART = "masqmail-fetch+"

#: Under this name the spool has the secret, in hex.
MEMORY = "secret of replies to fetch notices"

_SECRET_BYTES = 32
_HALF_BYTES = 10  # 16 characters, so that all of a local-part stays under its 64 octets (RFC 5321 §4.5.3.1.1)


class FetchReplies:
    """Makes the addresses, knows them again, and finds the message that one is about."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._secret = b""
        self._loading = anyio.Lock()

    async def load(self) -> None:
        """Must have been done before anything else: reads the secret, or makes one."""
        async with self._loading:
            if self._secret:
                return
            text = await self._spool.recall(MEMORY)
            if text is None:
                text = secrets.token_hex(_SECRET_BYTES)
                await self._spool.remember(MEMORY, text)
            self._secret = bytes.fromhex(text)

    def address_for(self, mark: FetchMark, local: LocalDomains) -> Mailbox:
        """The address that a reply about this message goes to, in a domain of this host."""
        half = self._half_for(mark)
        mailbox = Mailbox(f"{LOCAL_PART}{half}{self._seal(half)}", local.host_name)
        plain = (domain for domain in local.domains if not set(domain) & {"*", "?"})
        return mailbox if local.is_local(mailbox) else mailbox.with_domain(next(plain, local.host_name))

    def is_one(self, mailbox: Mailbox) -> bool:
        """Whether we made this address, which must be local."""
        local_part = mailbox.local_part.lower()
        if not local_part.startswith(LOCAL_PART) or not self._secret or not local_part.isascii():
            return False
        token = local_part.removeprefix(LOCAL_PART)
        half = len(token) // 2
        return hmac.compare_digest(token[half:], self._seal(token[:half]))

    async def find(self, mailbox: Mailbox, accounts: Iterable[str]) -> FetchMark | None:
        """The message of these accounts that one of our addresses is about, if it is still left on its server."""
        token = mailbox.local_part.lower().removeprefix(LOCAL_PART)
        half = token[: len(token) // 2]
        for account in accounts:
            for mark in (await self._spool.fetch_marks(account)).values():
                if mark.fate is FetchFate.LEFT and hmac.compare_digest(half, self._half_for(mark)):
                    return mark
        return None

    def _half_for(self, mark: FetchMark) -> str:
        return self._digest("\0".join(("message", mark.account, mark.uid.folder, mark.uid.uid)))

    def _seal(self, half: str) -> str:
        return self._digest(f"seal\0{half}")

    def _digest(self, text: str) -> str:
        digest = hmac.digest(self._secret, text.encode(), "sha256")
        return base64.b32encode(digest[:_HALF_BYTES]).decode().lower()


class Orders:
    """What the rest of the daemon sees: takes replies, and has the messages fetched that they are about."""

    def __init__(
        self, replies: FetchReplies, fetcher: Fetcher, tasks: TaskGroup, accounts: Callable[[], Iterable[str]]
    ) -> None:
        self._replies = replies
        self._fetcher = fetcher
        self._tasks = tasks
        self._accounts = accounts
        self.is_one = replies.is_one

    def take(self, mailbox: Mailbox) -> None:
        """Has it looked after in a moment."""
        self._tasks.start_soon(self._take, mailbox)

    async def _take(self, mailbox: Mailbox) -> None:
        try:
            mark = await self._replies.find(mailbox, self._accounts())
            if mark is not None:  # else it was fetched meanwhile
                await self._fetcher.want(mark.account, ordered_name(mark.uid))
        except Exception as error:
            emit(INTERNAL_ERROR, level=ERROR, exception=error, reason="a reply to a notice was not obeyed")
