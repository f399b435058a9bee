"""Alias expansion: from the address somebody wrote to the mailboxes, programs, files and hosts that get a copy.

Each entry is expanded once, however many ways lead to it, so the work is bounded by the tables and every mailbox
gets one copy. What cannot be used becomes a fault that names the entry it stands in; the good targets beside it
are kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import assert_never

from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox
from masqmail.mail.status import MAILBOX_UNKNOWN, Status
from masqmail.routing.aliasfile import AliasEntry, AliasTable, Item, ItemKind, parse_included, split_targets
from masqmail.routing.local import POSTMASTER, LocalDomains

MAX_TARGETS = 10_000  # of one address
MAX_DEPTH = 50  # entries within entries
MAX_FORWARDS = 20  # users whose .forward leads to the next one's

_FORWARD = "/.forward"

_DEFAULT = "[host] postmaster"  # the source of the entry that stands for the setting

ALIAS_LOOP = Status(554, "5.4.6", "The alias leads back to itself")
BAD_TARGET = Status(550, "5.1.3", "The alias has a target that is no address")
ALIAS_UNUSABLE = Status(550, "5.3.5", "The alias cannot be used")


class TargetKind(Enum):
    """What gets a copy. The names are those of `spool.api.TargetKind`."""

    REMOTE = "remote"
    MAILBOX = "mailbox"
    USER = "user"
    PIPE = "pipe"
    FILE = "file"


@frozen
class Target:
    """One copy: an address, a user name, a command line or a path, by `kind`.

    `source` is "FILE:NAME" of the alias entry it came from, empty without one.
    """

    kind: TargetKind
    value: str
    source: str = ""
    mailbox: Mailbox | None = None  # of a remote one

    @property
    def key(self) -> tuple[str, ...]:
        """The same for targets that must get one copy only; of use across the recipients of a message too.

        The same command in two entries is two targets: it may do a different thing for each.
        """
        if self.mailbox is not None:
            return (self.kind.value, self.mailbox.local_part, self.mailbox.domain_key)
        kind = TargetKind.MAILBOX if self.kind is TargetKind.USER else self.kind
        return (kind.value, self.value, self.source if self.kind is TargetKind.PIPE else "")

    def __str__(self) -> str:
        return f"|{self.value}" if self.kind is TargetKind.PIPE else self.value


@frozen
class Fault:
    """A target that nobody gets a copy at. `status` has the reason as its text, with the entry's name."""

    target: str
    status: Status
    source: str = ""

    @property
    def reason(self) -> str:
        return self.status.text


@frozen
class Expansion:
    """What became of one address. `is_expanded` says an alias made something else of it (RFC 3464 §2.3.3)."""

    targets: tuple[Target, ...]
    faults: tuple[Fault, ...]
    is_expanded: bool


def _read_nothing(path: str) -> str:
    raise OSError(f"{path} cannot be read here")


@frozen
class AddressBook:
    """What an expansion may ask: which addresses are local, the alias tables in order, and who has a mailbox.

    `globs` are tables whose names are globs for whole addresses; they go before the others. With `forwards` a user's
    ~/.forward is still to be asked; `forward_troubles` says why that of some users was passed over lately.
    `postmaster` is where the postmaster's mail goes unless an alias says otherwise. `read` gives the text of an
    included file or raises `OSError`. Other exceptions of the two callables pass through. `only_user` is the
    one there can be, where it is not root who delivers.
    """

    local: LocalDomains
    is_user: Callable[[str], bool]
    tables: Sequence[AliasTable] = ()
    globs: Sequence[AliasTable] = ()
    postmaster: str = "root"
    forwards: bool = False
    forward_troubles: Mapping[str, str] = field(default_factory=dict)
    read: Callable[[str], str] = _read_nothing
    only_user: str = ""

    def find(self, mailbox: Mailbox, inside: str = "") -> AliasEntry | None:
        """The entry for a local mailbox: the first glob, else that of its whole name before that without the detail.

        A glob that leads to an address it fits itself is passed over there: `inside` is its source. The postmaster,
        in any case of letters, always has an entry: RFC 5321 §4.5.1.
        """
        if self.globs:
            whole = self.local.qualify(mailbox)
            matches = (table.first_match(whole, match_case=self.local.match_case) for table in self.globs)
            found = next((entry for entry in matches if entry is not None), None)
            if found is not None and found.source != inside:
                return found
        names = self.local.names_of(mailbox)
        is_postmaster = POSTMASTER in map(str.lower, names)
        match_case = self.local.match_case and not is_postmaster
        for name in names:
            for table in self.tables:
                if entry := table.find(name, match_case=match_case):
                    return entry
        return AliasEntry(POSTMASTER, split_targets(self.postmaster), _DEFAULT, 0) if is_postmaster else None

    def knows(self, mailbox: Mailbox) -> bool:
        """Whether there is somebody of this local address: an alias, a user, or the postmaster."""
        return self.find(mailbox) is not None or self.local.user_of(mailbox, self.is_user) is not None


