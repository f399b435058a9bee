"""The configuration of the DragonFly Mail Agent: dma.conf and the auth.conf it names."""

from pathlib import Path

from masqmail.importing.migration import Files, Migration, Option, Outcome
from masqmail.importing.report import Weight
from masqmail.importing.secure import IMPLICIT_PORTS
from masqmail.importing.smarthosts import Server, put_address, put_server, say_what_is_new
from masqmail.importing.values import number
from masqmail.settings import Domain, Fingerprint

_REASONS = {
    "SPOOLDIR": "the queue is a database of its own; what waits in the old one is not taken over",
    "CERTFILE": "there are no certificates of clients",
    "FULLBOUNCE": "reports hold what the sender asked for (RET)",
    "NULLCLIENT": "mail for this host stays here; write local_domains = [] in [host] to send all of it",
    "VERBOSE": 'write level = "debug" in [log] when you need it',
}


def import_dma(file: str, files: Files) -> Outcome:
    """Turns a dma.conf into our configuration. Raises `FileNotFoundError` when it cannot be read."""
    text = files.read(file)
    if text is None:
        raise FileNotFoundError(file)
    migration = Migration(files)
    say_what_is_new(migration, "dma", file)
    settings: dict[str, Option] = {}
    for number_, line in enumerate(text.splitlines(), 1):
        name, _, value = line.partition("#")[0].strip().partition(" ")
        if name:
            settings[name.upper()] = Option(name, value.strip(), f"{file}:{number_}")
    _host(migration, settings)
    _route(migration, settings)
    if aliases := settings.pop("ALIASES", None):
        migration.put_list(migration.document.section("local"), "aliases", Path, [aliases.value], aliases)
    if settings.pop("DEFER", None):
        migration.document.section("queue")["deliver"] = "on-flush"
    for key, option in settings.items():
        migration.lose(migration.document.section("host"), option, _REASONS.get(key, "there is nothing like it"))
    return migration.outcome()


def _host(migration: Migration, settings: dict[str, Option]) -> None:
    if name := settings.pop("MAILNAME", None):
        value = name.value
        section = migration.document.section("host")
        if value.startswith("/"):
            value = (migration.files.read(value) or "").partition("\n")[0].strip()
        if not value:
            migration.wrong(section, name, "the file cannot be read or has no name in it")
        elif migration.put(section, "name", Domain, value, name):
            migration.host_name = value


def _route(migration: Migration, settings: dict[str, Option]) -> None:
    host, port = settings.pop("SMARTHOST", None), settings.pop("PORT", None)
    auth = settings.pop("AUTHPATH", None) or Option("AUTHPATH", "/etc/dma/auth.conf", "")
    section = migration.document.section("routes", "smarthost" if host else "direct")
    flags = {name: settings.pop(name, None) for name in ("SECURETRANSFER", "STARTTLS", "OPPORTUNISTIC_TLS")}
    if host:
        number_ = number(port.value) if port else 25
        tls = "starttls" if flags["STARTTLS"] or number_ not in IMPLICIT_PORTS else "implicit"
        if not flags["SECURETRANSFER"]:
            tls = ""
        elif flags["OPPORTUNISTIC_TLS"] and tls == "starttls":
            tls = "opportunistic"
        user, password = _login(migration, auth, host.value)
        put_server(migration, section, Server(host.value, number_, host, tls, user, password))
    else:
        section["deliver"] = "direct"
        for option in (port, *flags.values()):
            if option:
                migration.lose(section, option, "direct delivery uses port 25, and TLS where it is offered")
    if settings.pop("INSECURE", None):
        migration.report.add(Weight.CHANGED, "a password never goes in clear", "INSECURE", "")
    if (fingerprint := settings.pop("FINGERPRINT", None)) and section.get("tls", "") != "none":
        migration.put(section, "tls_fingerprint", Fingerprint, fingerprint.value, fingerprint)
    elif fingerprint:
        migration.lose(section, fingerprint, "there is no TLS to this host itself")
    if masquerade := settings.pop("MASQUERADE", None):
        value = masquerade.value
        if value.endswith("@"):
            value += migration.host_name or "localhost"
        put_address(migration, section, value, masquerade)


def _login(migration: Migration, auth: Option, host: str) -> tuple[Option | None, Option | None]:
    """The login for a host in auth.conf: lines of `user|host:password`."""
    text = migration.files.read(auth.value)
    if text is None:
        if auth.place:
            migration.wrong(migration.document.section("routes"), auth, "the file cannot be read")
        return None, None
    found: tuple[Option | None, Option | None] = (None, None)
    for number_, line in enumerate(text.splitlines(), 1):
        user, bar, rest = line.strip().partition("|")
        name, colon, password = rest.partition(":")
        place = f"{auth.value}:{number_}"
        if not bar or not colon or line.startswith("#"):
            continue
        if name.lower() == host.lower():
            found = (Option("user", user, place), Option("password", password, place))
        else:
            migration.report.add(
                Weight.LOST, f"no smarthost is called {name}, so this login is not needed", place=place
            )
    return found
