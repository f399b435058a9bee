"""The local users: the system's accounts, or our own alone where we are not root."""

import os
import pwd
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from masqmail.frozen import frozen

_CACHE_SECONDS = 30.0  # asking may mean a directory server
_MAX_CACHED = 1000


@frozen
class Account:
    """A local user. `full_name` is empty where the system knows none."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    full_name: str = ""


class Accounts(Protocol):
    """Who is a local user. `only_name` is the one there can be, where we are not root, and else empty."""

    @property
    def only_name(self) -> str: ...

    def find(self, name: str) -> Account | None:
        """The account of that name. Raises `OSError` when it cannot be known now."""

    def by_uid(self, uid: int) -> Account | None:
        """The account with that number. Raises `OSError` when it cannot be known now."""


class SystemAccounts:
    """All accounts that the system knows (getpwnam(3)); answers are kept for half a minute."""

    only_name = ""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._known: OrderedDict[str | int, tuple[float, Account | None]] = OrderedDict()

    def find(self, name: str) -> Account | None:
        return self._cached(name, lambda: pwd.getpwnam(name))

    def by_uid(self, uid: int) -> Account | None:
        return self._cached(uid, lambda: pwd.getpwuid(uid))

    def _cached(self, key: str | int, ask: Callable[[], pwd.struct_passwd]) -> Account | None:
        now = self._monotonic()
        known = self._known.get(key)
        if known and now - known[0] < _CACHE_SECONDS:
            return known[1]
        account = _ask(ask)
        self._known[key] = (now, account)
        self._known.move_to_end(key)
        if len(self._known) > _MAX_CACHED:
            self._known.popitem(last=False)
        return account


class SingleAccount:
    """One account, for a daemon that is not root: its own user's. Nobody else is known."""

    def __init__(self, account: Account | None = None) -> None:
        self._account = account or own_account()
        self.only_name = self._account.name

    def find(self, name: str) -> Account | None:
        return self._account if name == self._account.name else None

    def by_uid(self, uid: int) -> Account | None:
        return self._account if uid == self._account.uid else None


def own_account() -> Account:
    """The account we run as; made up from the environment where the system does not know it (containers)."""
    uid = os.geteuid()
    if account := _ask(lambda: pwd.getpwuid(uid)):
        return account
    name = os.environ.get("USER") or f"uid{uid}"
    return Account(name, uid, os.getegid(), os.environ.get("HOME") or "/", "/bin/sh")


def _check_files() -> None:
    """Raises `OSError` when too many files are open: then everybody is unknown, and Python does not say why."""
    os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def _ask(ask: Callable[[], pwd.struct_passwd]) -> Account | None:
    try:
        entry = ask()
    except KeyError:
        _check_files()
        return None
    except (ValueError, OverflowError):  # nothing an account could be called
        return None
    full_name = entry.pw_gecos.partition(",")[0]  # by custom; an office and telephone numbers follow
    full_name = full_name.encode(errors="surrogateescape").decode(errors="replace").strip()
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell, full_name)
