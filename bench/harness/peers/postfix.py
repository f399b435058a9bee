"""Postfix, from the installed package, as a private instance.

Modes: as shipped (offline is `defer_transports`, its documented set-up for dial-up: each message is tried, deferred,
and the reason written down); `hold` (everything to the hold queue: the least it can do); `tuned` (connections reused
under TLS, 20 from the start) and `single` (the same with one connection, the limit of many providers).
"""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from harness.peers.base import NOWHERE, Peer, Smarthost, count_files

#: Debian's master.cf without chroots, at a port of ours.
_MASTER = """\
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
tlsproxy unix - - n - 0 tlsproxy
"""

#: Debian's main.cf for a host with a smarthost, in places of ours.
_MAIN = """\
compatibility_level = 3.6
smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)
biff = no
append_dot_mydomain = no
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
myhostname = postfix.bench.test
mydestination =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
mailbox_size_limit = 0
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
relayhost = [{smarthost.host}]:{smarthost.port}
"""

_HELD_UNTIL_FLUSHED = "smtpd_recipient_restrictions = check_client_access static:hold, permit_mynetworks, reject\n"

_TUNED = """\
smtp_tls_connection_reuse = yes
smtp_tls_session_cache_database = btree:${{data_directory}}/smtp_scache
smtp_connection_cache_destinations = static:all
smtp_destination_concurrency_limit = {connections}
initial_destination_concurrency = {connections}
"""

_TLS = {
    "none": "smtp_tls_security_level = none\n",
    "starttls": "smtp_tls_security_level = encrypt\n",
    "implicit": "smtp_tls_security_level = encrypt\nsmtp_tls_wrappermode = yes\n",
}

_LOGIN = """\
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:{folder}/passwords
smtp_sasl_security_options = noanonymous
smtp_sasl_mechanism_filter = plain
"""


class Postfix(Peer):
    def __init__(
        self,
        name: str,
        folder: Path,
        smarthost: Smarthost = NOWHERE,
        *,
        online: bool = False,
        prefix: Sequence[str] = (),
    ) -> None:
        super().__init__(name, folder, smarthost, online=online, prefix=prefix)
        self.mode = name.partition(":")[2]
        if shutil.which("postfix") is None:
            raise OSError("There is no Postfix here; install Debian's package postfix.")

    @property
    def sendmail(self) -> list[str]:
        return ["/usr/sbin/sendmail"]

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "MAIL_CONFIG": str(self.folder / "etc")}

    def launch(self) -> None:
        for name in ("etc", "queue", "data"):
            (self.folder / name).mkdir(exist_ok=True)
        shutil.chown(self.folder / "data", "postfix", "postfix")
        (self.folder / "etc/main.cf").write_text(self._main())
        (self.folder / "etc/master.cf").write_text(_MASTER.format(port=self.port))
        self._command("postfix", "start")

    def _main(self) -> str:
        smarthost = self.smarthost
        text = _MAIN.format(folder=self.folder, smarthost=smarthost) + _TLS[smarthost.tls]
        if smarthost.ca:
            text += f"smtp_tls_CAfile = {smarthost.ca}\n"
        if smarthost.username:
            line = f"[{smarthost.host}]:{smarthost.port} {smarthost.username}:{smarthost.password}\n"
            (self.folder / "passwords").write_text(line)
            text += _LOGIN.format(folder=self.folder)
        if self.mode in ("tuned", "single"):
            text += _TUNED.format(connections=20 if self.mode == "tuned" else 1)
        if self.mode == "hold":
            text += _HELD_UNTIL_FLUSHED
        elif not self.online:
            text += "defer_transports = smtp\n"
        return text

    def stop(self) -> None:
        if not self.group.pids():
            return
        self._command("postfix", "stop")
        deadline = time.monotonic() + 10
        while self.group.pids() and time.monotonic() < deadline:
            time.sleep(0.02)

    def flush(self) -> None:
        if self.mode == "hold":
            self._command("postsuper", "-H", "ALL")
        self._command("postqueue", "-f")

    def queued(self) -> int:
        queues = ("maildrop", "incoming", "active", "deferred", "hold")
        return count_files(*(self.folder / "queue" / name for name in queues))

    def empty(self) -> None:
        self._command("postsuper", "-d", "ALL")

    def _command(self, program: str, *arguments: str) -> None:
        self.run(program, "-c", self.folder / "etc", *arguments)
