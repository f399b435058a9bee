"""Debian packages that conflict with each other, side by side: fetched and unpacked into a cache, not installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

#: The packages of each peer that is not installed; Postfix is, since smtp-source and smtp-sink come with it.
PACKAGES = {
    "exim": ("exim4-daemon-light", "exim4-base"),
    "opensmtpd": ("opensmtpd",),
    "nullmailer": ("nullmailer",),
    "dma": ("dma",),
    "msmtp": ("msmtp",),
    "fetchmail": ("fetchmail",),
    "getmail": ("getmail6",),
    "mpop": ("mpop",),
}


def cache_folder() -> Path:
    """Where the unpacked packages are kept: `MASQMAIL_BENCH_CACHE`, else below the user's cache."""
    found = os.environ.get("MASQMAIL_BENCH_CACHE")
    return Path(found) if found else Path.home() / ".cache" / "masqmail-bench"


def unpacked(package: str) -> Path:
    """The folder with a package's files, fetched when it is not there yet. Raises OSError when it cannot be."""
    folder = cache_folder() / package
    if folder.is_dir():
        return folder
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise OSError(f"no {package} in {cache_folder()}, and no apt-get and dpkg to fetch it with")
    print(f"fetching {package} into {folder}", file=sys.stderr)
    fresh = folder.with_name(f".{package}.{os.getpid()}")
    fresh.mkdir(parents=True)
    try:
        fetched = subprocess.run(["apt-get", "download", "-qq", package], cwd=fresh, capture_output=True, text=True)
        archives = list(fresh.glob("*.deb"))
        if fetched.returncode or not archives:
            raise OSError(f"apt-get download {package}: {fetched.stderr.strip()}")
        subprocess.run(["dpkg", "-x", archives[0], fresh], check=True)
        archives[0].rename(fresh / "package.deb")
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def version(package: str) -> str:
    """The version of an unpacked or installed package; empty when there is none."""
    archive = cache_folder() / package / "package.deb"
    if archive.exists():
        command = ["dpkg-deb", "-f", str(archive), "Version"]
    else:
        command = ["dpkg-query", "-W", "-f", "${Version}", package]
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
