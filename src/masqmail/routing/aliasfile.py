"""Alias files and lists of targets as text: what `/etc/aliases` and an `:include:` file say.

The grammar is in `docs/reference/aliases.md`. Reading never fails: what is wrong becomes a fault with its line,
and stands as a bad item in its entry, so that whoever expands the entry can say who did not get the mail.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from enum import Enum

from masqmail.frozen import frozen
from masqmail.mail.address import AddressError, Mailbox, parse_mailbox
from masqmail.mail.addresslist import parse_address_list
from masqmail.routing.pattern import glob


class ItemKind(Enum):
    """What one target of an entry is."""

    ADDRESS = "address"  # to be expanded further when it is local
    USER = "user"  # `\\user`: a mailbox, not expanded further
    PIPE = "pipe"  # `"|command args"`
    FILE = "file"  # `/file` or `/dir/`
    INCLUDE = "include"  # `:include:/file`: more targets
    BAD = "bad"  # nothing we could use


@frozen
class Item:
    """One target. `text` is the command, the path, or the target as written; `mailbox` is for addresses and users.

    `reason` says what is wrong with a bad one.
    """

    kind: ItemKind
    text: str
    mailbox: Mailbox | None = None
    reason: str = ""


@frozen
class AliasEntry:
    """One name with its targets. `source` is "FILE:NAME", by which people and the privileged parent find it."""

    name: str
    items: tuple[Item, ...]
    source: str
    line: int


@frozen
class FileFault:
    """Something wrong in an alias file, for people."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@frozen
class AliasTable:
    """The entries of one alias file in order, and what is wrong with it."""

    file: str
    entries: tuple[AliasEntry, ...] = ()
    faults: tuple[FileFault, ...] = ()
    _exact: dict[str, AliasEntry] = field(init=False, repr=False, compare=False)
    _folded: dict[str, AliasEntry] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        backwards = self.entries[::-1]  # the first entry of a name is the one that counts
        object.__setattr__(self, "_exact", {entry.name: entry for entry in backwards})
        object.__setattr__(self, "_folded", {entry.name.lower(): entry for entry in backwards})

    def find(self, name: str, *, match_case: bool) -> AliasEntry | None:
        """The entry of that name."""
        return self._exact.get(name) if match_case else self._folded.get(name.lower())

    def first_match(self, mailbox: Mailbox, *, match_case: bool) -> AliasEntry | None:
        """The first entry whose name is a glob that the whole address fits; domains have no case."""
        address = _folded(f"{mailbox.local_part}@{mailbox.domain_key}", match_case)
        return next((entry for entry in self.entries if glob(_folded(entry.name, match_case))(address)), None)


