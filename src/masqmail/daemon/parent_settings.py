"""What the configuration lets the privileged parent do: plain values, read by a child and handed over in a pipe.

The parent itself never reads the configuration: whatever that loads into memory would stay there for good.
"""

import marshal
import os
import signal
from collections.abc import Callable
from typing import NamedTuple, NoReturn

_PIECE_BYTES = 65536


class ParentSettings(NamedTuple):
    """Nothing else can be asked of the parent.

    The daemon becomes `user` and `group` (empty: the user's own). `mailbox` is the method and the path, still to be
    filled in, of a mailbox, for users who have none of their own in `mailboxes`; `alias_user` is the account that
    runs the pipes and writes the files of alias files. `listen` has host and port by the name the daemon uses.
    `directories` are made for it, with these modes, when they are missing. `secret_files` are those it may read
    though they are root's.
    """

    user: str
    group: str
    host_name: str
    alias_user: str
    mailbox: tuple[str, str]
    mailboxes: dict[str, tuple[str, str]]
    pipe_timeout_seconds: float
    alias_files: tuple[str, ...] = ()
    listen: dict[str, tuple[str, int]] = {}  # noqa: RUF012 - never changed
    secret_files: tuple[str, ...] = ()
    directories: tuple[tuple[str, int], ...] = ()
    log_level: str = "info"
    log_format: str = "text"


def send(settings: ParentSettings, pipe: int) -> None:
    """Writes settings to a pipe, which may be more than it holds, and closes it."""
    with open(pipe, "wb") as file:
        file.write(marshal.dumps(tuple(settings)))


def receive(pipe: int) -> ParentSettings | None:
    """What `send` wrote, or nothing when the child ended without. Only for children that are still root."""
    parts = []
    while part := os.read(pipe, _PIECE_BYTES):
        parts.append(part)
    return ParentSettings(*marshal.loads(b"".join(parts))) if parts else None  # noqa: S302 - a child of ours sent it


def read_in_child(load: Callable[[], ParentSettings], refuse: Callable[[Exception], None]) -> ParentSettings | None:
    """Calls `load` in a process of its own, where `refuse` gets what it raises; then there are no settings.

    Raises `OSError` when there can be no such process.
    """
    pipe, theirs = os.pipe()
    try:
        child = os.fork()
        if not child:
            _read(load, refuse, theirs)
    finally:
        os.close(theirs)
    with open(pipe, "rb", buffering=0):
        settings = receive(pipe)
    os.waitpid(child, 0)
    return settings


def _read(load: Callable[[], ParentSettings], refuse: Callable[[Exception], None], pipe: int) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        send(load(), pipe)
    except Exception as error:
        refuse(error)
    finally:
        os._exit(os.EX_OK)
