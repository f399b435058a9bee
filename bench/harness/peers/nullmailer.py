"""Nullmailer, unpacked beside the others: no SMTP server, only a `sendmail` and a process that sends.

Its places are compiled in: one at a time. Offline that process does not run.
"""

import os
import shutil
from pathlib import Path

from harness.packages import unpacked
from harness.peers.base import Peer, count_files, wipe

_SETTINGS = Path("/etc/nullmailer")
_SPOOL = Path("/var/spool/nullmailer")
_TLS = {"none": "", "starttls": " starttls insecure", "implicit": " ssl insecure"}


class Nullmailer(Peer):
    listens = False

    @property
    def sendmail(self) -> list[str]:
        return [str(unpacked("nullmailer") / "usr/sbin/sendmail")]

    def launch(self) -> None:
        smarthost = self.smarthost
        remote = f"{smarthost.host} smtp port={smarthost.port}{_TLS[smarthost.tls]}"
        if smarthost.username:
            remote += f" user={smarthost.username} pass='{smarthost.password}'"
        _SETTINGS.mkdir(exist_ok=True)
        (_SETTINGS / "remotes").write_text(remote + "\n")
        for name in ("queue", "tmp", "failed"):
            (_SPOOL / name).mkdir(exist_ok=True)
        if not (_SPOOL / "trigger").exists():
            os.mkfifo(_SPOOL / "trigger")
        for path in (_SPOOL, *_SPOOL.iterdir()):
            shutil.chown(path, "mail", "mail")
        (_SPOOL / "trigger").chmod(0o622)
        if self.online:
            self._send()

    def _send(self) -> None:
        self._daemon = self.spawn(
            "setpriv", "--reuid", "mail", "--regid", "mail", "--clear-groups", "nullmailer-send"
        )

    def stop(self) -> None:
        if hasattr(self, "_daemon"):
            self.end(self._daemon)

    def flush(self) -> None:
        self._send()

    def queued(self) -> int:
        return count_files(_SPOOL / "queue")

    def empty(self) -> None:
        wipe(_SPOOL / "queue", _SPOOL / "tmp", _SPOOL / "failed")
