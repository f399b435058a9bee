"""A private Dovecot that serves IMAP, in clear, with STARTTLS and with TLS from the first byte."""

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.authority import Certificate
from support.peers import SEARCH_PATH, open_way
from support.ports import free_port, wait_for_port

CONFIGURATION = """\
base_dir = {root}/run
log_path = {root}/log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{chain}
ssl_key = <{private_key}
disable_plaintext_auth = no
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
auth_failure_delay = 0
mail_location = maildir:{root}/mail/%u
mail_fsync = never
{plugins}
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
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
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

_numbers = itertools.count()  # a Maildir wants new names

#: Debian has it in dovecot-core.
COMPRESSION = Path("/usr/lib/dovecot/modules/lib30_imap_zlib_plugin.so")

PLUGINS = """\
protocol imap {
  mail_plugins = $mail_plugins zlib imap_zlib
}
"""


@dataclass(frozen=True)
class DovecotImap:
    """A running instance."""

    root: Path
    port: int
    tls_port: int

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()

    def folder(self, user: str, name: str = "") -> Path:
        """The Maildir of a folder, which is made if it is not there."""
        path = self.root / "mail" / user / (f".{name}" if name else "")
        for part in ("tmp", "new", "cur"):
            (path / part).mkdir(parents=True, exist_ok=True)
        for part in (path.parent, path, *path.iterdir()):
            part.chmod(0o777)
        return path

    def put(self, user: str, *contents: bytes, folder: str = "") -> None:
        """Puts messages into a folder, as a delivery does."""
        path = self.folder(user, folder)
        for content in contents:
            number = next(_numbers)
            name = f"{1_700_000_000 + number}.M{number}P1.test"
            (path / "tmp" / name).write_bytes(content)
            (path / "tmp" / name).chmod(0o666)
            (path / "tmp" / name).rename(path / "new" / name)

    def left(self, user: str, folder: str = "") -> list[Path]:
        """The messages that are there now."""
        path = self.folder(user, folder)
        return [file for part in ("new", "cur") for file in (path / part).iterdir()]


@contextmanager
def running_dovecot_imap(folder: Path, certificate: Certificate, users: dict[str, str]) -> Iterator[DovecotImap]:
    """Starts a Dovecot of its own below `folder`, with these users and passwords, and stops it again."""
    root = folder / "dovecotimap"
    (root / "mail").mkdir(parents=True)
    open_way(root / "mail")
    (root / "mail").chmod(0o777)
    instance = DovecotImap(root, free_port(), free_port())
    (root / "users").write_text("".join(f"{name}:{password}::::::\n" for name, password in users.items()))
    text = CONFIGURATION.format(
        root=root,
        chain=certificate.chain,
        private_key=certificate.private_key,
        port=instance.port,
        tls_port=instance.tls_port,
        plugins=PLUGINS if COMPRESSION.exists() else "",
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
