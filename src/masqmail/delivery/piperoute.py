"""Hands one recipient's copy of a message to the program of a pipe route: a fax or SMS gateway, UUCP.

The program runs as the daemon's own user. Where that is root (a container without another account) it runs as
another one, and where there is none it does not run: CVE-2001-1173.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from masqmail.delivery import pipe
from masqmail.delivery.files import NotUsable
from masqmail.delivery.job import Content
from masqmail.delivery.local import FindAccount, from_os_error, local_error
from masqmail.delivery.mbox import from_line
from masqmail.delivery.program import TIMEOUT_SECONDS
from masqmail.delivery.text import with_quoted_from
from masqmail.delivery.variables import Variables, environment_of, expand_words
from masqmail.mail.outcome import Delivered, Handover, Outcome
from masqmail.system.accounts import Account, SystemAccounts, own_account


@dataclass(frozen=True, slots=True)
class PipeProgram:
    """The program of a route and how it wants its message; `account` is who runs it when the daemon is root."""

    command: tuple[str, ...]
    from_line: bool = False
    escape_from: bool = False
    account: str = ""
    timeout_seconds: float = TIMEOUT_SECONDS


def deliver(
    program: PipeProgram,
    content: Content,
    variables: Variables,
    *,
    host_name: str,
    find_account: FindAccount | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Runs the program and judges how it ended. What goes wrong on this host defers.

    Nobody behind the program is known to report a success, so it counts as relayed: RFC 3464 §2.3.3.
    """
    try:
        become = _other_account(program, find_account or SystemAccounts().find) if os.geteuid() == 0 else None
        account = become or own_account()
        outcome = pipe.deliver(
            expand_words(program.command, variables),
            _pieces(program, content, variables.sender),
            environment=environment_of(variables, host_name=host_name, home=account.home, shell=account.shell),
            directory=account.home,
            timeout_seconds=program.timeout_seconds,
            stop=stop,
            become=become,
        )
    except (NotUsable, ValueError) as error:
        return local_error(str(error))
    except OSError as error:
        return from_os_error(error, program.command[0])
    return replace(outcome, handover=Handover.RELAYED) if isinstance(outcome, Delivered) else outcome


def _pieces(program: PipeProgram, content: Content, sender: str) -> Iterator[bytes]:
    if program.from_line:
        yield from_line(sender, time.time())
    chunks: Iterable[bytes] = content.chunks()
    yield from with_quoted_from(chunks) if program.escape_from else chunks


def _other_account(program: PipeProgram, find_account: FindAccount) -> Account:
    account = find_account(program.account)
    if account is None:
        raise NotUsable(f"the daemon is root, and there is no account {program.account} to run {program.command[0]}")
    if account.uid == 0:
        raise NotUsable(f"alias_user is {account.name}: no program of a route runs as root")
    return account
