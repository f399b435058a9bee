"""Runs the `masqmail` command as another user of this host, for tests that run as root."""

import os
import pwd
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from masqmail.cli.main import main


def run_as(user: str, config: Path, arguments: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command, in a forked process that has become the user."""
    account = pwd.getpwnam(user)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            status = 99
            try:
                _load_everything(config)
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                os.setgroups([])
                os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
                os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
                status = _run(config, arguments, 1, 2)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, _content(out.fileno()), _content(err.fileno())


def _load_everything(config: Path) -> None:
    """Imports all that a command may need while we are root: the interpreter may be in a folder of root's."""
    with tempfile.TemporaryFile() as unread:
        _run(config, ["explain", "root", "--link", "internet"], unread.fileno(), unread.fileno())


def _run(config: Path, arguments: Sequence[str], out_descriptor: int, err_descriptor: int) -> int:
    """The command with standard streams of its own; pytest's belong to the parent."""
    with (
        open(out_descriptor, "w", closefd=False) as out,
        open(err_descriptor, "w", closefd=False) as err,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            return main(["--config", str(config), *arguments])
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1


def _content(descriptor: int) -> str:
    return os.pread(descriptor, 1 << 20, 0).decode()
