"""A view of the file system for a benchmark alone, in which every peer is installed.

Debian's mail servers conflict as packages, and some have their places compiled in. So a benchmark enters a mount
namespace of its own: `/usr` has the files of the unpacked packages as well, what is written into `/etc` stays here,
the compiled-in spools lie in the scratch folder, and `/run` is empty. All of it ends with the process; the host never
sees it.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.packages import PACKAGES, unpacked

_CLONE_NEWNS = 0x0002_0000

#: Folders that are compiled into a peer.
_COMPILED_IN = (
    Path("/var/spool/nullmailer"),
    Path("/var/spool/dma"),
    Path("/var/spool/smtpd"),
    Path("/var/lib/opensmtpd"),
)

#: Accounts that the packages would have made; numbers that no Debian gives by itself.
_ACCOUNTS = {"masqmail": 50_001, "Debian-exim": 50_002, "opensmtpd": 50_003, "opensmtpq": 50_004}


@contextmanager
def sandbox(peers: Iterable[str] = ()) -> Iterator[Path]:
    """Enters the view, with what these peers need in it, for the rest of this process; gives a scratch folder.

    `peers` are the names of `harness.peers`; what is behind a colon is their mode. Ends the program with a message
    when this cannot be.
    """
    if os.geteuid() != 0:
        sys.exit("Benchmarks with other mail servers need root: they run under accounts of their own.")
    try:
        packages = [
            unpacked(name) for peer in sorted(set(peers)) for name in PACKAGES.get(peer.partition(":")[0], ())
        ]
    except OSError as error:
        sys.exit(f"A peer is missing: {error}")
    # Below /var/tmp, which is on a disk also where /tmp is not; everything measured lies here.
    with tempfile.TemporaryDirectory(prefix="masqmail-bench.", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        _enter(folder / "view", list(dict.fromkeys(packages)))
        yield folder


def _enter(folder: Path, packages: list[Path]) -> None:
    for package in packages:
        if (smtpctl := package / "usr/sbin/smtpctl").exists():  # as its package would install it
            os.chown(smtpctl, 0, _ACCOUNTS["opensmtpq"])
            smtpctl.chmod(0o2755)
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        sys.exit("The kernel gives no mount namespace: " + os.strerror(ctypes.get_errno()))
    _mount("--make-rprivate", "/")
    _overlay(Path("/usr"), [package / "usr" for package in packages])
    _overlay(Path("/etc"), [], upper=folder / "etc")
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    Path("/etc/mailname").write_text("laptop.example.org\n")
    _add_accounts()
    for parent in sorted({path.parent for path in _COMPILED_IN}):
        names = folder / "names" / parent.name
        for path in _COMPILED_IN:
            if path.parent == parent:
                (names / path.name).mkdir(parents=True)
        _overlay(parent, [names])
    for path in _COMPILED_IN:
        own = folder / "spool" / path.name
        own.mkdir(parents=True)
        _mount("--bind", str(own), str(path))
    Path("/var/spool/smtpd").chmod(0o711)  # OpenSMTPD insists
    Path("/var/lib/opensmtpd/empty").mkdir()


def _overlay(place: Path, below: list[Path], *, upper: Path | None = None) -> None:
    """Adds the files of folders `below` a place to it; with `upper` what is written goes there."""
    if not below and upper is None:
        return
    options = "lowerdir=" + ":".join(map(str, [place, *below]))
    if upper is not None:
        work = upper.with_name(upper.name + ".work")
        for folder in (upper, work):
            folder.mkdir(parents=True)
        options += f",upperdir={upper},workdir={work}"
    _mount("-t", "overlay", "-o", options, "overlay", str(place))


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"mount {' '.join(arguments)}: {done.stderr.strip()}")


def _add_accounts() -> None:
    known = {line.partition(":")[0] for line in Path("/etc/passwd").read_text().splitlines()}
    new = {name: number for name, number in _ACCOUNTS.items() if name not in known}
    with Path("/etc/passwd").open("a") as passwd, Path("/etc/group").open("a") as group:
        for name, number in new.items():
            passwd.write(f"{name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n")
            group.write(f"{name}:x:{number}:\n")
