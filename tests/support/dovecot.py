"""A private Dovecot: serves one Maildir over IMAP, and answers SASL questions for a private Postfix."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.peers import SEARCH_PATH, open_way, wait_until
from support.ports import free_port, wait_for_port

CONFIGURATION = """\
base_dir = {root}/run
log_path = {root}/log
protocols = imap {lmtp}
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login cram-md5
auth_failure_delay = 0
mail_location = maildir:{maildir}
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
  args = uid={uid} gid={gid} home={root}
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service lmtp {{
  unix_listener {root}/lmtp {{
    mode = 0666
  }}
}}
service auth {{
  unix_listener {root}/auth {{
    mode = 0666
  }}
}}
"""


LMTP = Path("/usr/lib/dovecot/lmtp")


@dataclass(frozen=True)
class Dovecot:
    """A running instance; `auth_socket` is what Postfix takes as `smtpd_sasl_path`."""

    root: Path
    port: int

    @property
    def lmtp_socket(self) -> Path:
        """Where mail is delivered to; there is one if Debian's dovecot-lmtpd is here."""
        return self.root / "lmtp"

    @property
    def auth_socket(self) -> Path:
        return self.root / "auth"


@contextmanager
def running_dovecot(folder: Path, maildir: Path, users: dict[str, str]) -> Iterator[Dovecot]:
    """Starts a Dovecot of its own below `folder`, with these users and passwords, and stops it again.

    All of them read the one Maildir, as the account that owns it. Dovecot reads no mail as root.
    """
    root = folder / "dovecot"
    root.mkdir(parents=True)
    open_way(root)
    instance = Dovecot(root, free_port())
    (root / "users").write_text("".join(f"{name}:{password}::::::\n" for name, password in users.items()))
    owner = (maildir if maildir.exists() else root).stat()
    text = CONFIGURATION.format(
        root=root,
        maildir=maildir,
        port=instance.port,
        uid=owner.st_uid,
        gid=owner.st_gid,
        lmtp="lmtp" * LMTP.exists(),
    )
    (root / "dovecot.conf").write_text(text)
    command = ["dovecot", "-F", "-c", str(root / "dovecot.conf")]
    process = subprocess.Popen(command, env={**os.environ, "PATH": SEARCH_PATH})
    try:
        wait_for_port(instance.port)
        wait_until(instance.auth_socket.exists, "Dovecot's authentication socket")
        yield instance
    finally:
        process.terminate()
        process.wait(timeout=20)