_NAME = re.compile(r'(?:"((?>(?:[^"\\]++|\\.)*))"\s*+|([^":]*+)):(.*)', re.DOTALL)
_TARGET = re.compile(r'(?>(?:[^",\\]++|"(?>(?:[^"\\]++|\\.)*)"|\\.?)*)', re.DOTALL)
_QUOTED = re.compile(r'"((?>(?:[^"\\]++|\\.)*))"', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')
_WORD_PART = r"""(?:[^\s'"\\]++|'[^']*+'|"(?>(?:[^"\\]++|\\.)*)"|\\.)"""
_WORD = re.compile(rf"\s*+((?>{_WORD_PART}+))(?=\s|$)\s*+", re.DOTALL)
_PART = re.compile(_WORD_PART, re.DOTALL)

_INCLUDE = ":include:"
_SHOWN = 60  # characters of a bad target that its fault quotes


def parse(text: str, file: str, *, has_globs: bool = False) -> AliasTable:
    """Reads an alias file; `file` is its name in sources and faults. Bytes that are no UTF-8 may be surrogates.

    With `has_globs` the names are globs for whole addresses.
    """
    entries: dict[str, AliasEntry] = {}
    faults: list[FileFault] = []
    for line, logical in _logical_lines(text):
        match = _NAME.fullmatch(logical)
        quoted, plain, targets = match.groups() if match else (None, "", "")
        name = _ESCAPED.sub(r"\1", quoted) if quoted is not None else plain.strip()
        if reason := _fault_of_name(name, logical, entries, has_globs):
            faults.append(FileFault(file, line, reason))
            continue
        entry = AliasEntry(name, split_targets(targets), f"{file}:{name}", line)
        entries[name] = entry
        reasons = [item.reason for item in entry.items if item.kind is ItemKind.BAD]
        if not entry.items:
            reasons.append("the entry has no target")
        faults += [FileFault(file, line, f"{name}: {reason}") for reason in reasons]
    return AliasTable(file, tuple(entries.values()), tuple(faults))


def parse_included(text: str) -> tuple[Item, ...]:
    """Reads a file of targets alone, one or more to a line, with comments as in an alias file."""
    return tuple(item for line in text.split("\n") if not line.startswith("#") for item in split_targets(line))


def split_targets(text: str) -> tuple[Item, ...]:
    """Reads `target, target, …`; empty ones are none. A quote that is never closed spoils what follows it."""
    targets = []
    position = 0
    while position < len(text):
        match = _TARGET.match(text, position)
        end = match.end() if match else position
        if end < len(text) and text[end] != ",":
            end = len(text)
        targets.append(text[position:end].strip())
        position = end + 1
    return tuple(_read_item(target) for target in targets if target)


def split_command(text: str) -> tuple[str, ...]:
    """The words of a command line: split at blanks, with '…', "…" and \\ as quotes; nothing is expanded.

    Raises `ValueError` when a quote is never closed or there is no word.
    """
    words = []
    position = 0
    while position < len(text):
        match = _WORD.match(text, position)
        if match is None:
            if text[position:].strip():
                raise ValueError("a quote is never closed, or a backslash stands at the end")
            break
        words.append("".join(_unquote_part(part) for part in _PART.findall(match[1])))
        position = match.end()
    if not words:
        raise ValueError("there is no command")
    return tuple(words)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations, without comments and empty ones; the number is that of the first line."""
    number, parts = 0, list[str]()
    for index, line in enumerate(text.split("\n"), 1):
        if line.startswith("#") or not line.strip():
            continue
        if parts and line[0] in " \t":
            parts.append(line.strip())
            continue
        if parts:
            yield number, " ".join(parts)
        number, parts = index, [line.strip()]
    if parts:
        yield number, " ".join(parts)


def _fault_of_name(name: str, logical: str, entries: Mapping[str, AliasEntry], has_globs: bool) -> str:
    """Why there can be no entry of this name, or nothing."""
    if not name:
        return f"no `name:` at the beginning of {_shorten(logical)}; a continuation line begins with a blank"
    if not _is_text(name):
        return f"{_shorten(name)} is not UTF-8"
    if has_globs and not set(name) & set("@*?"):
        return f"{name}: a glob is for the whole address; write {name}@* for this name in every local domain"
    if "@" in name and not has_globs:
        return f"{name}: an alias is a local-part without a domain; it holds for every local domain"
    if name in entries:
        return f"{name}: line {entries[name].line} has an entry of this name already, and that one counts"
    return ""


def _read_item(written: str) -> Item:
    """One target; quotes may stand around all of it, as sendmail has it."""
    if not _TARGET.fullmatch(written):
        return _bad(written, "a quote is never closed")
    if "\0" in written or not _is_text(written):
        return _bad(written, "it is not UTF-8, or has a NUL in it")
    text = _unquote(written)
    try:
        if text.startswith("|"):
            command = _unquote(text[1:].strip())
            split_command(command)
            return Item(ItemKind.PIPE, command)
        if text.startswith("\\"):
            return Item(ItemKind.USER, text, parse_mailbox(text[1:]))
        if text.startswith("/"):
            return Item(ItemKind.FILE, text)
        if text.lower().startswith(_INCLUDE):
            path = _unquote(text[len(_INCLUDE) :].strip())
            return (
                Item(ItemKind.INCLUDE, path) if path.startswith("/") else _bad(written, "the path must begin with /")
            )
        return Item(ItemKind.ADDRESS, text, _read_address(written, text))
    except ValueError as error:
        return _bad(written, str(error))


def _read_address(written: str, text: str) -> Mailbox:
    """An address; quotes around it may belong to the target (`"a@b"`) or to its local-part (`"a b"`)."""
    if text != written:
        try:
            return parse_mailbox(text)
        except AddressError:
            pass
    try:
        return parse_mailbox(written)
    except AddressError:
        if named := _read_named(written):
            return named
        raise


def _read_named(written: str) -> Mailbox | None:
    """The address of `Name <address>` or `address (name)`, or nothing when it is neither."""
    found = parse_address_list(written.encode())
    if len(found.listed) != 1 or found.faults:
        return None
    listed = found.listed[0]
    begin = listed.name.start if listed.name else listed.angle if listed.angle is not None else listed.spec.start
    return listed.mailbox if begin == 0 else None  # else a group's name stands before it


def _bad(written: str, reason: str) -> Item:
    shown = _shorten(written)
    return Item(ItemKind.BAD, written if _is_text(written) else shown, reason=f"{shown} is no target: {reason}")


def _unquote(text: str) -> str:
    """The text without the quotes around all of it, if it has them; `\\"` and `\\\\` lose their backslash."""
    match = _QUOTED.fullmatch(text)
    return _ESCAPED.sub(r"\1", match[1]) if match else text


def _unquote_part(part: str) -> str:
    """A part of a command's word as it is meant."""
    if part.startswith("'"):
        return part[1:-1]
    return part[1:] if part.startswith("\\") else _unquote(part)


def _is_text(text: str) -> bool:
    """Whether the text was UTF-8 in its file; other bytes come as surrogates, which can be stored nowhere."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _folded(address: str, match_case: bool) -> str:
    """An address or a glob for one, for comparing: in small letters, where case matters the domain alone."""
    local_part, at, domain = address.rpartition("@")
    return f"{local_part}{at}{domain.lower()}" if match_case and at else address if match_case else address.lower()


def _shorten(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
