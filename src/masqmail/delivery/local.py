"""Carries out one local delivery, as whoever this process is, and turns whatever happens into one outcome.

`plan_for` says from the configuration whose rights a job needs and what is to be done; `deliver` does it. In
between, the privileged parent becomes that account (see `daemon.parent`). A local error never fails a
recipient: a full disk, a missing permission or a lock that is not given back are put right by somebody, and
then the mail arrives.
"""

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from typing import assert_never

from masqmail.delivery import maildir, mbox, pipe
from masqmail.delivery.files import NotUsable
from masqmail.delivery.forward import NAME, Forward, look
from masqmail.delivery.job import LocalJob, LocalMethod, Mailstore
from masqmail.delivery.locks import MailboxBusy
from masqmail.delivery.piperoute import PipeProgram, as_wanted
from masqmail.delivery.program import TIMEOUT_SECONDS
from masqmail.delivery.variables import (
    VariableError,
    Variables,
    environment_of,
    expand_path,
    expand_place,
    expand_words,
)
from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.mail.envelope import Body, Envelope, Recipient
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Handover, Outcome
from masqmail.mail.status import LOCAL_ERROR, MAILBOX_FULL, STORAGE_FULL, Status
from masqmail.routing.alias import forward_owners
from masqmail.routing.aliasfile import split_command
from masqmail.routing.local import detail_of
from masqmail.spool.api import TargetKind
from masqmail.system.accounts import Account, own_account

MAILBOX_BUSY = Status(450, "4.2.0", "The mailbox is locked by another program")

#: An alias target that takes everything.
NOWHERE = "/dev/null"

_STATUSES = {errno.ENOSPC: STORAGE_FULL, errno.EDQUOT: MAILBOX_FULL}

FindAccount = Callable[[str], Account | None]


@frozen
class LocalSettings:
    """What the configuration says about local delivery.

    `mailbox_of` says how a user gets mail. `alias_user` is the account that runs the pipes and writes the files of
    alias files, and runs the `programs` of routes where root would. `recipient_delimiter` separates a user's name
    from a detail.
    """

    host_name: str
    alias_user: str
    mailbox_of: Callable[[str], Mailstore]
    pipe_timeout_seconds: float = TIMEOUT_SECONDS
    recipient_delimiter: str = ""
    programs: Mapping[str, PipeProgram] = field(default_factory=dict)


@frozen
class Plan:
    """What is to be done, and as whom.

    `path` is a mailbox, a file or the LMTP server, which knows `mailbox` and is told our `host_name`. A pipe has a
    command instead, and in a route also the `program` with the form it wants.
    """

    job: LocalJob
    method: LocalMethod
    account: Account
    path: str = ""
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    timeout_seconds: float = TIMEOUT_SECONDS
    program: PipeProgram | None = None
    mailbox: Mailbox | None = None
    host_name: str = ""


def plan_for(job: LocalJob, settings: LocalSettings, find_account: FindAccount) -> Plan:
    """Says what a job comes to. Raises `NotUsable` when it cannot be done as things are."""
    match job.kind:
        case TargetKind.MAILBOX:
            return _plan_mailbox(job, settings, _account(job.target, find_account))
        case TargetKind.PIPE:
            account = owner_of(job, settings, find_account)
            return _plan_program(job, _words_of(job), job.variables, settings, account)
        case TargetKind.FILE:
            method = LocalMethod.MAILDIR if job.target.endswith("/") else LocalMethod.MBOX
            return Plan(job, method, owner_of(job, settings, find_account), path=job.target.rstrip("/"))
        case TargetKind.REMOTE:
            return _plan_route(job, settings, find_account)
        case TargetKind.USER:
            raise NotUsable(f"{job.target} is no target on this host")
        case _:
            assert_never(job.kind)


def ask_forward(plan: Plan) -> Forward | Deferred:
    """What the .forward of the plan's account says; a home that cannot be read now defers."""
    try:
        return look(plan.account)
    except OSError as error:
        return from_os_error(OSError(error.errno, error.strerror), f"{plan.account.home}/{NAME}")


