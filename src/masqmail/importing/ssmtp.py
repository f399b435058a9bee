"""The configuration of ssmtp, and its `revaliases` beside it."""

import re
from pathlib import Path

from masqmail.importing.migration import Files, Migration, Option, Outcome, good_name
from masqmail.importing.report import Weight
from masqmail.importing.secure import split_host_port
from masqmail.importing.smarthosts import Server, put_address, put_aliases, put_server, say_what_is_new
from masqmail.settings import Domain

_LINE = re.compile(r"\s*([A-Za-z_]+)\s*=\s*(.*?)\s*")
_METHODS = {"login": "login", "cram-md5": "cram-md5", "plain": "plain"}
_REASONS = {
    "fromlineoverride": "everybody may write any From, and trusted_users of [submission] any sender",
    "debug": 'write level = "debug" in [log] when you need it',
    "tlscert": "there are no certificates of clients",
    "tlskey": "there are no certificates of clients",
    "usetlscert": "there are no certificates of clients",
    "tls_ca_dir": "write one file as tls_ca; without it the system's store is used",
}


def import_ssmtp(file: str, files: Files) -> Outcome:
    """Turns an ssmtp.conf into our configuration. Raises `FileNotFoundError` when it cannot be read."""
    text = files.read(file)
    if text is None:
        raise FileNotFoundError(file)
    migration = Migration(files)
    say_what_is_new(migration, "ssmtp", file)
    settings: dict[str, Option] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if match := _LINE.fullmatch(line.partition("#")[0]):
            settings[match[1].lower()] = Option(match[1], match[2], f"{file}:{number}")
    if name := settings.pop("hostname", None):
        migration.put(migration.document.section("host"), "name", Domain, name.value, name)
        migration.host_name = name.value
    _route(migration, settings)
    _root(migration, settings.pop("root", None))
    _reverse_aliases(migration, file.rpartition("/")[0] + "/revaliases")
    for key, option in settings.items():
        migration.lose(
            migration.document.section("routes", "mailhub"), option, _REASONS.get(key, "ssmtp did not know it")
        )
    return migration.outcome()


def _route(migration: Migration, settings: dict[str, Option]) -> None:
    section = migration.document.section("routes", "mailhub")
    hub = settings.pop("mailhub", None) or Option("mailhub", "mail", "")
    host, port = split_host_port(hub.value, 25)
    use_tls, use_starttls = (_is_yes(settings.pop(key, None)) for key in ("usetls", "usestarttls"))
    tls = "starttls" if use_starttls else "implicit" if use_tls else ""
    if not hub.place:
        migration.report.add(Weight.CHECK, 'there is no mailhub; ssmtp took the host "mail"')
    server = Server(host, port, hub, tls, settings.pop("authuser", None), settings.pop("authpass", None))
    put_server(migration, section, server)
    if method := settings.pop("authmethod", None):
        if method.value.lower() in _METHODS and "username" in section:
            section["auth"] = [_METHODS[method.value.lower()]]
        else:
            migration.lose(section, method, "the best way that is offered is taken")
    if (authority := settings.pop("tls_ca_file", None)) and section["tls"] != "none":
        migration.put(section, "tls_ca", Path, authority.value, authority)
    elif authority:
        migration.lose(section, authority, "there is no TLS to this host itself")
    if domain := settings.pop("rewritedomain", None):
        put_address(migration, section, domain.value, domain)


def _root(migration: Migration, root: Option | None) -> None:
    """Who gets the mail of root and of the accounts of the system."""
    if root and (address := migration.qualified(root.value)) and "@" in root.value:
        put_aliases(migration, {"root": address, "postmaster": address})
        migration.changed(root, "it got the mail of every account below 1000; now that of root and postmaster")
    elif root:
        migration.lose(migration.document.section("local"), root, "no address with a domain, so mail stays here")


def _reverse_aliases(migration: Migration, file: str) -> None:
    """`user:address:mailhub`: under which address a user is known outside, and which host takes the mail."""
    section = migration.document.section("routes", "mailhub")
    rewrite = migration.document.section("routes", "mailhub", "rewrite")
    found: dict[str, str] = {}
    for number, line in enumerate((migration.files.read(file) or "").splitlines(), 1):
        user, _, rest = line.partition("#")[0].strip().partition(":")
        address, _, hub = rest.partition(":")
        option = Option(user, rest, f"{file}:{number}")
        if not user:
            continue
        if "@" in user or good_name(user) != user or "@" not in address or not migration.qualified(address):
            migration.wrong(rewrite, option, "no line of `user:address`")
            continue
        found[user] = address.strip()
        if hub:
            migration.lose(
                section, Option(f"{user}:{address}", hub, option.place), "all mail goes to the same mailhub"
            )
    if found:
        more = rewrite.get("all", {})
        assert isinstance(more, dict)
        rewrite["all"] = {**found, **more}


def _is_yes(option: Option | None) -> bool:
    return bool(option and option.value.lower() in ("yes", "on", "true", "1"))
