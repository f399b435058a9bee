"""What every way of fetching shares: the account, the messages found there, and whom they are handed to."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol

from masqmail.frozen import frozen
from masqmail.mail.outcome import Culprit
from masqmail.net.session import TlsMode
from masqmail.proto.sasl import Credentials
from masqmail.settings import HostPort
from masqmail.spool.api import FetchMark, Uid


class FetchFailure(Exception):
    """An account could not be fetched, or not to the end. The message says why, for people.

    `culprit` LOGIN says that the server refused name or password; SESSION and the others that it may go well later.
    What was taken until then stays taken.
    """

    def __init__(self, reason: str, culprit: Culprit = Culprit.SESSION) -> None:
        super().__init__(reason)
        self.reason = reason
        self.culprit = culprit


@frozen(kw_only=True)
class Account:
    """How one account is spoken to and what is wanted of it.

    `mechanisms` are the ways to log in, the best first; empty stands for all that are safe. `clear_password` lets
    the password travel without TLS. `keep` True leaves mail on the server, False deletes what was taken, a duration
    deletes it when it was taken so long ago. With `move_to` it is moved to that folder in
    place of deleting it, where there are folders. Bigger messages than `max_size` bytes stay. `max_messages` of 0 is
    all.
    `domains` are those whose mail is asked for, where that is how it goes (ODMR, ETRN). Without a user name nobody
    logs in (ETRN).
    `time_scale` stretches every time-out for slow links.
    """

    name: str
    server: HostPort
    credentials: Credentials
    tls: TlsMode = TlsMode.IMPLICIT
    tls_ca: Path | None = None
    tls_fingerprint: str = ""
    mechanisms: tuple[str, ...] = ()
    clear_password: bool = False
    folders: tuple[str, ...] = ("INBOX",)
    domains: tuple[str, ...] = ()
    keep: bool | timedelta = False
    move_to: str = ""
    max_size: int | None = None
    max_messages: int = 0
    wrapper: tuple[str, ...] = ()
    local_address: str = ""
    time_scale: float = 1.0


class Found(NamedTuple):
    """A message on the server. `size_bytes` is what the server says of it, which may be wrong."""

    uid: Uid
    size_bytes: int


@frozen
class Order:
    """What somebody asks for: with `uids` these alone, whatever their size; else whatever is new.

    They are called as `ordered_name` calls them. Where there are folders their own may be left out.
    """

    uids: tuple[str, ...] = ()


def ordered_name(uid: Uid) -> str:
    """What a message is called in an `Order`: its folder, if it has one, a colon, and its name there."""
    return f"{uid.folder}:{uid.uid}" if uid.folder else uid.uid


@dataclass(slots=True)
class Tally:
    """What one fetch has done so far; `expected` counts what it means to take."""

    expected: int = 0
    taken: int = 0
    taken_bytes: int = 0
    left: int = 0  # too big, on the server
    refused: int = 0  # which we cannot take; also on the server
    deleted: int = 0
    moved: int = 0  # to another folder on the server


class Parcel(Protocol):
    """One message on its way from the server into the queue."""

    def write(self, data: bytes) -> None:
        """Takes the next octets, in any slices, the protocol's dots undone. Never raises for what they hold."""

    async def finish(self) -> str:
        """Returns the queue ID when message and mark are on stable storage: only then may it be deleted.

        Raises `spool.intake.Refused` when it is not taken, `SpoolError` when it cannot be.
        """

    def discard(self) -> None:
        """Forgets what was received; harmless after `finish`."""


class Inbox(Protocol):
    """The program's side of one fetch of one account.

    When `is_closing` becomes true the program wants to end: nothing more is asked for, and what was taken until then
    is dealt with as ever. After some seconds the fetch is cancelled.
    """

    tally: Tally
    is_closing: bool

    async def marks(self) -> Mapping[Uid, FetchMark]:
        """What was taken or left before, of all folders of this account."""

    def open(self, found: Found) -> Parcel:
        """Begins to take a message. Several may be open at a time."""

    async def leave(self, found: Found, header: bytes) -> None:
        """Notes, once, that a message stays on the server for its size, and tells its owner how to get it."""

    async def refuse(self, found: Found, reason: str) -> None:
        """Notes, once, that a message cannot be taken, and tells the postmaster why."""

    async def forget(self, uids: Collection[Uid]) -> None:
        """Drops marks of messages that the server has no more."""

    def now(self) -> datetime:
        """The time by which `keep` is reckoned."""

    def progress(self) -> None:
        """Says that `tally` has changed: somebody may be looking."""


class Retriever(Protocol):
    """One account's server. A retriever lives as long as its account is configured and keeps what helps next time."""

    async def fetch(self, account: Account, inbox: Inbox, order: Order) -> None:
        """Takes what is new, counting in `inbox.tally`. Raises `FetchFailure`."""

    async def wait_for_mail(self, account: Account) -> None:
        """Returns when the server has something new (IMAP IDLE), or should be asked anew. Raises `FetchFailure`.

        Only for accounts with `interval = "idle"`.
        """

    async def aclose(self) -> None:
        """Ends what it keeps open."""
