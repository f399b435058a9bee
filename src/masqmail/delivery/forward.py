"""A user's ~/.forward, read with the user's rights: the file and what it includes, or why it is passed over.

What stands in it runs programs as the user, so it counts only when nobody else could have written it. A file that
is not safe, or cannot be read, never loses mail: the mailbox gets it, with a reason.
"""

import errno
import os
import re
import stat
from codecs import BOM_UTF8

from masqmail.frozen import frozen
from masqmail.routing.aliasfile import ItemKind, parse_included
from masqmail.system.accounts import Account

NAME = ".forward"

#: Of the file with all that it includes: it goes through the privileged parent in one packet.
MAX_BYTES = 16_000

#: A home that does not answer within this time puts the mail off.
LOOK_SECONDS = 30

_TROUBLE = re.compile(r"/[^;]*/\.forward was passed over: .*")
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_IS_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})
_IS_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO})


@frozen
class Forward:
    """What was found: the texts of the file and those it includes, by path; its own is the first.

    Without texts the mailbox gets the mail; then `trouble` says why a file that is there was passed over.
    """

    texts: tuple[tuple[str, str], ...] = ()
    trouble: str = ""


class _Unsafe(Exception):
    """The file does not count; the message says why."""


def look(account: Account) -> Forward:
    """Reads an account's .forward; to be called as that account.

    Raises `OSError` for what may be over soon: a home that is not mounted, a disk that cannot be read.
    """
    path = os.path.join(account.home, NAME)
    try:
        text = _read_own(path, account)
        if not any(parse_included(text)):
            return Forward()
        texts = {path: text}
        _include(text, texts, account)
    except _Unsafe as error:
        return Forward(trouble=f"{path} was passed over: {error}")
    except OSError as error:
        if error.errno in _IS_MISSING:
            return Forward()
        if error.errno in _IS_REFUSED:
            words = "it is a symbolic link" if error.errno == errno.ELOOP else (error.strerror or "").lower()
            return Forward(trouble=f"{path} was passed over: {words}")
        raise
    if sum(map(len, texts.values())) > MAX_BYTES:
        return Forward(trouble=f"{path} was passed over: with what it includes it has more than {MAX_BYTES} bytes")
    return Forward(tuple(texts.items()))


def _read_own(path: str, account: Account) -> str:
    """The file in the home, which must be nobody else's to change."""
    home = os.open(account.home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        text = _read(os.open(NAME, _FLAGS | os.O_NOFOLLOW, dir_fd=home), account)
        status = os.fstat(home)
        if status.st_uid not in (0, account.uid):
            raise _Unsafe(f"{account.home} belongs to somebody else")
        if status.st_mode & stat.S_IWOTH:
            raise _Unsafe(f"everybody may write to {account.home}")
        return text
    finally:
        os.close(home)


def _read(descriptor: int, account: Account) -> str:
    """The text of an open file, if it is safe."""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _Unsafe("it is no regular file")
        if status.st_uid not in (0, account.uid):
            raise _Unsafe(f"it belongs neither to {account.name} nor to root")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _Unsafe("others may write to it; chmod go-w makes it count")
        if status.st_size > MAX_BYTES:
            raise _Unsafe(f"it has more than {MAX_BYTES} bytes")
        data = os.read(descriptor, MAX_BYTES)
    finally:
        os.close(descriptor)
    return data.removeprefix(BOM_UTF8).decode("utf-8", "surrogateescape")


def _include(text: str, texts: dict[str, str], account: Account) -> None:
    """Adds the files that a text includes, and what those include; one that cannot be read safely stays away."""
    for item in parse_included(text):
        if item.kind is not ItemKind.INCLUDE or item.text in texts:
            continue
        try:
            texts[item.text] = _read(os.open(item.text, _FLAGS), account)
        except (OSError, _Unsafe):
            continue
        if sum(map(len, texts.values())) > MAX_BYTES:
            return
        _include(texts[item.text], texts, account)


def trouble_in(reason: str) -> str:
    """Why a .forward was passed over, from the reason of a delivery; empty when none was."""
    match = _TROUBLE.search(reason)
    return match[0] if match else ""


def names(forward: Forward, kind: ItemKind, target: str) -> bool:
    """Whether a command or path stands in one of the texts."""
    return any((item.kind, item.text) == (kind, target) for _, text in forward.texts for item in parse_included(text))
