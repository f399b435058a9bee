"""Finds what waits in an old spool folder, and the UID lists there. It is only read, and stays as it is."""

import os
from collections.abc import Iterator
from pathlib import Path

from masqmail.frozen import frozen
from masqmail.importing.files import read_regular
from masqmail.importing.migration import Account
from masqmail.importing.oldqueue import BadSpoolFile, OldEnvelope, body_offset, parse_envelope

_MAX_ENVELOPE_BYTES = 16 << 20
_MAX_UID_LIST_BYTES = 16 << 20
_LAYOUTS = ("", "input")  # from 0.3.5 on, and before
_MAX_UID_CHARACTERS = 70  # RFC 1939 §7, and nothing but printable ASCII


@frozen
class OldMessage:
    """One message of the old queue; `body` begins at that offset of the file."""

    envelope: OldEnvelope
    body: Path
    offset: int


@frozen
class Unusable:
    """A queue file that is no whole message."""

    file: Path
    reason: str


def old_messages(spool: Path) -> list[OldMessage | Unusable]:
    """Everything in the queue, the oldest first, in both layouts. Raises `OSError` when it cannot be read."""
    found = [_message(file) for folder in _folders(spool) for file in sorted(folder.glob("*-H"))]
    return sorted(found, key=lambda item: item.envelope.received_at if isinstance(item, OldMessage) else 0)


def _folders(spool: Path) -> Iterator[Path]:
    os.listdir(spool)  # raises what glob would hide
    for layout in _LAYOUTS:
        if (spool / layout).is_dir():
            os.listdir(spool / layout)
            yield spool / layout


def _message(file: Path) -> OldMessage | Unusable:
    body = file.with_name(file.name.removesuffix("-H") + "-D")
    data = read_regular(file, _MAX_ENVELOPE_BYTES)
    if data is None:
        return Unusable(file, "it cannot be read")
    try:
        envelope = parse_envelope(data)
        with body.open("rb") as stream:
            offset = body_offset(stream.readline(1000), envelope.id)
    except BadSpoolFile as error:
        return Unusable(file, str(error))
    except FileNotFoundError:
        return Unusable(file, f"there is no {body.name} with its body")
    except OSError as error:
        return Unusable(file, f"{body.name} cannot be read: {error.strerror}")
    return OldMessage(envelope, body, offset)


@frozen
class UidList:
    """The messages that an account has fetched already, by the IDs of its server; `account` is empty when unknown."""

    file: Path
    account: str
    uids: tuple[str, ...]


def uid_lists(spool: Path, accounts: tuple[Account, ...]) -> list[UidList]:
    """The old UID lists, `popuidl/USER@HOST`. HOST was the server's own name, so the user's name may have to do."""
    folder = next((place for place in (spool / "popuidl", spool.parent / "popuidl") if place.is_dir()), None)
    if folder is None:
        return []
    found = []
    for file in sorted(folder.iterdir()):
        data = read_regular(file, _MAX_UID_LIST_BYTES)
        if data is not None:
            lines = (line.strip() for line in data.decode("ascii", "replace").splitlines())
            uids = tuple(dict.fromkeys(line for line in lines if _is_uid(line)))
            found.append(UidList(file, _account_of(file.name, accounts), uids))
    return found


def _is_uid(line: str) -> bool:
    return 0 < len(line) <= _MAX_UID_CHARACTERS and all("!" <= char <= "~" for char in line)


def _account_of(name: str, accounts: tuple[Account, ...]) -> str:
    for account in accounts:
        if name.lower() == f"{account.user}@{account.host}".lower():
            return account.name
    users = [account.name for account in accounts if name.rpartition("@")[0] == account.user]
    return users[0] if len(users) == 1 else ""