def expand(mailbox: Mailbox, book: AddressBook) -> Expansion:
    """Who gets a copy of what is sent to this mailbox. There is always a target or a fault."""
    run = _Run(book)
    run.address(mailbox, _Place())
    if not run.targets and not run.faults:
        run.fault(str(mailbox), ALIAS_UNUSABLE, "the alias leads to nobody", _Place())
    targets = tuple(run.targets.values())
    return Expansion(targets, tuple(run.faults), bool(run.expanded) and not _is_own_mailbox(targets, mailbox, book))


def _is_own_mailbox(targets: tuple[Target, ...], mailbox: Mailbox, book: AddressBook) -> bool:
    """Whether a local address leads to the mailbox of its own user and nowhere else."""
    if len(targets) != 1 or targets[0].kind not in (TargetKind.MAILBOX, TargetKind.USER):
        return False
    return targets[0].value == book.local.user_of(mailbox, book.is_user)


def expand_forward(user: str, came_by: Sequence[str], texts: Mapping[str, str], book: AddressBook) -> Expansion:
    """Who gets a copy when a user's .forward is asked; the mailbox where it names nobody.

    `texts` has it and the files it includes, as the user can read them, by their paths; its own comes first.
    `came_by` are the users whose .forward led here. Theirs is not asked again, so that loops end in a mailbox.
    """
    run = _Run(book, texts)
    source = forward_source(user)
    text = next(iter(texts.values()), "")
    run.items(parse_included(text), _Place(source, (source,), user, (*came_by, user)))
    if not run.targets and not run.faults:
        run.add(Target(TargetKind.MAILBOX, user, source))
    return Expansion(tuple(run.targets.values()), tuple(run.faults), True)


def forward_source(user: str) -> str:
    """The source of what a user's .forward names."""
    return f"~{user}{_FORWARD}"


def forward_owners(source: str) -> tuple[str, ...]:
    """The users whose .forward a source names, first to last; none for the source of an alias."""
    parts = source.split(" ") if source.startswith("~") else []
    return tuple(part[1:].removesuffix(_FORWARD) for part in parts if part.endswith(_FORWARD))


@frozen
class _Place:
    """Where a target stands: the entry it belongs to, and the entries and files around it, outermost first.

    Directly in a .forward `owner` is whose; `came_by` are those whose .forward led here, that one included.
    """

    source: str = ""
    chain: tuple[str, ...] = ()
    owner: str = ""
    came_by: tuple[str, ...] = ()

    def within(self, source: str) -> "_Place":
        """In an alias entry that is named here."""
        return _Place(source, (*self.chain, source), "", self.came_by)


