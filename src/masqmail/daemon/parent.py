"""The privileged parent: the part of the program that stays root, and does next to nothing.

It forks the daemon, which becomes `[host] user` for good, and then only hands on signals and answers requests
(`parent_loop`). Each delivery is carried out in a process of its own (`parent_worker`). One thread, no event
loop, and the daemon is treated as if somebody had taken it over: `docs/explanation/security.md` says what it
can and cannot do.
"""

import grp
import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from masqmail.daemon.identity import become, forgo_new_privileges
from masqmail.daemon.parent_loop import Parent, ParentSettings
from masqmail.delivery.local import FindAccount
from masqmail.system.accounts import Account

#: Gets the daemon's end of the socket pair, for a `ParentAgent`; returns the exit status.
RunDaemon = Callable[[socket.socket], int]


class CannotStart(Exception):
    """Root cannot hand over to the daemon; the message says what to change."""


def run_as_root(
    load_daemon: Callable[[], RunDaemon], load_settings: Callable[[], ParentSettings], find_account: FindAccount
) -> int:
    """Forks the daemon and serves it until it ends; returns its exit status.

    Must be called as root, before there is any thread or event loop. `load_daemon` is called in the new process
    while it is still root, and only imports what the daemon needs, so that the parent stays small; what it
    returns runs as `[host] user`. `load_settings` reads the configuration; it is called again after each
    SIGHUP, and what it raises then leaves the old settings in force. Raises `CannotStart`, `OSError`, and what
    `load_settings` raises.
    """
    settings = load_settings()
    account, gid = _identity(settings, find_account)
    for path, mode in settings.directories:
        _make_directory(path, mode, account.uid, gid)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sys.stdout.flush()
    sys.stderr.flush()
    daemon = os.fork()
    if not daemon:
        ours.close()
        _be_daemon(load_daemon, theirs, account, gid)
    theirs.close()
    return Parent(ours, daemon, load_settings, settings, find_account).serve()


def _identity(settings: ParentSettings, find_account: FindAccount) -> tuple[Account, int]:
    """Who the daemon is to be."""
    account = find_account(settings.user)
    if account is None:
        raise CannotStart(f"there is no user {settings.user}: create it, or name another one as `user` in [host]")
    if not settings.group:
        return account, account.gid
    try:
        return account, grp.getgrnam(settings.group).gr_gid
    except KeyError:
        raise CannotStart(f"there is no group {settings.group}: create it, or name another one in [host]") from None


def _make_directory(path: str, mode: int, uid: int, gid: int) -> None:
    """Makes a directory for the daemon; one that is there is left as it is."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchmod(descriptor, mode)
        os.fchown(descriptor, uid, gid)
    finally:
        os.close(descriptor)


def _be_daemon(load_daemon: Callable[[], RunDaemon], channel: socket.socket, account: Account, gid: int) -> NoReturn:
    """The forked process: gives up root, then runs the daemon and ends with its exit status."""
    status = os.EX_SOFTWARE
    try:
        run_daemon = load_daemon()
        become(account, gid=gid)
        forgo_new_privileges()
        os.umask(0o077)
        os.environ.update(HOME=account.home, USER=account.name, LOGNAME=account.name, SHELL=account.shell)
        status = run_daemon(channel)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
