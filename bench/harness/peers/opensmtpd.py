"""OpenSMTPD, unpacked beside the others. Its spool and socket are compiled in: one at a time.

It syncs nothing before it says 250, so its figures are shown and never the bar. It takes 100 messages in a
session unless told otherwise.
"""

import shutil
from pathlib import Path

from harness.packages import unpacked
from harness.peers.base import Peer

_SPOOL = Path("/var/spool/smtpd")
_SOCKET = Path("/run/smtpd.sock")
_SCHEMES = {"none": "smtp+notls", "starttls": "smtp+tls", "implicit": "smtps"}

_TEXT = """\
{secrets}smtp limit max-mails 1000000
listen on 127.0.0.1 port {port}
action "smarthost" relay host {url}{options}
match from any for any action "smarthost"
"""


class OpenSmtpd(Peer):
    durable = False
    shares_its_places = True

    @property
    def sendmail(self) -> list[str]:
        return [str(unpacked("opensmtpd") / "usr/sbin/sendmail")]

    def launch(self) -> None:
        (self.folder / "smtpd.conf").write_text(self._text())
        self._daemon = self.spawn("smtpd", "-d", "-f", self.folder / "smtpd.conf")

    def _text(self) -> str:
        smarthost = self.smarthost
        place, secrets, options = f"{smarthost.host}:{smarthost.port}", "", ""
        if smarthost.username:
            secrets = f'table secrets {{ bench = "{smarthost.username}:{smarthost.password}" }}\n'
            place, options = f"bench@{place}", " auth <secrets>"
        if smarthost.tls != "none":
            options += " tls no-verify"
        url = f"{_SCHEMES[smarthost.tls]}://{place}"
        return _TEXT.format(secrets=secrets, port=self.port, url=url, options=options)

    def start(self, *, wait: bool = True) -> None:
        super().start(wait=wait)
        if wait and not self.online:
            self.run("smtpctl", "pause", "mta")

    def stop(self) -> None:
        self.end(self._daemon)
        _SOCKET.unlink(missing_ok=True)

    def flush(self) -> None:
        self.run("smtpctl", "resume", "mta")
        self.run("smtpctl", "schedule", "all")

    def queued(self) -> int:
        return sum(1 for _ in (_SPOOL / "queue").glob("*/*"))

    def empty(self) -> None:
        self.stop()
        shutil.rmtree(_SPOOL / "queue")
        self.start()
