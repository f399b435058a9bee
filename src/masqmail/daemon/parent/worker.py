"""What a process forked by the parent does for one delivery: read the request, become its account, deliver, report.

It starts as root. Until it has become somebody else it only looks: which account, which path, program or server by
the parent's own settings, and whether an alias file really names the program or file. Nothing the daemon says is
taken on trust.
"""

import os
import signal
import stat
import threading
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import NoReturn

from masqmail.daemon.identity import become
from masqmail.daemon.parent.payload import decode_job, encode_result
from masqmail.daemon.parent.settings import ParentSettings
from masqmail.daemon.parent.wire import WireError
from masqmail.delivery.files import NotUsable, write_all
from masqmail.delivery.forward import LOOK_SECONDS, Forward, names
from masqmail.delivery.job import LocalJob, LocalMethod, Mailstore
from masqmail.delivery.local import (
    FindAccount,
    LocalSettings,
    Plan,
    ask_forward,
    deliver,
    from_os_error,
    local_error,
    plan_for,
    with_trouble,
)
from masqmail.delivery.piperoute import PipeProgram
from masqmail.mail.outcome import Culprit, Deferred, Outcome
from masqmail.mail.status import LOCAL_ERROR
from masqmail.routing.alias import forward_owners
from masqmail.routing.aliasfile import Item, ItemKind, parse, parse_included
from masqmail.spool.api import TargetKind

_MAX_ALIAS_FILE_BYTES = 1 << 24
_PIECE_BYTES = 65536


def local_settings(settings: ParentSettings) -> LocalSettings:
    """What a delivery needs of them."""

    def mailbox_of(user: str) -> Mailstore:
        method, place, command = settings.mailboxes.get(user, settings.mailbox)
        return Mailstore(LocalMethod(method), place, command)

    _load_methods(settings)
    return LocalSettings(
        settings.host_name,
        settings.alias_user,
        mailbox_of,
        settings.pipe_timeout_seconds,
        settings.recipient_delimiter,
        {route: PipeProgram(*program) for route, program in settings.programs.items()},
    )


def _load_methods(settings: ParentSettings) -> None:
    """Loads into the parent what a worker may find out of its reach once it is somebody else."""
    if any(method == LocalMethod.LMTP.value for method, *_ in (settings.mailbox, *settings.mailboxes.values())):
        import_module("masqmail.delivery.lmtp")


def work(
    payload: bytes,
    descriptors: Sequence[int],
    result: int,
    settings: LocalSettings,
    alias_files: Sequence[str],
    find_account: FindAccount,
    glob_files: Sequence[str] = (),
) -> NoReturn:
    """Carries out a request in this process, writes the outcome to `result`, and ends. SIGTERM asks it to stop."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    code = os.EX_SOFTWARE
    try:
        outcome = carry_out(payload, descriptors, settings, alias_files, find_account, stop, glob_files)
        write_all(result, [encode_result(outcome)])
        code = os.EX_OK
    finally:
        os._exit(code)


def carry_out(
    payload: bytes,
    descriptors: Sequence[int],
    settings: LocalSettings,
    alias_files: Sequence[str],
    find_account: FindAccount,
    stop: threading.Event,
    glob_files: Sequence[str] = (),
) -> Outcome | Forward:
    """Does what a request asks for, if it may be asked for. Whatever goes wrong defers."""
    try:
        job = decode_job(payload)
        _check_content(descriptors)
        is_named = job.kind in (TargetKind.PIPE, TargetKind.FILE)  # by a file; the rest by our settings
        is_forwarded = bool(forward_owners(job.source))
        if is_named and not is_forwarded:
            check_source(job, alias_files, glob_files)
        plan = plan_for(job, settings, find_account)
        _become_account_of(plan, job)
        if is_named and is_forwarded:
            check_forward(job, plan)
        return _look_and_deliver(plan, _pieces(descriptors), stop)
    except NotUsable as error:
        return local_error(str(error))
    except OSError as error:
        return from_os_error(error)
    except Exception as error:  # a bug, or a daemon that is no longer ours: both put the mail off
        reason = f"the privileged parent could not do this: {error!r}"
        return Deferred(LOCAL_ERROR.with_text(reason), Culprit.US, reason)


def check_source(job: LocalJob, alias_files: Sequence[str], glob_files: Sequence[str] = ()) -> None:
    """Reads the alias file again: only what stands there now is run or written to. Raises `NotUsable`."""
    kind = ItemKind.PIPE if job.kind is TargetKind.PIPE else ItemKind.FILE
    wanted = (kind, job.target.removeprefix("|") if kind is ItemKind.PIPE else job.target)
    for file in (*alias_files, *glob_files):
        name = job.source.removeprefix(f"{file}:")
        if name == job.source:
            continue
        entry = parse(_read(file), file, has_globs=file in glob_files).find(name, match_case=True)
        if entry is not None and any(wanted == (item.kind, item.text) for item in _items(entry.items, set())):
            return
    raise NotUsable(f"{job.source or 'no alias'} does not name {job.target} now")


def check_forward(job: LocalJob, plan: Plan) -> None:
    """Reads the user's .forward again, as the user. Raises `NotUsable` when it does not name the target now."""
    found = _ask_forward(plan)
    kind = ItemKind.PIPE if job.kind is TargetKind.PIPE else ItemKind.FILE
    if isinstance(found, Deferred):
        raise NotUsable(found.reason)
    if not names(found, kind, job.target.removeprefix("|") if kind is ItemKind.PIPE else job.target):
        raise NotUsable(found.trouble or f"{job.source} does not name {job.target} now")


