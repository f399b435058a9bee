"""Receivers whose Debian packages conflict with Postfix: they run from unpacked packages, in a view of their own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
tls_certificate = {certificate}
tls_privatekey = {private_key}
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
pki receiver cert "{certificate}"
pki receiver key "{private_key}"
listen on 127.0.0.1 port {port} hostname mx.opensmtpd.test tls pki receiver
action "inbox" maildir "{root}/inbox" virtual {{ "@" = "nobody" }}
match from any for any action "inbox"
"""

#: For each: its configuration and how it runs in the foreground with it.
_PROGRAMS: dict[str, tuple[str, Sequence[str]]] = {
    "exim": (EXIM, ("exim4", "-bdf", "-C", "{root}/conf")),
    "opensmtpd": (OPENSMTPD, ("smtpd", "-dv", "-f", "{root}/conf")),
}


@contextmanager
def running_receiver(program: str, folder: Path, certificate: Path, private_key: Path) -> Iterator[tuple[Inbox, int]]:
    """Starts "exim" or "opensmtpd" below `folder` and stops it again; gives its Maildir and its port."""
    text, command = _PROGRAMS[program]
    root, port = folder / program, free_port()
    for name in ("inbox", "spool"):
        (root / name).mkdir(parents=True)
        shutil.chown(root / name, "nobody", "nogroup")
    open_way(root)
    private_key.chmod(0o600)  # OpenSMTPD refuses one that others may read
    (root / "conf").write_text(text.format(root=root, port=port, certificate=certificate, private_key=private_key))
    bench = Path(__file__).parents[2] / "bench"
    with (root / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.inside", program, "--", *(part.format(root=root) for part in command)],
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
