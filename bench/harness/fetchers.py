"""The programs that fetch mail, side by side, each as quick as its settings let it be.

All empty the mailbox over TLS into a Maildir. What is behind a colon in a name is a mode of the same program.
"""

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from harness.group import Group
from harness.mailserver import Mailbox
from harness.peers.base import NOWHERE
from harness.peers.masqmail import MasqMail

#: The user who gets the mail; the number is one that no Debian gives by itself.
USER, USER_ID = "bob", 50_010

#: The quickest delivery program there can be for one that needs it; it does not even sync.
_PUT = """\
file=$(mktemp "$1/tmp/XXXXXXXX") && cat >"$file" && mv "$file" "$1/new"
"""


class Fetcher(ABC):
    """A program that fetches from one mailbox, with everything it writes below `folder`.

    `prefix` goes before its commands, to run them in a network namespace.
    """

    #: The protocols it can speak.
    protocols: tuple[str, ...] = ("pop3", "imap")

    def __init__(self, name: str, folder: Path, mailbox: Mailbox, prefix: Sequence[str]) -> None:
        self.name = name
        self.folder = folder
        self.mailbox = mailbox
        self.prefix = list(prefix)
        self.maildir = folder / "Maildir"
        folder.mkdir()
        folder.chmod(0o755)

    def __enter__(self) -> "Fetcher":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    @abstractmethod
    def command(self) -> list[str]:
        """What fetches the mail, without the prefix."""

    @property
    @abstractmethod
    def group(self) -> Group:
        """Where all its processes are."""

    @abstractmethod
    def start(self) -> None:
        """Whatever happens before somebody wants mail."""

    @abstractmethod
    def stop(self) -> None:
        """Ends its processes."""

    def fetch(self) -> "subprocess.Popen[bytes]":
        """Starts to fetch; what is printed goes to the file `output`."""
        environment = {**os.environ, "HOME": str(self.folder), "PATH": f"/usr/sbin:/usr/bin:{os.environ['PATH']}"}
        with (self.folder / "output").open("ab") as output:
            command = self.group.joining([*self.prefix, *self.command])
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)

    def contents(self) -> list[bytes]:
        """What came."""
        return [path.read_bytes() for path in (self.maildir / "new").iterdir()]

    def count(self) -> int:
        """How many messages came so far."""
        try:
            return len(os.listdir(self.maildir / "new"))
        except FileNotFoundError:
            return 0


class _Alone(Fetcher):
    """One that is started for each time by the user who gets the mail, with a file of settings."""

    #: The file, and what it is called.
    settings = ""
    file = ""

    def start(self) -> None:
        self._group = Group(self.name)
        _add_user()
        self.prefix += ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"]
        for name in ("tmp", "new", "cur"):
            (self.maildir / name).mkdir(parents=True)
        (self.folder / "put").write_text(_PUT)
        text = self.settings.format(self=self, box=self.mailbox)
        (self.folder / self.file).write_text(text)
        (self.folder / self.file).chmod(0o600)
        for path in (self.folder, *self.folder.rglob("*")):
            shutil.chown(path, USER, USER)

    def stop(self) -> None:
        self._group.end()

    @property
    def group(self) -> Group:
        return self._group


class Fetchmail(_Alone):
    """Its settings spare it UIDL, a LIST for each message, and with IMAP an EXPUNGE for each."""

    file = "fetchmailrc"
    settings = """\
poll {box.host} service {box.port} protocol {box.protocol}
  user "{box.username}" password "{box.password}"
  ssl sslcertck sslcertfile {box.ca}
  nokeep fetchall fetchsizelimit 0 expunge 0
  mda "/bin/sh {self.folder}/put {self.maildir}"
"""

    @property
    def command(self) -> list[str]:
        return ["fetchmail", "--silent", "--fetchmailrc", str(self.folder / self.file)]


class Getmail(_Alone):
    """`read_all` and `delete` are what empties a mailbox; it writes the Maildir itself."""

    file = "getmailrc"
    settings = """\
[retriever]
type = Simple{kind}SSLRetriever
server = {box.host}
port = {box.port}
username = {box.username}
password = {box.password}
ca_certs = {box.ca}

[destination]
type = Maildir
path = {self.maildir}/

[options]
read_all = true
delete = true
verbose = 0
"""

    def start(self) -> None:
        self.settings = self.settings.replace("{kind}", self.mailbox.protocol.upper())
        super().start()

    @property
    def command(self) -> list[str]:
        return ["getmail", "--getmaildir", str(self.folder), "--rcfile", self.file]


class Mpop(_Alone):
    """It has pipelining for the servers that offer it."""

    protocols = ("pop3",)
    file = "mpoprc"
    settings = """\
account default
host {box.host}
port {box.port}
tls on
tls_starttls off
tls_trust_file {box.ca}
user {box.username}
password "{box.password}"
uidls_file {self.folder}/uidls
only_new off
delivery maildir {self.maildir}
"""

    @property
    def command(self) -> list[str]:
        return ["mpop", "--quiet", "--file", str(self.folder / self.file)]


class MasqMailFetcher(Fetcher):
    """Our own, as it is used: the daemon runs, and a command tells it to fetch."""

    _SETTINGS = """
[local]
delivery = "maildir"

[local.users.{user}]
maildir = "{self.maildir}"

[fetch.box]
links = ["line"]
protocol = "{box.protocol}"
server = "{box.host}:{box.port}"
tls_ca = "{box.ca}"
username = "{box.username}"
password_file = "{self.folder}/secret"
deliver_to = "{user}"
interval = "manual"
"""

    def start(self) -> None:
        _add_user()
        self.maildir = self.folder / "home" / "Maildir"
        self.maildir.parent.mkdir()
        shutil.chown(self.maildir.parent, USER, USER)
        (self.folder / "secret").write_text(self.mailbox.password + "\n")
        self._daemon = MasqMail(self.name, self.folder / "daemon", NOWHERE, online=True, prefix=self.prefix)
        self._daemon.route_settings = self._SETTINGS.format(self=self, box=self.mailbox, user=USER)
        self._daemon.__enter__()

    def stop(self) -> None:
        self._daemon.__exit__(None)

    @property
    def group(self) -> Group:
        return self._daemon.group

    @property
    def command(self) -> list[str]:
        configuration = self._daemon.folder / "masqmail.toml"
        return [str(self._daemon.scripts / "masqmail"), "fetch", "--config", str(configuration), "box"]


def _add_user() -> None:
    """The user, inside a sandbox."""
    with Path("/etc/passwd").open("a") as passwd, Path("/etc/group").open("a") as group:
        passwd.write(f"{USER}:x:{USER_ID}:{USER_ID}::/nonexistent:/bin/sh\n")
        group.write(f"{USER}:x:{USER_ID}:\n")


FETCHERS: dict[str, type[Fetcher]] = {
    "masqmail": MasqMailFetcher,
    "mpop": Mpop,
    "fetchmail": Fetchmail,
    "getmail": Getmail,
}


def make_fetcher(name: str, folder: Path, mailbox: Mailbox, prefix: Sequence[str]) -> Fetcher:
    """The program of this name, with a new folder below `folder`; used with `with`, which starts and stops it."""
    return FETCHERS[name](name, folder / name, mailbox, prefix)
