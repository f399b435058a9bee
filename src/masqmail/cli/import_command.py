"""`masqmail import`: the configuration and the queue of another program, into ours.

Without `--output` the new file goes to standard output and no other file is written. The report goes to standard
error. What is there already is never written over.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from masqmail.cli import text
from masqmail.config.load import ConfigError, Surroundings, parse
from masqmail.importing.dialect import Dialect
from masqmail.importing.kinds import find_kind, read_configuration
from masqmail.importing.migration import Outcome
from masqmail.importing.queuefolder import UidList, uid_lists
from masqmail.importing.report import Note, Weight, render

UIDS_FOLDER = "uids"
_PRIVATE = 0o600
_PUBLIC = 0o644


class CannotWrite(Exception):
    """A file cannot be written; the text says which and why."""


def run(options: argparse.Namespace) -> int:
    """Reads what stands at PATH, prints or writes ours, then hands over what waits in the old queue."""
    found = find_kind(Path(options.path))
    if found is None:
        return _complain(f"there is no configuration that could be imported at {options.path}", os.EX_NOINPUT)
    try:
        outcome = read_configuration(found, Dialect(options.dialect) if options.dialect else None)
    except FileNotFoundError as error:
        return _complain(f"{error.args[0]} cannot be read", os.EX_NOINPUT)
    output = Path(options.output).absolute() if options.output else None
    notes = [*outcome.notes, *_faults(outcome, output or Path("masqmail.toml").absolute())]
    try:
        lists, trouble = _uid_lists(options, outcome)
        notes += [*trouble, *_write(outcome, output, lists)]
    except CannotWrite as error:
        return _complain(str(error), os.EX_CANTCREAT)
    print(render(notes), end="", file=sys.stderr)
    sys.stderr.flush()
    if not options.queue:
        return os.EX_OK
    from masqmail.cli.import_queue import hand_over

    return hand_over(Path(options.queue), options.config or options.output or "")


def _faults(outcome: Outcome, file: Path) -> list[Note]:
    """What our own loader would say about the new file."""
    try:
        parse(outcome.toml.encode(), file, Surroundings.of_this_process())
    except ConfigError as error:
        return [
            Note(Weight.CHECK, f"{fault.wrong}; {fault.instead}", place=f"{file.name}:{fault.line}")
            for fault in error.faults
        ]
    return []


def _uid_lists(options: argparse.Namespace, outcome: Outcome) -> tuple[list[UidList], list[Note]]:
    """The UID lists of the old spool: of the folder given, or the one that the old configuration names."""
    spool = options.queue or outcome.spool
    try:
        lists = uid_lists(Path(spool), outcome.accounts) if spool else []
    except (OSError, ValueError) as error:
        return [], [Note(Weight.WRONG, f"the UID lists cannot be read: {error}", place=spool)]
    known = {one.account for one in lists}
    what = f"no list of what it has fetched is in {Path(spool, 'popuidl')}: what is still on the server comes again"
    return lists, [
        Note(Weight.CHECK, what, place=f"[fetch.{account.name}]")
        for account in outcome.accounts
        if account.has_list and account.name not in known
    ]


def _write(outcome: Outcome, output: Path | None, lists: list[UidList]) -> list[Note]:
    """Writes the new file and those beside it, or prints it; what should be said about that."""
    if output is None:
        print(outcome.toml, end="")
        sys.stdout.flush()
        named = [*outcome.secrets, *outcome.files]
        notes = [Note(Weight.CHECK, f"{name} is not written without --output") for name in named]
        return notes + [
            Note(Weight.CHECK, "the UID list is not written without --output", place=str(one.file)) for one in lists
        ]
    contents = {Path(name): (content, _PRIVATE) for name, content in outcome.secrets.items()}
    contents |= {Path(name): (content, _PUBLIC) for name, content in outcome.files.items()}
    notes = [
        Note(Weight.KNOWN, "the secret is in a file of its own, which nobody else may read", place=name)
        for name in outcome.secrets
    ]
    fetched: dict[str, dict[str, None]] = {}  # of one account, whose server had several names
    for one in lists:
        if one.account:
            uids = fetched.setdefault(one.account, {})
            uids.update(dict.fromkeys(one.uids))
            contents[Path(UIDS_FOLDER, one.account)] = ("".join(f"{uid}\n" for uid in uids), _PUBLIC)
            what = f"{len(one.uids)} messages that were fetched already are listed in {UIDS_FOLDER}/{one.account}"
            notes.append(Note(Weight.KNOWN, what, place=str(one.file)))
        else:
            notes.append(Note(Weight.CHECK, "no account is known that this UID list belongs to", place=str(one.file)))
    _write_all(output.parent, contents | {Path(output.name): (outcome.toml, _PUBLIC)})
    return notes


def _write_all(folder: Path, contents: Mapping[Path, tuple[str, int]]) -> None:
    """Writes files that do not exist; nothing at all when one would be written over. Raises `CannotWrite`."""
    missing = []
    for name, (content, mode) in contents.items():
        path = folder / name
        try:
            present = path.read_bytes()
        except FileNotFoundError:
            present = b""
        except OSError as error:
            raise CannotWrite(f"{path} cannot be written: {error.strerror}") from None
        if not present:
            missing.append((path, content.encode(), mode))
        elif present != content.encode():
            raise CannotWrite(f"{path} exists and says something else; move it away, or name another --output")
    for path, data, mode in missing:
        _write_one(path, data, mode)


def _write_one(path: Path, data: bytes, mode: int) -> None:
    """Writes a file whole or not at all, and never where others may read a secret meanwhile."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written: {error.strerror}") from None


def _complain(what: str, status: int) -> int:
    print(f"masqmail: {text.clean(what)}", file=sys.stderr)
    return status
