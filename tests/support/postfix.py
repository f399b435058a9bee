"""A private Postfix on high ports of loopback: a smarthost or receiver that keeps everything in one Maildir."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.inbox import Inbox
from support.peers import SEARCH_PATH, open_way, wait_until
from support.ports import free_port, wait_for_port

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

MAIN = """\
compatibility_level = 3.6
myhostname = mx.postfix.test
mydestination =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
queue_directory = {root}/queue
data_directory = {root}/data
mail_owner = postfix
maillog_file = {root}/log
maillog_file_prefixes = {root}
virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:inbox/
virtual_mailbox_base = {root}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
smtpd_recipient_restrictions = reject_unauth_destination
smtpd_relay_restrictions =
smtpd_sasl_type = dovecot
smtpd_tls_auth_only = yes
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_peername_lookup = no
local_header_rewrite_clients =
message_size_limit = 100000000
virtual_mailbox_limit = 0
smtpd_error_sleep_time = 0
"""


@dataclass(frozen=True)
class Postfix(Inbox):
    """A running instance. `doors` are further ports of it, by name, with settings of their own."""

    port: int
    doors: Mapping[str, int] = field(default_factory=dict)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        path = self.root / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def connections(self, door: str) -> int:
        """How often somebody connected to a door."""
        return len(re.findall(rf"postfix/{door}/smtpd\[\d+\]: connect from", self.log))

    def session(self, door: str) -> dict[str, int]:
        """How many of each command the only session at a door had, once it is over."""
        found = re.compile(rf"postfix/{door}/smtpd\[\d+\]: disconnect from \S+ (.*)")
        wait_until(lambda: found.search(self.log), f"the end of a session at door {door!r}")
        (counts,) = found.findall(self.log)
        pairs = (pair.split("=") for pair in counts.split())
        return {verb: int(count.rpartition("/")[2]) for verb, count in pairs}  # accepted/total when they differ


@contextmanager
def running_postfix(
    folder: Path,
    *,
    certificate: Path | None = None,
    private_key: Path | None = None,
    settings: str = "",
    doors: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Postfix]:
    """Starts a Postfix of its own below `folder` and stops it again.

    With a certificate it offers STARTTLS. `doors` are more ports, each a name with its `parameter = value`
    settings; its log lines begin with `postfix/NAME/smtpd`.
    """
    root = folder / "postfix"
    doors = doors or {}
    instance = Postfix(root, free_port(), {name: free_port() for name in doors})
    _write_configuration(instance, certificate, private_key, settings)
    with (root / "etc" / "master.cf").open("a") as master:
        for name, port in instance.doors.items():
            options = "".join(f" -o {{ {option} }}" for option in [f"syslog_name = postfix/{name}", *doors[name]])
            master.write(f"127.0.0.1:{port} inet n - n - - smtpd{options}\n")
    command = ["postfix", "-c", str(root / "etc")]
    environment = {**os.environ, "PATH": SEARCH_PATH}
    subprocess.run([*command, "start"], check=True, capture_output=True, timeout=30, env=environment)
    try:
        wait_for_port(instance.port)
        yield instance
    finally:
        subprocess.run([*command, "stop"], check=False, capture_output=True, timeout=60, env=environment)


def _write_configuration(
    instance: Postfix,
    certificate: Path | None,
    private_key: Path | None,
    settings: str,
) -> None:
    root, owner = instance.root, "postfix"
    for name in ("etc", "queue", "data", "inbox"):
        (root / name).mkdir(parents=True)
    open_way(root)
    for name in ("data", "inbox"):
        shutil.chown(root / name, owner, owner)
    account = (root / "data").stat()
    main = MAIN.format(root=root, uid=account.st_uid, gid=account.st_gid)
    if certificate and private_key:
        main += "smtpd_tls_security_level = may\n"
        main += f"smtpd_tls_cert_file = {certificate}\nsmtpd_tls_key_file = {private_key}\n"
    (root / "etc" / "main.cf").write_text(main + settings)
    (root / "etc" / "master.cf").write_text(MASTER.format(port=instance.port))
