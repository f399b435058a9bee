"""What a POP3 mailbox holds, compared with what was done with it before: a plan. Pure.

A message is known by its UIDL. Where a server has none, or gives the same to several messages, it is known by a hash
of its header section and size: see `hash_name`. Of messages with nothing to be done hardly anything is kept, so that
a mailbox with a hundred thousand of them costs little.
"""

import hashlib
from array import array
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from masqmail.frozen import frozen
from masqmail.proto.lines import nonsense
from masqmail.retrieval.account import Found
from masqmail.spool.api import FetchFate, FetchMark, Uid

#: How names begin that are made of header section and size.
HASHED = "sha256:"

#: How far above `max_size` a message may get that was listed with less, since servers count in their own ways.
EXCESS_BYTES = 65536
EXCESS_SHARE = 8  # and this part of `max_size`

_ABSENT = -1


class Message(NamedTuple):
    """A message of this session: `number` is what commands call it."""

    number: int
    found: Found


class Todo(Enum):
    """What to do with a message."""

    TAKE = "take"
    LEAVE = "leave"  # and say so, since nobody has yet
    DELETE = "delete"
    NOTHING = "nothing"


@frozen
class Rules:
    """What is wanted. `uids` are what somebody asks for by name: then these alone, of any size."""

    keep: bool | timedelta
    now: datetime
    max_size: int | None = None
    uids: frozenset[str] = frozenset()

    @property
    def most_bytes(self) -> int | None:
        """Where a message is cut off that gets longer than the server has said; None is nowhere."""
        if self.uids or self.max_size is None:
            return None
        return self.max_size + self.max_size // EXCESS_SHARE + EXCESS_BYTES

    def todo(self, found: Found, mark: FetchMark | None) -> Todo:
        """What to do with a message that was dealt with before as its mark says.

        One that was taken, but with another size, is deleted only when it was taken anew: there are servers that
        give old names to new messages. One that was cut off, longer than listed, comes when there is no bound.
        """
        if self.uids and found.uid.uid not in self.uids:
            return Todo.NOTHING
        fits = bool(self.uids) or self.max_size is None or found.size_bytes <= self.max_size
        if mark is None:
            return Todo.TAKE if fits else Todo.LEAVE
        match mark.fate:
            case FetchFate.TAKEN if not self.is_over(mark.at):
                return Todo.NOTHING
            case FetchFate.TAKEN if mark.size_bytes in (0, found.size_bytes):
                return Todo.DELETE
            case FetchFate.TAKEN:
                return Todo.TAKE if fits else Todo.LEAVE
            case FetchFate.LEFT:
                was_cut = self.most_bytes is not None and mark.size_bytes > found.size_bytes
                return Todo.TAKE if fits and not was_cut else Todo.NOTHING
            case FetchFate.REFUSED:
                return Todo.TAKE if self.uids else Todo.NOTHING

    def is_over(self, taken_at: datetime) -> bool:
        """Whether a message that was taken then is to be deleted now."""
        if isinstance(self.keep, timedelta):
            return taken_at + self.keep <= self.now
        return not self.keep


