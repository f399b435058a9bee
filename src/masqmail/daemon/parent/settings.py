"""What the configuration lets the privileged parent do: plain values, read by a child and handed over in a pipe.

The parent itself never reads the configuration: whatever that loads into memory would stay there for good.
"""

import marshal
import os
import signal
from collections.abc import Callable

TYPE_CHECKING = False  # as in `typing`, which would stay in the memory of the parent
if TYPE_CHECKING:
    from typing import NoReturn

_PIECE_BYTES = 65536


class ParentSettings:
    """Nothing else can be asked of the parent.

    The daemon becomes `user` and `group` (empty: the user's own). `mailbox` says how users get mail, by method,
    place and command (`delivery.job.Mailstore`), unless `mailboxes` says it for one; `alias_user` is the account that
    runs the pipes and writes the files of alias files, and runs the `programs` of routes (`piperoute.PipeProgram`,
    by the route's name). `listen` has host and port by the name the daemon uses.
    `directories` are made for it, with these modes, when they are missing. `secret_files` are those it may read
    though they are root's.
    """

    def __init__(
        self,
        *,
        user: str,
        group: str,
        host_name: str,
        alias_user: str,
        mailbox: tuple[str, str, tuple[str, ...]],
        mailboxes: dict[str, tuple[str, str, tuple[str, ...]]],
        pipe_timeout_seconds: float,
        alias_files: tuple[str, ...],
        glob_alias_files: tuple[str, ...] = (),
        listen: dict[str, tuple[str, int]],
        secret_files: tuple[str, ...],
        directories: tuple[tuple[str, int], ...],
        log_level: str = "info",
        log_format: str = "text",
        recipient_delimiter: str = "",
        programs: dict[str, tuple[tuple[str, ...], bool, bool]] | None = None,
    ) -> None:
        self.user = user
        self.group = group
        self.host_name = host_name
        self.alias_user = alias_user
        self.mailbox = mailbox
        self.mailboxes = mailboxes
        self.pipe_timeout_seconds = pipe_timeout_seconds
        self.alias_files = alias_files
        self.glob_alias_files = glob_alias_files
        self.listen = listen
        self.secret_files = secret_files
        self.directories = directories
        self.log_level = log_level
        self.log_format = log_format
        self.recipient_delimiter = recipient_delimiter
        self.programs = programs or {}


def send(settings: ParentSettings, pipe: int) -> None:
    """Writes settings to a pipe, which may be more than it holds, and closes it."""
    with open(pipe, "wb") as file:
        file.write(marshal.dumps(vars(settings)))


def receive(pipe: int) -> ParentSettings | None:
    """What `send` wrote, or nothing when the child ended without. Only for children that are still root."""
    parts = []
    while part := os.read(pipe, _PIECE_BYTES):
        parts.append(part)
    return ParentSettings(**marshal.loads(b"".join(parts))) if parts else None  # noqa: S302 - a child of ours sent it


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


def _read(load: Callable[[], ParentSettings], refuse: Callable[[Exception], None], pipe: int) -> "NoReturn":
    try:
        signal.set_wakeup_fd(-1)
        send(load(), pipe)
    except Exception as error:
        refuse(error)
    finally:
        os._exit(os.EX_OK)
