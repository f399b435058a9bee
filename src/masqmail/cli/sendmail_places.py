"""Where `sendmail` finds the daemon and the pickup folder: the `[paths]` table, read by a tiny scanner.

Like `cli.sendmail` this imports nothing that costs time to load; `masqmail check` says what is wrong with a
configuration, here a line that makes no sense is passed over.
"""

import _socket
import posix
import sys

TIMEOUT_SECONDS = 600  # RFC 5321 §4.5.3.2.6, the longest of them
_ESCAPES = {"\\": "\\", '"': '"', "t": "\t", "n": "\n", "r": "\r", "b": "\b", "f": "\f"}


class Unavailable(Exception):
    """There is no daemon to talk to; nothing of the message was read."""


class Silent(Unavailable):
    """The daemon took the connection and says nothing for very long; what was sent to it may still be read."""


class Place:
    """Where one daemon listens and looks for mail."""

    def __init__(self, runtime: str, spool: str) -> None:
        self.control = _join(runtime, "control.sock")
        self.socket = _join(runtime, "submit.sock")
        self.handover = _join(runtime, "inetd.sock")
        self.pickup = _join(spool, "pickup")


def connect(place: Place) -> _socket.socket:
    """A connection to the daemon. Raises `Unavailable`."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT_SECONDS)
    try:
        connection.connect(place.socket)
    except OSError as error:
        raise Unavailable(f"{place.socket}: {error.strerror}") from None
    return connection


def find_places(config: str) -> list[Place]:
    """Where to hand in a message, best first.

    A configuration file that is named (`config` or MASQMAIL_CONFIG) is the only place; raises `OSError` when
    it cannot be read. A user without a file of his own gets the system's daemon first, then his own places.
    """
    if not config and posix.getuid() == posix.geteuid():  # a setuid program's environment is not to be trusted
        config = _environment("MASQMAIL_CONFIG")
    system = ("/etc/masqmail/masqmail.toml", "/run/masqmail", "/var/spool/masqmail")
    own = system if posix.geteuid() == 0 else _own_places()
    if config:
        return [_place(config, own[1], own[2])]
    if own is system:
        return [_readable(system)]
    if posix.access(own[0], posix.R_OK):
        return [_readable(own)]
    return [_readable(system), Place(own[1], own[2])]


def scan_paths(text: str) -> dict[str, str]:
    """The strings in the table `[paths]` of a TOML text."""
    found: dict[str, str] = {}
    table = ""
    closing = ""  # the quotes that end a string of several lines
    for line in text.split("\n"):
        if closing:
            closing = "" if closing in line else closing
            continue
        line = line.strip()
        if line.startswith("["):
            table = line.partition("#")[0].strip(" \t[]").strip("\"'")
            continue
        key, equals, value = line.partition("=")
        value = value.strip()
        if value[:3] in ('"""', "'''") and value.count(value[:3]) == 1:
            closing = value[:3]
        elif equals and "paths" in (table or key):
            key = ".".join(part.strip().strip("\"'") for part in (f"{table}." * bool(table) + key).split("."))
            if key.startswith("paths."):
                found[key.removeprefix("paths.")] = _string(value)
    return found


def _own_places() -> tuple[str, str, str]:
    """Configuration, runtime and spool of a user who is not root."""
    home = _home()
    config = _folder("XDG_CONFIG_HOME") or _join(home, ".config")
    state = _folder("XDG_STATE_HOME") or _join(home, ".local/state")
    session = f"/run/user/{posix.getuid()}"
    runtime = _folder("XDG_RUNTIME_DIR") or (session if posix.access(session, posix.X_OK) else state)
    return (
        _join(config, "masqmail/masqmail.toml"),
        _join(runtime, "masqmail"),
        _join(state, "masqmail"),
    )


def _readable(defaults: tuple[str, str, str]) -> Place:
    """The place a default file names; a default file that cannot be read means the default place."""
    try:
        return _place(*defaults)
    except OSError:
        return Place(defaults[1], defaults[2])


def _place(config: str, runtime: str, spool: str) -> Place:
    with open(config, encoding="utf-8", errors="replace") as file:
        paths = scan_paths(file.read())
    folder = _join(posix.getcwd(), config).rpartition("/")[0]
    return Place(
        _join(folder, _at_home(paths.get("runtime") or runtime)),
        _join(folder, _at_home(paths.get("spool") or spool)),
    )


def _string(value: str) -> str:
    """The content of the TOML string that `value` begins with."""
    quote = value[:1]
    if quote == "'":
        return value[1:].partition("'")[0]
    if quote != '"':
        return ""
    content, index = "", 1
    while index < len(value) and value[index] != '"':
        character = value[index]
        if character == "\\":
            index += 1
            character = _ESCAPES.get(value[index : index + 1], "")
        content += character
        index += 1
    return content


def _join(folder: str, name: str) -> str:
    """Where `name` leads from a folder; an absolute one leads anywhere."""
    return name if name.startswith("/") else f"{folder}/{name}"


def _folder(variable: str) -> str:
    """The folder that a variable names; one that is not absolute counts as unset, as for the daemon."""
    path = _environment(variable)
    return path if path.startswith("/") else ""


def _home() -> str:
    """Our home: HOME, or where it names none what the list of accounts says."""
    if home := _folder("HOME"):
        return home
    import pwd

    try:
        return pwd.getpwuid(posix.geteuid()).pw_dir
    except KeyError:
        return "/"


def _at_home(path: str) -> str:
    """A path that may begin with `~`, our own home."""
    return _home() + path[1:] if path == "~" or path.startswith("~/") else path


def _environment(name: str) -> str:
    """A variable of the environment, which `posix` has as bytes; empty when it is not set."""
    return posix.environ.get(name.encode(), b"").decode(sys.getfilesystemencoding(), "surrogateescape")
