"""The privileged parent: the part of the program that stays root, and does next to nothing.

It forks the daemon, which becomes `[host] user` for good, and then only hands on signals and answers requests
(`loop`). Each delivery is carried out in a process of its own (`worker`). One thread, no event
loop, and the daemon is treated as if somebody had taken it over: `docs/explanation/security.md` says what it
can and cannot do.
"""

import gc
import os
import signal
import socket
import sys
from collections.abc import Callable

from masqmail.daemon.parent.loop import Parent, wait_for
from masqmail.daemon.parent.settings import ParentSettings, receive, send

TYPE_CHECKING = False  # as in `typing`, which would stay in the memory of the parent
if TYPE_CHECKING:
    from typing import NoReturn

    from masqmail.delivery.local import FindAccount
    from masqmail.system.accounts import Account

#: Gets the daemon's end of the socket pair, for a `ParentAgent`; returns the exit status.
RunDaemon = Callable[[socket.socket], int]

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class CannotStart(Exception):
    """Root cannot hand over to the daemon; the message says what to change."""

    def __init__(self, text: str, status: int = os.EX_CONFIG) -> None:
        super().__init__(text)
        self.status = status


def run_as_root(
    load_daemon: Callable[[], RunDaemon], load_settings: Callable[[], ParentSettings], find_account: "FindAccount"
) -> int:
    """Forks the daemon and serves it until it ends; returns its exit status.

    Must be called as root, before there is any thread or event loop. The new process does all that needs the
    configuration while it is still root, so that the parent stays small: `load_settings` reads it, and what it
    gives is handed to the parent; `load_daemon` imports what the daemon needs, and what that returns runs as
    `[host] user`. For each reload `load_settings` is called again in a short-lived process; what it gives counts
    when the daemon has taken the new configuration, too.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pipe, settings_pipe = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()  # its garbage collections touch nothing that both have in memory
    daemon = os.fork()
    if not daemon:
        ours.close()
        os.close(pipe)
        _be_daemon(load_daemon, load_settings, find_account, theirs, settings_pipe)
    theirs.close()
    os.close(settings_pipe)
    wake = _watch_signals()
    settings = receive(pipe)
    os.close(pipe)
    if settings is None:  # it has ended, and said why
        return wait_for(daemon)
    return Parent(ours, wake, daemon, settings, load_settings, find_account).serve()


def _watch_signals() -> socket.socket:
    """From now on each signal we are sent is a byte to read: its number."""
    wake, waker = socket.socketpair()
    waker.setblocking(False)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(waker.detach())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # which `serve` holds back
    return wake


def _identity(settings: ParentSettings, find_account: "FindAccount") -> "tuple[Account, int]":
    """Who the daemon is to be."""
    import grp

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


def _be_daemon(
    load_daemon: Callable[[], RunDaemon],
    load_settings: Callable[[], ParentSettings],
    find_account: "FindAccount",
    channel: socket.socket,
    settings_pipe: int,
) -> "NoReturn":
    """The forked process: gives up root, then runs the daemon and ends with its exit status."""
    status = os.EX_SOFTWARE
    try:
        settings = load_settings()
        account, gid = _identity(settings, find_account)
        _make_directories(settings, account.uid, gid)
        run_daemon = load_daemon()
        send(settings, settings_pipe)
        _give_up_root(account, gid)
        status = run_daemon(channel)
    except CannotStart as error:
        status = error.status
        report_stop(str(error))
    except Exception as error:
        status = _explain(error)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _explain(error: Exception) -> int:
    """Says what is wrong with the configuration, where it is that."""
    faults = getattr(error, "faults", None)
    if not faults:
        sys.excepthook(type(error), error, error.__traceback__)
        return os.EX_SOFTWARE
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return os.EX_CONFIG


def _make_directories(settings: ParentSettings, uid: int, gid: int) -> None:
    try:
        for path, mode in settings.directories:
            _make_directory(path, mode, uid, gid)
    except OSError as error:
        raise CannotStart(f"cannot make {error.filename}: {error.strerror}", os.EX_CANTCREAT) from error


def _give_up_root(account: "Account", gid: int) -> None:
    from masqmail.daemon.identity import become, forgo_new_privileges

    become(account, gid=gid)
    forgo_new_privileges()
    os.umask(0o077)
    os.environ.update(HOME=account.home, USER=account.name, LOGNAME=account.name, SHELL=account.shell)


def report_stop(reason: str) -> None:
    """Says why there will be no daemon."""
    from logging import CRITICAL

    from masqmail.system import events

    events.emit(events.DAEMON_STOPPED, level=CRITICAL, reason=reason)