def with_trouble(outcome: Outcome, trouble: str) -> Outcome:
    """The outcome of a delivery for which a .forward was passed over: its history says so."""
    if trouble and isinstance(outcome, Delivered):
        return replace(outcome, reason=f"{outcome.reason or outcome.status}; {trouble}")
    return outcome


def deliver(plan: Plan, pieces: Iterable[bytes], stop: threading.Event | None = None) -> Outcome:
    """Delivers the message that `pieces` (CRLF line ends) make up. What goes wrong on this host defers it."""
    try:
        return _deliver(plan, pieces, stop)
    except MailboxBusy as error:
        return local_error(str(error), MAILBOX_BUSY)
    except NotUsable as error:
        return local_error(str(error))
    except OSError as error:
        return from_os_error(error, plan.path or plan.command[0])


def local_error(reason: str, status: Status = LOCAL_ERROR) -> Deferred:
    """The outcome of what is wrong on this host and not with the message."""
    return Deferred(status.with_text(reason), Culprit.LOCAL, reason)


def from_os_error(error: OSError, path: str = "") -> Deferred:
    """The outcome of an error of the system, in words, with the path it is about: its own, or the one given."""
    words = error.strerror or str(error)
    where = error.filename if isinstance(error.filename, str) else path
    status = _STATUSES.get(error.errno or 0, LOCAL_ERROR)
    return local_error(f"{where}: {words.lower()}" if where else words, status)


def _account(name: str, find_account: FindAccount) -> Account:
    """The account of that name. It was there when the message was accepted, so a missing one is put off."""
    account = find_account(name)
    if account is None:
        raise NotUsable(f"there is no account {name} now")
    return account


def owner_of(job: LocalJob, settings: LocalSettings, find_account: FindAccount) -> Account:
    """Who runs a program or writes to a file: whose .forward names it, else the account for aliases."""
    users = forward_owners(job.source)
    return _account(users[-1], find_account) if users else _alias_account(settings, find_account)


def _alias_account(settings: LocalSettings, find_account: FindAccount) -> Account:
    """Who runs the programs and writes the files of alias files and routes: never root, CVE-2001-1173."""
    account = _account(settings.alias_user, find_account)
    if account.uid == 0:
        raise NotUsable(f"alias_user is {account.name}: what aliases and routes name is never root's")
    return account


def _plan_mailbox(job: LocalJob, settings: LocalSettings, account: Account) -> Plan:
    store, variables = settings.mailbox_of(account.name), replace(job.variables, user=account.name)
    if store.method is LocalMethod.LMTP:
        return _plan_lmtp(job, store.place, variables, settings, account)
    if store.method is LocalMethod.MDA:  # whatever was asked for: who it is for is all that it can look up
        variables = replace(variables, recipient_local=account.name)
        return _plan_program(job, store.command, variables, settings, account)
    try:
        path = expand_path(store.place, variables, account.home)
    except VariableError as error:
        raise NotUsable(f"the mailbox of {account.name}: {error}") from error
    return Plan(job, store.method, account, path=path.rstrip("/"))


def _plan_lmtp(job: LocalJob, place: str, variables: Variables, settings: LocalSettings, account: Account) -> Plan:
    """The server knows the user by name; the detail that may have been asked for goes with it."""
    try:
        server = expand_place(place, variables)
    except VariableError as error:
        raise NotUsable(f"the LMTP server of {account.name}: {error}") from error
    detail = detail_of(variables.recipient_local, account.name, settings.recipient_delimiter)
    mailbox = Mailbox(account.name + detail, "")
    return Plan(job, LocalMethod.LMTP, account, path=server, mailbox=mailbox, host_name=settings.host_name)


def _plan_route(job: LocalJob, settings: LocalSettings, find_account: FindAccount) -> Plan:
    """The program of a route runs as we do, and where we are root as `alias_user`."""
    program = settings.programs.get(job.target)
    if program is None:
        raise NotUsable(f"the route {job.target} has no program now")
    account = own_account() if os.geteuid() else _alias_account(settings, find_account)
    plan = _plan_program(job, program.command, job.variables, settings, account)
    return replace(plan, program=program)


def _words_of(job: LocalJob) -> tuple[str, ...]:
    """The words of a pipe's command. Raises `NotUsable`."""
    try:
        return split_command(job.target.removeprefix("|"))
    except ValueError as error:
        raise NotUsable(f"{job.source or job.target}: {error}") from error


