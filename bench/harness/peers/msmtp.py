"""msmtp, installed or unpacked beside the others: a `sendmail` without a queue, which hands the message on and ends.

Only for what it costs to submit: nothing is stored, so there is nothing to flush.
"""

from harness.peers.base import Peer

_TLS = {"none": "off", "starttls": "on", "implicit": "on"}


class Msmtp(Peer):
    durable = False
    listens = False

    @property
    def sendmail(self) -> list[str]:
        return ["/usr/bin/msmtp", f"--file={self.folder}/msmtprc"]

    def launch(self) -> None:
        smarthost = self.smarthost
        text = f"account default\nhost {smarthost.host}\nport {smarthost.port}\nfrom ann@laptop.example.org\n"
        text += f"tls {_TLS[smarthost.tls]}\ntls_starttls {'on' if smarthost.tls == 'starttls' else 'off'}\n"
        if smarthost.tls != "none":
            text += f"tls_trust_file {smarthost.ca}\n"
        if smarthost.username:
            text += f"auth on\nuser {smarthost.username}\npassword {smarthost.password}\n"
        (self.folder / "msmtprc").write_text(text)
        (self.folder / "msmtprc").chmod(0o600)

    def stop(self) -> None:
        """There is no daemon."""

    def flush(self) -> None:
        """Nothing waits."""

    def queued(self) -> int:
        return 0

    def empty(self) -> None:
        """Nothing waits."""
