"""The DragonFly Mail Agent, unpacked beside the others: a `sendmail` with a queue, and no daemon.

Its configuration's place is compiled in: one at a time.
"""

import shutil
from pathlib import Path

from harness.peers.base import Peer, wipe

_SETTINGS = Path("/etc/dma")
_SPOOL = Path("/var/spool/dma")
_TLS = {"none": "", "starttls": "SECURETRANSFER\nSTARTTLS\n", "implicit": "SECURETRANSFER\n"}


class Dma(Peer):
    listens = False

    @property
    def sendmail(self) -> list[str]:
        return ["/usr/sbin/dma"]

    def launch(self) -> None:
        smarthost = self.smarthost
        _SETTINGS.mkdir(exist_ok=True)
        text = f"SMARTHOST {smarthost.host}\nPORT {smarthost.port}\n{_TLS[smarthost.tls]}"
        if smarthost.username:
            (_SETTINGS / "auth.conf").write_text(f"{smarthost.username}|{smarthost.host}:{smarthost.password}\n")
            shutil.chown(_SETTINGS / "auth.conf", "root", "mail")
            text += f"AUTHPATH {_SETTINGS}/auth.conf\n"
        (_SETTINGS / "dma.conf").write_text(text if self.online else text + "DEFER\n")
        shutil.chown(_SPOOL, "root", "mail")
        _SPOOL.chmod(0o2775)

    def stop(self) -> None:
        """There is no daemon; what is still sending ends with the group."""

    def flush(self) -> None:
        self.spawn("dma", "-q")

    def queued(self) -> int:
        return sum(1 for _ in _SPOOL.glob("M*"))

    def empty(self) -> None:
        wipe(_SPOOL)
