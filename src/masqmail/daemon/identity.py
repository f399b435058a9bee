"""Becoming somebody else for good. Only root can; nothing here can be undone, and that is checked."""

import ctypes
import os
from collections.abc import Iterable

from masqmail.system import libc
from masqmail.system.accounts import Account

_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h


class StillPrivileged(Exception):
    """The way back is still open: this process must not go on."""


def become(account: Account, *, gid: int | None = None, more_groups: Iterable[int] = ()) -> None:
    """Takes on the account's groups and user, real, effective and saved.

    `gid` stands for the account's own group. Raises `OSError` when the system refuses and `StillPrivileged`
    when root could be had back; the process must end then.
    """
    gid = account.gid if gid is None else gid
    os.setgroups(sorted({*os.getgrouplist(account.name, gid), *more_groups}))
    os.setresgid(gid, gid, gid)
    os.setresuid(account.uid, account.uid, account.uid)
    if os.getresuid() != (account.uid,) * 3 or os.getresgid() != (gid,) * 3:
        raise StillPrivileged(f"this process has not become {account.name}")
    if account.uid != 0 and _can_be_root():
        raise StillPrivileged(f"as {account.name} this process can become root again")


def forgo_new_privileges() -> None:
    """From now on no program that is started here gains anything by being setuid or setgid."""
    libc.call("prctl", _PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))


def _can_be_root() -> bool:
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return False
    return True