def _plan_program(
    job: LocalJob, words: Sequence[str], variables: Variables, settings: LocalSettings, account: Account
) -> Plan:
    try:
        command = expand_words(words, variables)
        environment = environment_of(variables, host_name=settings.host_name, home=account.home, shell=account.shell)
    except ValueError as error:
        raise NotUsable(f"{job.source or job.target}: {error}") from error
    return Plan(
        job,
        LocalMethod.PIPE,
        account,
        command=command,
        environment=environment,
        timeout_seconds=settings.pipe_timeout_seconds,
    )


def _deliver(plan: Plan, pieces: Iterable[bytes], stop: threading.Event | None) -> Outcome:
    if plan.path == NOWHERE:
        return _delivered(NOWHERE)
    if plan.method in (LocalMethod.MBOX, LocalMethod.MAILDIR) and os.geteuid() == 0:
        _check_for_root(plan)
    match plan.method:
        case LocalMethod.MBOX:
            mbox.append(plan.path, pieces, sender=plan.job.variables.sender, stop=stop)
            return _delivered(plan.path)
        case LocalMethod.MAILDIR:
            is_new = maildir.put(plan.path, pieces, identity=plan.job.identity, is_first=plan.job.is_first)
            return _delivered(plan.path, "" if is_new else "an earlier attempt had put it there")
        case LocalMethod.PIPE:
            return _run(plan, pieces, stop)
        case LocalMethod.LMTP:
            return _hand_over(plan, pieces, stop)
        case LocalMethod.MDA:  # planned as a pipe
            raise NotUsable(f"nobody can deliver by {plan.method.value} here")
        case _:
            assert_never(plan.method)


def _run(plan: Plan, pieces: Iterable[bytes], stop: threading.Event | None) -> Outcome:
    """Runs a program. Nobody behind that of a route is known to report a success: RFC 3464 §2.3.3."""
    if plan.program:
        pieces = as_wanted(plan.program, pieces, plan.job.variables.sender)
    outcome = pipe.deliver(
        plan.command,
        pieces,
        environment=plan.environment,
        directory=plan.account.home,
        timeout_seconds=plan.timeout_seconds,
        stop=stop,
    )
    if plan.program and isinstance(outcome, Delivered):
        return replace(outcome, handover=Handover.RELAYED)
    return outcome


def _hand_over(plan: Plan, pieces: Iterable[bytes], stop: threading.Event | None) -> Outcome:
    from masqmail.delivery import lmtp  # on many hosts nobody gets mail that way

    assert plan.mailbox is not None
    job, sender = plan.job, plan.job.variables.sender
    envelope = Envelope(
        parse_mailbox(sender) if sender else None,
        (Recipient(plan.mailbox),),
        body=Body.EIGHT_BIT if job.is_8bit else Body.SEVEN_BIT,
    )
    letter = lmtp.Letter(envelope, pieces, job.size_bytes, job.is_8bit)
    return lmtp.deliver(plan.path, letter, helo_name=plan.host_name, stop=stop)


def _delivered(path: str, reason: str = "") -> Delivered:
    return Delivered(Status(250, "2.0.0", f"Delivered to {path}"), handover=Handover.MAILBOX, reason=reason)


def _check_for_root(plan: Plan) -> None:
    """Root writes only where nobody else can put something in the way.

    An mbox may lie in a directory that is sticky and open to all: `locks` looks closely at the file itself.
    """
    with suppress(FileNotFoundError):
        _check_owner(plan, os.path.dirname(plan.path), may_be_sticky=plan.method is LocalMethod.MBOX)
        _check_owner(plan, plan.path, may_be_sticky=False)


def _check_owner(plan: Plan, path: str, *, may_be_sticky: bool) -> None:
    status = os.lstat(path)
    is_open = status.st_mode & stat.S_IWOTH and not (may_be_sticky and status.st_mode & stat.S_ISVTX)
    if status.st_uid != 0 or is_open or stat.S_ISLNK(status.st_mode):
        raise NotUsable(f"root gets no mail at {plan.path}: others may write to {path}")
