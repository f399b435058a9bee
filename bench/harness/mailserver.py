"""A real Dovecot at the far end of a slow link, with one mailbox that mail is fetched from."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.limit import Letter
from harness.namespace import FAR_ADDRESS, SlowLink
from harness.receiver import make_certificates

HOST = "mail.example.net"
PORTS = {"pop3": 995, "imap": 993}
USERNAME, PASSWORD = "bob", "open sesame"

_START_SECONDS = 30.0

#: The account that the mailbox belongs to at the server.
_OWNER = "mail"

_CONFIGURATION = f"""\
base_dir = {{folder}}/run
state_dir = {{folder}}/state
log_path = {{folder}}/log
protocols = pop3 imap
listen = {FAR_ADDRESS}
ssl = required
ssl_cert = <{{certificate}}
ssl_key = <{{certificate}}
mail_location = maildir:{{folder}}/mail/%u
first_valid_uid = 0
first_valid_gid = 0
default_internal_user = dovecot
default_login_user = dovenull
passdb {{{{
  driver = passwd-file
  args = scheme=PLAIN {{folder}}/users
}}}}
userdb {{{{
  driver = static
  args = uid={_OWNER} gid={_OWNER} home={{folder}}/mail
}}}}
service pop3-login {{{{
  inet_listener pop3 {{{{
    port = 0
  }}}}
}}}}
service imap-login {{{{
  inet_listener imap {{{{
    port = 0
  }}}}
}}}}
"""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """How the mailbox is reached: what a fetcher is configured with. `protocol` is pop3 or imap, with TLS at once."""

    protocol: str
    ca: Path
    host: str = HOST
    username: str = USERNAME
    password: str = PASSWORD

    @property
    def port(self) -> int:
        return PORTS[self.protocol]


class MailServer:
    """The server and its mailbox, as files."""

    def __init__(self, folder: Path) -> None:
        self._maildir = folder / "mail" / USERNAME

    def fill(self, letters: Sequence[Letter]) -> None:
        """Puts messages into the mailbox, in this order."""
        for name in ("tmp", "new", "cur"):
            (self._maildir / name).mkdir(parents=True, exist_ok=True)
        for number, letter in enumerate(letters):
            name = f"{1_700_000_000 + number}.M{number}P1.far"
            (self._maildir / "new" / name).write_bytes(letter.content.replace(b"\r\n", b"\n"))
        for path in (self._maildir, *self._maildir.rglob("*")):
            shutil.chown(path, _OWNER, _OWNER)

    def left(self) -> int:
        """How many messages it still has."""
        return sum(1 for name in ("new", "cur") for _ in (self._maildir / name).iterdir())


@contextmanager
def serving(link: SlowLink, folder: Path) -> Iterator[MailServer]:
    """A Dovecot at the far end, inside a sandbox; the near end knows its name, and `ca.pem` in the folder.

    Raises OSError when it does not start.
    """
    make_certificates(folder, HOST)
    with Path("/etc/hosts").open("a") as hosts:
        hosts.write(f"{FAR_ADDRESS} {HOST}\n")
    place = folder / "dovecot"
    for name in ("mail", "run", "state"):
        (place / name).mkdir(parents=True)
    shutil.chown(place / "mail", _OWNER, _OWNER)
    (place / "users").write_text(f"{USERNAME}:{{PLAIN}}{PASSWORD}::::::\n")
    text = _CONFIGURATION.format(folder=place, certificate=folder / "server.pem")
    (place / "dovecot.conf").write_text(text)
    process = subprocess.Popen(link.in_far(["dovecot", "-F", "-c", str(place / "dovecot.conf")]))
    try:
        _wait_until_started(process, place / "log")
        yield MailServer(place)
    finally:
        process.terminate()
        process.wait()


def _wait_until_started(process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Returns when its ports are open. Raises OSError with its last words when they do not open."""
    ends_at = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < ends_at:
        if log.exists() and "starting up" in log.read_text():
            return
        time.sleep(0.02)
    words = log.read_text()[-2000:] if log.exists() else ""
    raise OSError(f"Dovecot does not start: {words}")
