"""Receivers whose Debian packages conflict with Postfix: they run from unpacked packages, in a view of their own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.authority import Certificate
from support.inbox import Inbox
from support.peers import open_way
from support.ports import free_port, wait_for_port

EXIM = """\
primary_hostname = mx.exim.test
spool_directory = {root}/spool
log_file_path = {root}/spool/%slog
exim_user = nobody
exim_group = nogroup
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
rfc1413_query_timeout = 0s
tls_advertise_hosts = *
tls_certificate = {root}/certificate
tls_privatekey = {root}/key
acl_smtp_rcpt = accept_all

begin acl
accept_all:
  accept

begin routers
everybody:
  driver = accept
  transport = inbox

begin transports
inbox:
  driver = appendfile
  directory = {root}/inbox
  maildir_format
  user = nobody
"""

OPENSMTPD = """\
pki receiver cert "{root}/certificate"
pki receiver key "{root}/key"
listen on 127.0.0.1 port {port} hostname mx.opensmtpd.test tls pki receiver
action "inbox" maildir "{root}/inbox" virtual {{ "@" = "nobody" }}
match from any for any action "inbox"
"""


@dataclass(frozen=True)
class _Program:
    """How it runs in the foreground with its configuration, and the only account that may read its key."""

    configuration: str
    command: Sequence[str]
    key_owner: str


_PROGRAMS = {
    "exim": _Program(EXIM, ("exim4", "-bdf", "-C", "{root}/conf"), "nobody"),
    "opensmtpd": _Program(OPENSMTPD, ("smtpd", "-dv", "-f", "{root}/conf"), "root"),
}


@contextmanager
def running_receiver(name: str, folder: Path, certificate: Certificate) -> Iterator[tuple[Inbox, int]]:
    """Starts "exim" or "opensmtpd" below `folder` and stops it again; gives its Maildir and its port."""
    program, root, port = _PROGRAMS[name], folder / name, free_port()
    for place in ("inbox", "spool"):
        (root / place).mkdir(parents=True)
        shutil.chown(root / place, "nobody", "nogroup")
    open_way(root)
    _keep_certificate(root, certificate, program.key_owner)
    (root / "conf").write_text(program.configuration.format(root=root, port=port))
    command = [part.format(root=root) for part in program.command]
    bench = Path(__file__).parents[2] / "bench"
    with (root / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.inside", name, "--", *command],
            env={**os.environ, "PYTHONPATH": str(bench)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            wait_for_port(port)
            yield Inbox(root), port
        finally:
            process.terminate()
            process.wait(30)


def _keep_certificate(root: Path, certificate: Certificate, key_owner: str) -> None:
    """Copies it to where its reader can come; OpenSMTPD refuses a key that others may read."""
    shutil.copyfile(certificate.chain, root / "certificate")
    key = root / "key"
    key.touch(mode=0o600)
    shutil.copyfile(certificate.private_key, key)
    shutil.chown(key, key_owner)
