"""What to ask an IMAP server for: which messages, in which pieces, and what to do with the pieces. Pure.

Small messages go together into one command, a big one comes in pieces that can be gone on with over another
connection. Sizes are what the server says; what it really sends decides.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from masqmail.spool.api import Uid

#: UIDs in one command: lines of more than 8,000 octets may be too long for a server, RFC 2683 §3.2.1.5.
MAX_UIDS = 500
#: Small messages in one command.
MAX_MESSAGES = 100
#: Commands on their way at a time.
MAX_COMMANDS = 16

PIECE_BYTES = 128 * 1024  # at first
MIN_PIECE_BYTES, MAX_PIECE_BYTES = 16 * 1024, 1024 * 1024
#: How long a piece should take. Not long: it is lost when the connection breaks.
PIECE_SECONDS = 3.0

#: What a message may be longer than the server says: some count a line end as one octet, RFC 2683 §3.4.5.
_SPARE_BYTES = 1 << 20


class Refusal(Exception):
    """The server said NO or BAD to a command. The message is what it said, for people."""


class Folder(NamedTuple):
    """A folder that was selected."""

    name: str
    uid_validity: int
    exists: int
    uid_next: int | None
    is_writable: bool

    def name_of(self, uid: int) -> Uid:
        """What a message in it is called in our marks."""
        return Uid(self.name, f"{self.uid_validity}:{uid}")

    def uid_of(self, name: Uid) -> int:
        """The reverse; 0 for a name from another folder, or another time of this one."""
        validity, _, number = name.uid.partition(":")
        fits = name.folder == self.name and validity == str(self.uid_validity) and number.isdecimal()
        return int(number) if fits else 0


def parse_name(text: str) -> Uid:
    """What somebody calls a message, FOLDER:UIDVALIDITY:UID or UIDVALIDITY:UID; without a folder that is empty."""
    *folder, validity, uid = text.rsplit(":", 2) if ":" in text else ("", text)
    return Uid(folder[0], f"{validity}:{uid}") if folder else Uid("", text)


class Listed(NamedTuple):
    """A message as the server lists it. They sort by size."""

    size_bytes: int
    uid: int
    is_deleted: bool = False


class Ask(NamedTuple):
    """`UID FETCH uids (BODY.PEEK[]<offset.length>)`."""

    uids: tuple[int, ...]
    offset: int
    length: int


class Piece(NamedTuple):
    """The next octets of a message."""

    uid: int
    data: bytes
    is_last: bool


class Missing(NamedTuple):
    """A message that the server does not hand out: it was deleted there meanwhile, or `reason` says why."""

    uid: int
    reason: str = ""


@dataclass(slots=True)
class _Item:
    uid: int
    size_bytes: int
    asked: int = 0
    got: int = 0
    is_alone: bool = False  # it is asked for in a command of its own


class Download:
    """The messages of one folder on their way, the smallest first. Several commands may be on their way at a time.

    Answers come in the order of the commands. After `lost` what was on its way is asked for again.
    """

    def __init__(self, messages: Iterable[Listed]) -> None:
        self.piece_bytes = PIECE_BYTES
        ordered = sorted(messages)
        self._items = {message.uid: _Item(message.uid, message.size_bytes) for message in ordered}
        self._waiting = deque(self._items)
        self._begun: dict[int, _Item] = {}  # of which something was asked for, and not all received
        self._singly: deque[int] = deque()  # to be asked for alone
        self._flying: deque[Ask] = deque()

    @property
    def is_over(self) -> bool:
        return not self._items

    @property
    def is_under_way(self) -> bool:
        """Whether a command is not answered yet."""
        return bool(self._flying)

    @property
    def begun(self) -> list[Listed]:
        """Messages of which something was received, but not all."""
        return [Listed(item.size_bytes, item.uid) for item in self._begun.values() if item.got]

    def adapt(self, octets: int, seconds: float) -> None:
        """So much came in such a time: makes pieces as long as suits the line."""
        if octets >= MIN_PIECE_BYTES:
            wanted = int(octets / max(seconds, 0.001) * PIECE_SECONDS)
            self.piece_bytes = min(max(wanted, MIN_PIECE_BYTES), 2 * self.piece_bytes, MAX_PIECE_BYTES)

    def next_ask(self) -> Ask | None:
        """The next command, when another one should be on its way."""
        on_the_way = sum(self._expected(ask) for ask in self._flying)
        if len(self._flying) >= MAX_COMMANDS or on_the_way >= 2 * self.piece_bytes:
            return None
        if (ask := self._ask_for_more() or self._ask_for_new()) is not None:
            self._flying.append(ask)
        return ask

    def answer(self, bodies: Mapping[int, bytes | None], refusal: str = "") -> list[Piece | Missing]:
        """What the answer to the first command on its way means.

        `bodies` are what it held for each UID, None where the server has nothing for it. With a `refusal` (NO or BAD)
        that may be less than was asked for.
        """
        ask, found = self._flying.popleft(), []
        for uid in ask.uids:
            item = self._items.get(uid)
            if item is None or item.got != ask.offset:
                continue  # the message ended sooner than we thought
            data = bodies.get(uid)
            if data is not None:
                found.append(self._take(item, data, ask))
            elif refusal and len(ask.uids) > 1:
                self._set_apart(uid)  # another one may be to blame
            else:
                self.drop(uid)
                found.append(Missing(uid, refusal or ("" if uid not in bodies else "it has no content")))
        return found

    def lost(self, *, is_repeated: bool = False) -> Missing | None:
        """The connection broke: goes back to what was received.

        When it does so at the same command again and again, a message of it is to blame: they are asked for one by
        one, and such a single one is given up.
        """
        first, blamed = self._flying[0] if self._flying else None, None
        self._flying.clear()
        if is_repeated and first is not None:
            blamed = self._blame(first)
        again = [item for item in self._begun.values() if not item.got]
        self._singly.extendleft(item.uid for item in reversed(again) if item.is_alone)
        self._waiting.extendleft(item.uid for item in reversed(again) if not item.is_alone)
        for item in again:
            del self._begun[item.uid]
        for item in self._begun.values():
            item.asked = item.got
        return blamed

    def _blame(self, ask: Ask) -> Missing | None:
        if len(ask.uids) == 1:
            self.drop(ask.uids[0])
            return Missing(ask.uids[0], "the connection breaks each time it is asked for")
        for uid in ask.uids:
            if uid in self._begun:
                self._set_apart(uid)
        return None

    def _set_apart(self, uid: int) -> None:
        self._begun.pop(uid, None)
        self._items[uid].is_alone = True
        self._singly.append(uid)

    def drop(self, uid: int) -> None:
        """Gives up a message that was begun."""
        self._begun.pop(uid, None)
        self._items.pop(uid, None)

    def _take(self, item: _Item, data: bytes, ask: Ask) -> Piece | Missing:
        item.got += len(data)
        if item.got > 2 * item.size_bytes + _SPARE_BYTES:
            self.drop(item.uid)
            return Missing(
                item.uid, f"it is a lot longer than the {item.size_bytes} octets that the server speaks of"
            )
        # An answer that is shorter than was asked for is the end. Not to those who cut answers as they like.
        is_last = len(data) < ask.length and (item.got >= item.size_bytes or not data)
        if is_last:
            self.drop(item.uid)
        elif item.asked < item.got or len(data) < ask.length:
            item.asked = item.got
        return Piece(item.uid, data, is_last)

    def _ask_for_more(self) -> Ask | None:
        """Of a message that was begun, or one that is to be asked for alone."""
        if self._singly:
            return self._first_ask([self._items[self._singly.popleft()]])
        flying = {uid for ask in self._flying for uid in ask.uids}
        for item in self._begun.values():
            if item.asked < item.size_bytes or item.uid not in flying:
                ask = Ask((item.uid,), item.asked, self.piece_bytes)
                item.asked += self.piece_bytes
                return ask
        return None

    def _ask_for_new(self) -> Ask | None:
        items: list[_Item] = []
        octets = 0
        while self._waiting and len(items) < MAX_MESSAGES:
            item = self._items[self._waiting[0]]
            octets += item.size_bytes
            if items and octets > self.piece_bytes:
                break
            items.append(item)
            self._waiting.popleft()
        return self._first_ask(items) if items else None

    def _first_ask(self, items: Sequence[_Item]) -> Ask:
        for item in items:
            item.asked = self.piece_bytes
            self._begun[item.uid] = item
        return Ask(tuple(item.uid for item in items), 0, self.piece_bytes)

    def _expected(self, ask: Ask) -> int:
        left = (item.size_bytes - ask.offset for uid in ask.uids if (item := self._items.get(uid)))
        return sum(min(max(octets, 0), ask.length) for octets in left)


def uid_sets(uids: Collection[int], limit: int = MAX_UIDS) -> list[str]:
    """UIDs as sets for commands ("1:3,7"), each of at most `limit` UIDs and with none that was not given."""
    ordered = sorted(uids)
    return [_uid_set(ordered[start : start + limit]) for start in range(0, len(ordered), limit)]


def parse_uid_set(text: str, limit: int) -> list[int]:
    """The numbers of a set that a server sent. Raises `ValueError` for one that is none or has more than `limit`."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition(":")
        low, high = sorted((int(first), int(last or first)))
        if len(found) + high - low >= limit:
            raise ValueError("more messages than can be")
        found.extend(range(low, high + 1))
    return found


def _uid_set(ordered: Sequence[int]) -> str:
    parts: list[str] = []
    start = 0
    for end in range(1, len(ordered) + 1):
        if end == len(ordered) or ordered[end] != ordered[end - 1] + 1:
            first, last = ordered[start], ordered[end - 1]
            parts.append(str(first) if first == last else f"{first}:{last}")
            start = end
    return ",".join(parts)
