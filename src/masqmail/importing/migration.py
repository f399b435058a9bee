"""What all parts of an import share: the new file, the report, the secrets, and the old settings to be taken."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from masqmail.config.values import KINDS, BadValue
from masqmail.frozen import frozen
from masqmail.importing.dialect import Dialect
from masqmail.importing.document import Document, Section, Value
from masqmail.importing.globs import spread
from masqmail.importing.grammar import HIDDEN, Statement
from masqmail.importing.report import Note, Report, Weight
from masqmail.importing.values import BadOldValue, number, split_include, split_list, truth
from masqmail.mail.address import AddressError, parse_mailbox

_BAD_CHARACTERS = re.compile(r"[^\w.+-]")
_LONGEST_NAME = 64
_SHOWN = 100


class Files(Protocol):
    """The old files by the names that the old configuration has for them."""

    def read(self, path: str) -> str | None:
        """The text of a file, or None when it cannot be read."""


@frozen
class Option:
    """One old setting, and where it stands."""

    name: str
    value: str
    place: str

    def __str__(self) -> str:
        value = "…" if HIDDEN.search(self.name) else self.value
        return f"{self.name} = {value if len(value) <= _SHOWN else value[:_SHOWN] + '…'}"


class Options:
    """The settings of one old file. Whoever knows one takes it; what is left at the end has no counterpart."""

    def __init__(
        self, file: str, statements: Iterable[Statement], report: Report, *, many: tuple[str, ...] = ()
    ) -> None:
        """Of equal names the last one counts, but for those that begin with one of `many`."""
        self.file = file
        self._left: list[Option] = []
        for statement in statements:
            option = Option(statement.name, statement.value, f"{file}:{statement.line}")
            if not statement.alive:
                report.add(Weight.LOST, "the old program had stopped reading above it", str(option), option.place)
                continue
            if not option.name.startswith(many or ("\0",)) and (earlier := self.take(option.name)):
                report.add(
                    Weight.CHANGED, f"line {statement.line} says otherwise, and counts", str(earlier), earlier.place
                )
            self._left.append(option)

    def take(self, name: str) -> Option | None:
        """The setting of this name, which is then done with."""
        return next(iter(self.take_all((name,), exact=True)), None)

    def take_all(self, names: tuple[str, ...], *, exact: bool = False) -> list[Option]:
        """The settings with these names or, unless `exact`, these beginnings; in the order of the file."""
        found = [
            option for option in self._left if (option.name in names if exact else option.name.startswith(names))
        ]
        self._left = [option for option in self._left if option not in found]
        return found

    def rest(self) -> list[Option]:
        """What nobody took."""
        return self.take_all(("",))


@frozen
class Account:
    """A fetch account with what its old UID list is called after. `has_list` says that it should have one."""

    name: str
    user: str
    host: str
    has_list: bool = False


@frozen
class Outcome:
    """A finished import: the new file, what to say about it, and what belongs into files beside it.

    `secrets` and `files` are contents by file name; `spool` is where the old queue was, or empty.
    """

    toml: str
    notes: tuple[Note, ...]
    secrets: Mapping[str, str]
    files: Mapping[str, str]
    accounts: tuple[Account, ...] = ()
    spool: str = ""


@dataclass(slots=True)
class Migration:
    """An import under way."""

    files: Files
    dialect: Dialect = Dialect.V10
    report: Report = field(default_factory=Report)
    document: Document = field(default_factory=Document)
    secrets: dict[str, str] = field(default_factory=dict)
    more_files: dict[str, str] = field(default_factory=dict)
    accounts: list[Account] = field(default_factory=list)
    host_name: str = ""
    spool: str = ""

    def outcome(self) -> Outcome:
        for header, reason in self.document.left_out().items():
            self.report.add(Weight.WRONG, f"left out: {reason}", f"[{header}]")
        return Outcome(
            self.document.render(),
            self.report.notes,
            self.secrets,
            self.more_files,
            tuple(self.accounts),
            self.spool,
        )

    # what is said about a setting

    def lose(self, section: Section, option: Option, why: str) -> None:
        """The setting has no counterpart."""
        section.comment(f"{option}: {why}")
        self.report.add(Weight.LOST, why, str(option), option.place)

    def wrong(self, section: Section, option: Option, why: str) -> None:
        """The setting makes no sense."""
        section.comment(f"{option}: {why}")
        self.report.add(Weight.WRONG, why, str(option), option.place)

    def changed(self, option: Option, how: str) -> None:
        self.report.add(Weight.CHANGED, how, str(option), option.place)

    def check(self, option: Option, what: str) -> None:
        self.report.add(Weight.CHECK, what, str(option), option.place)

    def lose_rest(self, options: Options, section: Section, reasons: Mapping[str, str]) -> None:
        """Reports whatever nobody took: with the reason we know, or as unknown to the old program, too."""
        for option in options.rest():
            reason = reasons.get(option.name, "the old program did not know it either")
            self.lose(section, option, reason)

    # values

    def flag(self, option: Option | None, section: Section, *, default: bool = False) -> bool:
        """Whether a setting is on."""
        if option is None:
            return default
        try:
            return truth(option.value)
        except BadOldValue as error:
            self.wrong(section, option, str(error))
            return default

    def amount(self, option: Option | None, section: Section) -> int:
        """A number above 0; 0 stands for none."""
        if option is None:
            return 0
        found = number(option.value)
        if not 0 <= found < 2**62:
            self.wrong(section, option, "no number that makes sense here")
            return 0
        return found

    def items(self, option: Option | None, *, include: bool = True, is_map: bool = False) -> list[str]:
        """The items of a list, with those of the files it names."""
        if option is None:
            return []
        listed = split_list(option.value)
        if listed.padded and self.dialect.is_old and not is_map:
            shown = ", ".join(f'"{item}"' for item in listed.padded[:3])
            self.changed(option, f"blanks belonged to the items, so {shown} never counted; the blanks are gone")
        found: list[str] = []
        for item in listed.items:
            if not include or not item.startswith("/"):
                found.append(item)
            elif (text := self.files.read(item)) is None:
                self.report.add(Weight.WRONG, f"the list in {item} cannot be read", str(option), option.place)
            else:
                included = split_include(text)
                self.changed(option, f"the {len(included)} items of {item} stand in the new file now")
                found += included
        return list(dict.fromkeys(found))

    def put(self, section: Section, key: str, kind: object, value: Value, option: Option) -> bool:
        """Sets a value of one of our kinds, or says why it is none."""
        try:
            KINDS[kind].read(value)
        except BadValue as bad:
            self.wrong(
                section, option, f"{key} here must be {KINDS[kind].name}{': ' * bool(bad.problem)}{bad.problem}"
            )
            return False
        section[key] = value
        return True

    def put_list(self, section: Section, key: str, kind: object, values: Sequence[str], option: Option) -> list[str]:
        """Sets a list without the values that are none of our kind, which are reported."""
        good = self.good(section, kind, values, option)
        if good:
            section[key] = good
        return good

    def good(self, section: Section, kind: object, values: Iterable[str], option: Option) -> list[str]:
        """Those of some values that are of one of our kinds; the others are reported."""
        found = []
        for value in values:
            try:
                KINDS[kind].read(value)
            except BadValue:
                self.wrong(section, option, f'"{value}" is not {KINDS[kind].name}')
                continue
            found.append(value)
        return list(dict.fromkeys(found))

    def spread(self, glob: str, option: Option) -> tuple[str, ...]:
        """Our patterns for an old glob; that they match more is told."""
        patterns, is_wider = spread(glob)
        if is_wider:
            self.check(option, f'"{glob}" cannot be said here, and "{patterns[0]}" matches more')
        return patterns

    def qualified(self, address: str) -> str | None:
        """A whole address with the host's name where it has no domain; None when it is no address."""
        text = address.strip().removeprefix("<").removesuffix(">")
        try:
            mailbox = parse_mailbox(text)
            return str(mailbox if mailbox.domain else parse_mailbox(f"{text}@{self.host_name or 'localhost'}"))
        except AddressError:
            return None

    def secret(self, name: str, value: str) -> str:
        """Keeps a secret for a file of its own; the file's name."""
        file = free_name(
            f"{name}.secret", lambda other: other in self.secrets and self.secrets[other] != value + "\n"
        )
        self.secrets[file] = value + "\n"
        return file


def free_name(name: str, is_taken: Callable[[str], bool]) -> str:
    """The name, with a number behind it when it is taken."""
    number = 1
    candidate = name
    while is_taken(candidate):
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def good_name(text: str) -> str:
    """The text as the name of a link, route or account."""
    return _BAD_CHARACTERS.sub("-", text)[:_LONGEST_NAME] or "-"
