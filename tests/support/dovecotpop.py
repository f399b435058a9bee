"""A private Dovecot that serves POP3, in clear, with STLS and with TLS from the first byte."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.authority import Certificate
from support.peers import SEARCH_PATH, open_way
from support.ports import free_port, wait_for_port

CONFIGURATION = """\
base_dir = {root}/run
log_path = {root}/log
protocols = pop3
listen = 127.0.0.1
ssl = yes
ssl_cert = <{chain}
ssl_key = <{private_key}
disable_plaintext_auth = no
auth_mechanisms = plain login cram-md5 apop scram-sha-1 scram-sha-256
auth_failure_delay = 0
mail_location = maildir:{root}/mail/%u
first_valid_uid = 0
first_valid_gid = 0
default_internal_user = dovecot
default_login_user = dovenull
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {root}/users
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={root}/mail
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = {tls_port}
    ssl = yes
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""


@dataclass(frozen=True)
class DovecotPop:
    """A running instance."""

    root: Path
    port: int
    tls_port: int

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()

    def fill(self, user: str, contents: Iterable[bytes]) -> None:
        """Puts messages into a mailbox, in this order, whatever was there."""
        self._wait_for_sessions()  # one that has said goodbye may still write what it knew into the new mailbox
        maildir = self.root / "mail" / user
        shutil.rmtree(maildir, ignore_errors=True)
        for folder in ("tmp", "new", "cur"):
            (maildir / folder).mkdir(parents=True)
        for number, content in enumerate(contents, 1):
            (maildir / "new" / f"{1_700_000_000 + number}.M{number}P1.test").write_bytes(content)
        for path in (maildir, *maildir.rglob("*")):
            shutil.chown(path, "mail", "mail")

    def _wait_for_sessions(self) -> None:
        """Returns when every session is over. Each has a process of its own."""
        master = (self.root / "run" / "master.pid").read_text().strip()
        deadline = time.monotonic() + 20
        while "pop3" in map(_name, Path(f"/proc/{master}/task/{master}/children").read_text().split()):
            assert time.monotonic() < deadline, "a session of POP3 does not end"
            time.sleep(0.01)

    def files(self, user: str) -> list[Path]:
        """What is in a mailbox."""
        return [path for folder in ("new", "cur") for path in (self.root / "mail" / user / folder).iterdir()]


def _name(process: str) -> str:
    """Of a process, as long as it is there."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except FileNotFoundError:
        return ""


@contextmanager
def running_dovecot_pop(folder: Path, certificate: Certificate, users: dict[str, str]) -> Iterator[DovecotPop]:
    """Starts a Dovecot of its own below `folder`, with these users and passwords, and stops it again."""
    root = folder / "dovecotpop"
    (root / "mail").mkdir(parents=True)
    open_way(root / "mail")
    (root / "mail").chmod(0o777)
    instance = DovecotPop(root, free_port(), free_port())
    (root / "users").write_text("".join(f"{name}:{password}::::::\n" for name, password in users.items()))
    text = CONFIGURATION.format(
        root=root,
        chain=certificate.chain,
        private_key=certificate.private_key,
        port=instance.port,
        tls_port=instance.tls_port,
    )
    (root / "dovecot.conf").write_text(text)
    command = ["dovecot", "-F", "-c", str(root / "dovecot.conf")]
    process = subprocess.Popen(command, env={**os.environ, "PATH": SEARCH_PATH})
    try:
        wait_for_port(instance.port)
        wait_for_port(instance.tls_port)
        yield instance
    finally:
        process.terminate()
        process.wait(timeout=20)
