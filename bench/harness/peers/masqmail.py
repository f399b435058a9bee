"""Our own program, through its commands alone: those of the environment this Python runs in.

The configuration is the default one, with a smarthost behind a link that somebody declares up or down.
"""

import json
import sys
from pathlib import Path

from harness.peers.base import Peer

_TEXT = """\
[host]
name = "laptop.example.org"

[paths]
spool = "{folder}/spool"
runtime = "{folder}/run"

[smtp]
listen = ["127.0.0.1:{port}"]

[links.line]
detect = "manual"

[routes.smarthost]
links = ["line"]
smarthost = "{smarthost.host}:{smarthost.port}"
tls = "{smarthost.tls}"
"""


class MasqMail(Peer):
    #: More lines for the route, such as `max_connections = 4`, and sections to follow it.
    route_settings = ""

    @property
    def scripts(self) -> Path:
        """Where its commands are."""
        return Path(sys.executable).parent

    @property
    def sendmail(self) -> list[str]:
        return [str(self.scripts / "sendmail")]

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "MASQMAIL_CONFIG": str(self.folder / "masqmail.toml")}

    def launch(self) -> None:
        smarthost = self.smarthost
        text = _TEXT.format(folder=self.folder, port=self.port, smarthost=smarthost)
        if smarthost.ca:
            text += f'tls_ca = "{smarthost.ca}"\n'
        if smarthost.username:
            secret = self.folder / "password"
            secret.write_text(smarthost.password + "\n")
            text += f'username = "{smarthost.username}"\npassword_file = "{secret}"\n'
        (self.folder / "masqmail.toml").write_text(text + self.route_settings)
        self._daemon = self.spawn(self.scripts / "masqmail", "serve")

    def start(self, *, wait: bool = True) -> None:
        super().start(wait=wait)
        if wait:
            self.masqmail("link", "up" if self.online else "down", "line")

    def stop(self) -> None:
        self.end(self._daemon)

    def flush(self) -> None:
        self.masqmail("link", "up", "line")

    def queued(self) -> int:
        return int(json.loads(self.masqmail("status", "--json", counted=False))["queue"]["messages"])

    def empty(self) -> None:
        self.masqmail("queue", "remove", "--all")

    def masqmail(self, *arguments: str, counted: bool = True) -> str:
        """What one of its commands prints."""
        return self.run(self.scripts / "masqmail", *arguments, counted=counted)