class Survey:
    """Takes what STAT, LIST and UIDL say, in this order, and makes a plan of it.

    Raises `PeerError` for listings that contradict themselves. Names in `repeated` belong to several messages: for
    them UIDL is to be read a second time, with `note_repeated`. Messages in `unnamed` get a name by `note_header`.
    """

    def __init__(self, rules: Rules, marks: Mapping[Uid, FetchMark]) -> None:
        self.repeated: set[str] = set()
        self.unnamed: list[int] = []
        self.take: list[Message] = []
        self.leave: list[Message] = []
        self.delete: list[Message] = []
        self.left = 0  # that stay for their size, as somebody was told
        self.refused = 0  # that stay because we could not take them
        self.messages: int | None = None  # as STAT says
        self._rules = rules
        self._marks = marks
        self._missing = {uid for uid in marks if not uid.folder}  # of which no message was seen
        self._sizes = array("q")  # by message number, less one
        self._listed = 0
        self._is_named = bytearray()  # in the same places
        self._new: dict[str, int] = {}  # names and numbers of those without a mark ...
        self._old: dict[str, int] = {}  # ... and of those with one that have something to be done
        self._hashes: dict[str, list[int]] = {}

    @property
    def has_names(self) -> bool:
        """Whether messages here were known by names of the server before."""
        return any(not is_hashed(uid) for uid in self._marks if not uid.folder)

    @property
    def contradiction(self) -> str:
        """What is wrong with the listings, to stand behind the server's name; empty when they agree."""
        if self.messages is not None and self.messages != self._listed:
            return f"says that it has {self.messages} messages and lists {self._listed}"
        return ""

    # what the server says

    def note_sizes(self, rows: Iterable[tuple[int, int]]) -> None:
        """Some lines of LIST."""
        sizes = self._sizes
        for number, size in rows:
            if number == len(sizes) + 1:  # as nearly always
                sizes.append(size)
            else:
                sizes.extend([_ABSENT] * (number - len(sizes)))
                if sizes[number - 1] != _ABSENT:
                    raise nonsense(f"LIST has message {number} twice")
                sizes[number - 1] = size
            self._listed += 1

    def note_names(self, rows: Iterable[tuple[int, str]]) -> None:
        """Some lines of UIDL."""
        for number, name in rows:
            self._note_number(number)
            if not name:
                self.unnamed.append(number)
            elif name in self._new or name in self.repeated:
                self.repeated.add(name)
            else:
                self._note_name(number, name)

    def names_end(self) -> None:
        """UIDL is over, or there is none: messages without a name are known now."""
        named = self._is_named.ljust(len(self._sizes), b"\0")
        self.unnamed += [
            number for number, size in enumerate(self._sizes, 1) if size != _ABSENT and not named[number - 1]
        ]
        for name in self.repeated:
            self._new.pop(name, None)
            self._old.pop(name, None)

    def note_repeated(self, rows: Iterable[tuple[int, str]]) -> None:
        """Some lines of a second UIDL: whose name is another's, too, has none."""
        self.unnamed += [number for number, name in rows if name in self.repeated]

    def note_header(self, number: int, header: bytes) -> None:
        """The header section of a message without a name."""
        self._hashes.setdefault(hash_name(header, self._sizes[number - 1]), []).append(number)

    def note_nameless(self, number: int, nonce: bytes) -> None:
        """A message that cannot be told from others: it can only be taken and deleted at once.

        One that is too big stays without a word, which nobody could keep from being said again and again.
        """
        message = self._message(number, HASHED + hashlib.sha256(b"%s %d" % (nonce, number)).hexdigest())
        if self._rules.todo(message.found, None) is Todo.TAKE:
            self.take.append(message)
        else:
            self.left += 1

    # what follows

    def plan(self) -> None:
        """Fills `take`, the smallest first, `leave` and `delete`."""
        for name, number in (*self._new.items(), *self._old.items()):
            self._plan_message(self._message(number, name))
        for name, numbers in self._hashes.items():
            for index, number in enumerate(sorted(numbers)):
                message = self._message(number, f"{name}/{index + 1}" if index else name)
                self._missing.discard(message.found.uid)
                self._plan_message(message, is_certain=len(numbers) == 1)
        self._new, self._old, self._hashes = {}, {}, {}
        self.take.sort(key=lambda message: (message.found.size_bytes, message.number))
        self.delete.sort()

    def gone(self) -> list[Uid]:
        """What was dealt with once and is not on the server any more."""
        return list(self._missing)

    def unmet(self) -> list[str]:
        """What somebody asks for and is not there."""
        if not self._rules.uids:
            return []
        there = {message.found.uid.uid for message in (*self.take, *self.delete)}
        taken = {uid.uid for uid, mark in self._marks.items() if mark.fate is FetchFate.TAKEN} - {
            uid.uid for uid in self._missing
        }
        return sorted(self._rules.uids - there - taken)

    def _note_number(self, number: int) -> None:
        if number > len(self._sizes) or self._sizes[number - 1] == _ABSENT:
            raise nonsense(f"UIDL has message {number}, which LIST has not")
        if number > len(self._is_named):
            self._is_named.extend(bytes(number - len(self._is_named)))
        if self._is_named[number - 1]:
            raise nonsense(f"UIDL has message {number} twice")
        self._is_named[number - 1] = 1

    def _note_name(self, number: int, name: str) -> None:
        """A name that no message had yet, unless its mark was met."""
        uid = Uid("", name)
        mark = self._marks.get(uid)
        if mark is None:
            if self._rules.todo(Found(uid, self._sizes[number - 1]), None) is not Todo.NOTHING:
                self._new[name] = number
            return
        if uid not in self._missing:
            self.repeated.add(name)
            return
        self._missing.discard(uid)
        if self._rules.todo(Found(uid, self._sizes[number - 1]), mark) is not Todo.NOTHING:
            self._old[name] = number
        else:
            self._count(mark)

    def _message(self, number: int, name: str) -> Message:
        return Message(number, Found(Uid("", name), self._sizes[number - 1]))

    def _plan_message(self, message: Message, *, is_certain: bool = True) -> None:
        """`is_certain` is false for who looks like another: it may be deleted only by who has just taken it."""
        mark = self._marks.get(message.found.uid)
        match self._rules.todo(message.found, mark):
            case Todo.TAKE:
                self.take.append(message)
            case Todo.LEAVE:
                self.leave.append(message)
            case Todo.DELETE:
                (self.delete if is_certain else self.take).append(message)
            case Todo.NOTHING if mark is not None:
                self._count(mark)

    def _count(self, mark: FetchMark) -> None:
        self.left += mark.fate is FetchFate.LEFT
        self.refused += mark.fate is FetchFate.REFUSED


def hash_name(header: bytes, size_bytes: int) -> str:
    """What stands for the name of a message where the server has none."""
    digest = hashlib.sha256(b"%d\n" % size_bytes + header.rstrip(b"\r\n"))
    return HASHED + digest.hexdigest()


def is_hashed(uid: Uid) -> bool:
    """Whether this is such a name."""
    return uid.uid.startswith(HASHED)
