"""Real mail programs: whether they are here, and waiting for what they do."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

#: Servers live where a user's PATH does not always lead.
SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"

#: These start as root only.
_NEED_ROOT = frozenset({"postfix", "dovecot", "unshare"})

Found = TypeVar("Found")


def needs(*programs: str) -> None:
    """Skips the test when one of these programs cannot be run; with MASQMAIL_PEERS=required that is a failure."""
    missing = [program for program in programs if shutil.which(program, path=SEARCH_PATH) is None]
    if os.geteuid() != 0 and _NEED_ROOT.intersection(programs):
        missing.append("the rights of root")
    if not missing:
        return
    text = f"there is no {', no '.join(missing)} here"
    if os.environ.get("MASQMAIL_PEERS") == "required":
        pytest.fail(text)
    pytest.skip(text)


def open_way(folder: Path) -> None:
    """Lets every account of this host reach a folder of the test's."""
    for part in [folder, *folder.parents]:
        if part.stat().st_uid == os.getuid() and part != Path("/"):
            part.chmod(part.stat().st_mode | 0o055)


def wait_until(find: Callable[[], Found], what: str, seconds: float = 20) -> Found:
    """What `find` gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := find()):
        if time.monotonic() > deadline:
            raise AssertionError(f"in {seconds:g} s this did not come: {what}")
        time.sleep(0.05)
    return found