def _look_and_deliver(plan: Plan, pieces: Iterator[bytes], stop: threading.Event) -> Outcome | Forward:
    if not plan.job.asks_forward:
        return deliver(plan, pieces, stop)
    found = _ask_forward(plan)
    if isinstance(found, Deferred) or found.texts:
        return found
    return with_trouble(deliver(plan, pieces, stop), found.trouble)


def _ask_forward(plan: Plan) -> Forward | Deferred:
    """The alarm ends this process when the home does not answer; the mail is put off then."""
    signal.alarm(LOOK_SECONDS)
    try:
        return ask_forward(plan)
    finally:
        signal.alarm(0)


def _items(items: Sequence[Item], seen: set[str]) -> Iterator[Item]:
    """The targets of an entry and of the files it includes, each file once."""
    for item in items:
        if item.kind is not ItemKind.INCLUDE:
            yield item
        elif item.text not in seen:
            seen.add(item.text)
            yield from _items(parse_included(_read(item.text)), seen)


def _read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_ALIAS_FILE_BYTES:
            raise NotUsable(f"{path} is no file of aliases")
        return file.read(_MAX_ALIAS_FILE_BYTES).decode("utf-8", "replace")


def _become_account_of(plan: Plan, job: LocalJob) -> None:
    groups = []
    if plan.method is LocalMethod.MBOX and job.kind is TargetKind.MAILBOX:
        groups = _mail_groups(os.path.dirname(plan.path))
    become(plan.account, more_groups=groups)
    os.umask(0o077)


def _mail_groups(directory: str) -> list[int]:
    """The group that may make files and locks in the system's mail directory, `mail` on Debian.

    Only where root's directory is open to its group and to nobody else; no program runs with this group.
    """
    status = os.stat(directory)
    is_shared = status.st_mode & stat.S_IWGRP and not status.st_mode & stat.S_IWOTH
    return [status.st_gid] if is_shared and status.st_uid == 0 else []


def _check_content(descriptors: Sequence[int]) -> None:
    if not descriptors or not all(stat.S_ISREG(os.fstat(descriptor).st_mode) for descriptor in descriptors):
        raise WireError("the content is not in regular files")


def _pieces(descriptors: Sequence[int]) -> Iterator[bytes]:
    """All bytes of the files, from their beginnings."""
    for descriptor in descriptors:
        offset = 0
        while piece := os.pread(descriptor, _PIECE_BYTES, offset):
            yield piece
            offset += len(piece)