@dataclass(slots=True)
class _Run:
    """One expansion under way. `expanded` has the entries and files that were opened, to open each once.

    `texts` are the files of a .forward.
    """

    book: AddressBook
    texts: Mapping[str, str] = field(default_factory=dict)
    targets: dict[tuple[str, ...], Target] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    expanded: set[str] = field(default_factory=set)

    def address(self, mailbox: Mailbox, place: _Place) -> None:
        """An address, which another entry may stand for."""
        if not self.book.local.is_local(mailbox):
            self.remote(mailbox, place)
            return
        if place.owner and self.book.local.user_of(mailbox, self.book.is_user) == place.owner:
            self.user(mailbox, place, is_final=True)  # who names himself in his .forward means his mailbox
            return
        entry = self.book.find(mailbox, place.source)
        if entry is None or entry.source == place.source:  # `bob: bob, bob@elsewhere` means his own mailbox
            self.user(mailbox, place)
        elif self.may_open(entry.source, str(mailbox), place):
            self.items(entry.items, place.within(entry.source))

    def remote(self, mailbox: Mailbox, place: _Place) -> None:
        remote = self.book.local.qualify(mailbox)
        self.add(Target(TargetKind.REMOTE, str(remote), place.source, remote))

    def user(self, mailbox: Mailbox, place: _Place, *, is_final: bool = False) -> None:
        """A local address that stands for itself; where it `is_final` no .forward is asked."""
        user = self.book.local.user_of(mailbox, self.book.is_user)
        if user is not None and self.book.forwards and not is_final and user not in place.came_by:
            source = " ".join(map(forward_source, place.came_by)) or place.source
            is_short = len(place.came_by) < MAX_FORWARDS
            self.add(Target(TargetKind.USER if is_short else TargetKind.MAILBOX, user, source))
        elif user is not None:
            self.add(Target(TargetKind.MAILBOX, user, place.source))
        else:
            self.fault(str(mailbox), MAILBOX_UNKNOWN, self.no_user(mailbox), place)

    def no_user(self, mailbox: Mailbox) -> str:
        reason = f"there is no user {mailbox.local_part} here"
        if only := self.book.only_user:
            reason += f": MasqMail runs as {only}, not as root, and delivers to {only} alone"
        return reason

    def items(self, items: Sequence[Item], place: _Place) -> None:
        for item in items:
            if (count := len(self.targets) + len(self.faults)) >= MAX_TARGETS:
                if count == MAX_TARGETS:
                    self.fault(item.text, ALIAS_UNUSABLE, f"there are more than {MAX_TARGETS} targets", place)
                return
            self.item(item, place)

    def item(self, item: Item, place: _Place) -> None:
        match item.kind:
            case ItemKind.ADDRESS:
                assert item.mailbox is not None
                self.address(item.mailbox, place)
            case ItemKind.USER:
                assert item.mailbox is not None
                if self.book.local.is_local(item.mailbox):
                    self.user(item.mailbox, place, is_final=True)
                else:
                    self.remote(item.mailbox, place)
            case ItemKind.PIPE:
                self.add(Target(TargetKind.PIPE, item.text, place.source))
            case ItemKind.FILE:
                self.add(Target(TargetKind.FILE, item.text, place.source))
            case ItemKind.INCLUDE:
                self.include(item.text, place)
            case ItemKind.BAD:
                self.fault(item.text, BAD_TARGET, item.reason, place)
            case _:
                assert_never(item.kind)

    def include(self, path: str, place: _Place) -> None:
        """The targets in a file belong to the entry that includes it."""
        if not self.may_open(path, path, place):
            return
        if place.owner and path not in self.texts:
            self.fault(path, ALIAS_UNUSABLE, f"{path} cannot be read safely by {place.owner}", place)
            return
        try:
            text = self.texts[path] if place.owner else self.book.read(path)
        except OSError as error:
            self.fault(path, ALIAS_UNUSABLE, f"{path} cannot be read: {error.strerror or error}", place)
        else:
            self.items(parse_included(text), replace(place, chain=(*place.chain, path)))

    def may_open(self, source: str, target: str, place: _Place) -> bool:
        """Whether an entry or file is to be opened now: not when we are inside it, nor when it was done before."""
        if source in place.chain:
            loop = " → ".join((*place.chain[place.chain.index(source) :], source))
            self.fault(target, ALIAS_LOOP, f"the alias leads back to itself: {loop}", place)
            return False
        if len(place.chain) >= MAX_DEPTH:
            self.fault(target, ALIAS_UNUSABLE, f"more than {MAX_DEPTH} aliases lie within each other", place)
            return False
        is_new = source not in self.expanded
        self.expanded.add(source)
        return is_new

    def add(self, target: Target) -> None:
        self.targets.setdefault(target.key, target)

    def fault(self, target: str, status: Status, reason: str, place: _Place) -> None:
        where = place.source if place.source.startswith("~") else f"alias {place.source}"
        text = f"{reason} ({where})" if place.source else reason
        self.faults.append(Fault(target, status.with_text(text), place.source))
