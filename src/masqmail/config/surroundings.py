"""What the defaults depend on: who runs the program, and where it may keep its files."""

import os
import pwd
import socket
from collections.abc import Mapping
from pathlib import Path

from masqmail.frozen import frozen

#: Names another configuration file than the default one.
FILE_VARIABLE = "MASQMAIL_CONFIG"

#: The account that packages make for the daemon.
SERVICE_ACCOUNT = "masqmail"

_HOSTS = Path("/etc/hosts")


@frozen(kw_only=True)
class Surroundings:
    """The account, the host's name and the base folders; `of_this_process` asks the system for them.

    `service_account` is who the daemon becomes when root starts it: masqmail, or root where there is no such account.
    `named_file` is the configuration file that the environment names.
    """

    is_root: bool
    host_name: str
    user_name: str
    group_name: str
    home: Path
    config_home: Path
    state_home: Path
    runtime_home: Path
    named_file: Path | None = None
    service_account: str = SERVICE_ACCOUNT

    @classmethod
    def of_this_process(cls, environment: Mapping[str, str] = os.environ) -> "Surroundings":
        """What the system says about this process. Asks no network, and fails for nothing."""
        uid = os.geteuid()
        user_name, group_name, account_home = _account(uid, os.getegid())
        home = _folder(environment, "HOME", Path(account_home))
        state_home = _folder(environment, "XDG_STATE_HOME", home / ".local/state")
        session = Path(f"/run/user/{uid}")  # the usual value of XDG_RUNTIME_DIR
        named = environment.get(FILE_VARIABLE)
        return cls(
            is_root=uid == 0,
            host_name=_host_name(),
            user_name=user_name,
            group_name=group_name,
            home=home,
            config_home=_folder(environment, "XDG_CONFIG_HOME", home / ".config"),
            state_home=state_home,
            runtime_home=_folder(environment, "XDG_RUNTIME_DIR", session if session.is_dir() else state_home),
            named_file=Path(named) if named else None,
            service_account=SERVICE_ACCOUNT if _exists(SERVICE_ACCOUNT) else "root",
        )

    @property
    def default_file(self) -> Path:
        folder = Path("/etc") if self.is_root else self.config_home
        return folder / "masqmail/masqmail.toml"

    @property
    def default_spool(self) -> Path:
        return Path("/var/spool/masqmail") if self.is_root else self.state_home / "masqmail"

    @property
    def default_runtime(self) -> Path:
        return Path("/run/masqmail") if self.is_root else self.runtime_home / "masqmail"


def _folder(environment: Mapping[str, str], variable: str, default: Path) -> Path:
    """The folder a variable names; one that is not absolute counts as unset (XDG Base Directory Specification)."""
    path = Path(environment.get(variable, ""))
    return path if path.is_absolute() else default


def _account(uid: int, gid: int) -> tuple[str, str, str]:
    """The names of user and group and the home; numbers and `/` for an account that is not listed."""
    import grp
    import pwd

    try:
        user = pwd.getpwuid(uid)
        user_name, home = user.pw_name, user.pw_dir
    except KeyError:
        user_name, home = str(uid), "/"
    try:
        group_name = grp.getgrgid(gid).gr_name
    except KeyError:
        group_name = str(gid)
    return user_name, group_name, home


def _exists(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


def _host_name() -> str:
    """The host's full name as far as this host knows it: asking DNS could take minutes while offline."""
    name = socket.gethostname() or "localhost"
    if "." in name:
        return name
    try:
        hosts = _HOSTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return name
    return full_name(name, hosts)


def full_name(name: str, hosts: str) -> str:
    """The name with its domain from the text of a hosts file, hosts(5); the name itself when it has none there."""
    for line in hosts.splitlines():
        names = line.partition("#")[0].split()[1:]
        if name in names:
            for candidate in names:
                if candidate.startswith(f"{name}."):
                    return candidate
    return name
