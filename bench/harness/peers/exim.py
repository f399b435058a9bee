"""Exim, Debian's light daemon, unpacked beside the others; mode `tuned` sends with `-qqf` instead of `-qf`.

It reads `/etc/exim4/exim4.conf`, so there is one at a time. Settings other than Debian's are those a load test needs:
more connections than 20, a longer listen backlog, no limit of messages per connection.
"""

import shutil
from pathlib import Path

from harness.peers.base import Peer, wipe

_CONFIGURATION = Path("/etc/exim4/exim4.conf")

_TEXT = """\
primary_hostname = exim.bench.test
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/exim.pid
exim_user = Debian-exim
exim_group = Debian-exim
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
smtp_accept_max = 200
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 500
rfc1413_query_timeout = 0s
prdr_enable = true
never_users = root
ignore_bounce_errors_after = 2d
timeout_frozen_after = 7d
acl_smtp_rcpt = accept_local
{more}
begin acl
accept_local:
  accept hosts = 127.0.0.1

begin routers
smarthost:
  driver = manualroute
  transport = remote_smtp
  route_list = * {smarthost.host} byname
  self = send

begin transports
remote_smtp:
  driver = smtp
  port = {smarthost.port}
  allow_localhost
{transport}
begin retry
* * F,2h,15m; G,16h,1h,1.5; F,4d,6h
{authenticators}"""

_AUTHENTICATORS = """
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{smarthost.username}^{smarthost.password}
"""


class Exim(Peer):
    @property
    def sendmail(self) -> list[str]:
        return ["/usr/sbin/exim4"]

    def launch(self) -> None:
        for name in ("spool", "log"):
            (self.folder / name).mkdir(exist_ok=True)
            shutil.chown(self.folder / name, "Debian-exim", "Debian-exim")
        _CONFIGURATION.parent.mkdir(exist_ok=True)
        _CONFIGURATION.write_text(self._text())
        self._daemon = self.spawn("exim4", "-bdf")

    def _text(self) -> str:
        smarthost = self.smarthost
        transport, authenticators = [], ""
        if smarthost.tls == "none":
            transport.append("hosts_avoid_tls = *")
        else:
            transport.append("hosts_require_tls = *")
        if smarthost.tls == "implicit":
            transport.append("protocol = smtps")
        if smarthost.ca:
            transport.append(f"tls_verify_certificates = {smarthost.ca}")
        if smarthost.username:
            transport.append("hosts_require_auth = *")
            authenticators = _AUTHENTICATORS.format(smarthost=smarthost)
        return _TEXT.format(
            folder=self.folder,
            port=self.port,
            smarthost=smarthost,
            more="" if self.online else "queue_only",
            transport="".join(f"  {line}\n" for line in transport),
            authenticators=authenticators,
        )

    def stop(self) -> None:
        self.end(self._daemon)

    def flush(self) -> None:
        self.spawn("exim4", "-qqf" if self.name.endswith(":tuned") else "-qf")

    def queued(self) -> int:
        return sum(1 for _ in (self.folder / "spool/input").rglob("*-H"))

    def empty(self) -> None:
        wipe(self.folder / "spool")
