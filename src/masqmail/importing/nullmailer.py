"""The configuration of nullmailer: a folder of files with one value each, and `remotes`."""

import shlex
from pathlib import Path

from masqmail.importing.migration import Files, Migration, Option, Outcome, free_name, good_name
from masqmail.importing.report import Weight
from masqmail.importing.smarthosts import ALIASES_FILE, Server, put_address, put_server, say_what_is_new
from masqmail.importing.values import number
from masqmail.mail.address import Mailbox
from masqmail.settings import Domain

_REASONS = {
    "idhost": "the Message-ID is made with the name of the host",
    "pausetime": "[queue] retry says when a message is tried again",
    "maxpause": "[queue] retry says when a message is tried again",
    "sendtimeout": "how long to wait follows the standards, and the line",
    "doublebounceto": "a report that cannot be delivered goes to the postmaster",
    "bouncefrom": "reports come from the host itself",
}


def import_nullmailer(folder: str, files: Files) -> Outcome:
    """Turns a folder like /etc/nullmailer into our configuration. Raises `FileNotFoundError` without `remotes`."""
    text = files.read(f"{folder}/remotes")
    if text is None:
        raise FileNotFoundError(f"{folder}/remotes")
    migration = Migration(files)
    say_what_is_new(migration, "nullmailer", folder)
    _host(migration, folder)
    names: set[str] = {"local"}
    for number_, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            _remote(migration, line.strip(), f"{folder}/remotes:{number_}", names)
    routes = [migration.document.section("routes", name) for name in migration.document.names("routes")]
    if option := _single(migration, folder, "allmailfrom"):
        for section in routes:
            put_address(migration, section, option.value, option)
    if option := _single(migration, folder, "helohost"):
        for section in routes:
            migration.put(section, "helo", Domain, option.value, option)
    if option := _single(migration, folder, "adminaddr"):
        _administrator(migration, option)
    if option := _single(migration, folder, "queuelifetime"):
        seconds = number(option.value)
        if 0 < seconds < 300_000_000:
            migration.document.section("queue")["give_up_after"] = f"{seconds}s"
        else:
            migration.wrong(migration.document.section("queue"), option, "no number of seconds")
    for name, reason in _REASONS.items():
        if option := _single(migration, folder, name):
            migration.lose(migration.document.section("host"), option, reason)
    return migration.outcome()


def _single(migration: Migration, folder: str, name: str) -> Option | None:
    """The first line of a file, if it is there and says something."""
    text = (migration.files.read(f"{folder}/{name}") or "").strip()
    return Option(name, text.split("\n")[0].strip(), f"{folder}/{name}") if text else None


def _host(migration: Migration, folder: str) -> None:
    section = migration.document.section("host")
    me, default, domain = (_single(migration, folder, name) for name in ("me", "defaulthost", "defaultdomain"))
    if me:
        name = me.value if "." in me.value or not domain else f"{me.value}.{domain.value}"
        if migration.put(section, "name", Domain, name, me):
            migration.host_name = name
    if default:
        same = not me or default.value in (me.value, migration.host_name)
        why = "that is how it is here" if same else "addresses without a domain get the name of the host"
        if same and not me and migration.put(section, "name", Domain, default.value, default):
            migration.host_name = default.value
        migration.report.add(Weight.KNOWN if same else Weight.CHANGED, why, str(default), default.place)
        if not same:
            section.comment(f"{default}: {why}")
    if domain:
        migration.changed(
            domain, "it is only added to the name of this host, not to domains of addresses without a dot"
        )


def _remote(migration: Migration, line: str, place: str, names: set[str]) -> None:
    """`HOST PROTOCOL --option=value …`"""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    host, options = words[0], words[1:]
    source = Option("remote", host, place)
    name = good_name(free_name(good_name(host), names.__contains__))
    names.add(name)
    section = migration.document.section("routes", name)
    given: dict[str, str] = {}
    for word in options:
        key, _, value = word.lstrip("-").partition("=")
        given[key if word.startswith("-") else "protocol"] = value if word.startswith("-") else word
    if given.pop("protocol", "smtp") != "smtp":
        section.disabled = "only SMTP is spoken"
        migration.report.add(Weight.WRONG, "only SMTP is spoken", str(source), place)
    has_ssl, has_starttls = (given.pop(key, None) is not None for key in ("ssl", "starttls"))
    tls = "starttls" if has_starttls else "implicit" if has_ssl else ""
    port = number(given.pop("port", "")) or (465 if tls == "implicit" else 25)
    user, password = (Option(key, given.pop(key), place) if key in given else None for key in ("user", "pass"))
    put_server(migration, section, Server(host, port, source, tls, user, password))
    if given.pop("auth-login", None) is not None and "username" in section:
        section["auth"] = ["login"]
    if (authority := given.pop("x509cafile", None)) and section["tls"] != "none":
        migration.put(section, "tls_ca", Path, authority, source)
    if given.pop("insecure", None) is not None:
        migration.check(
            Option("insecure", "", place), "the certificate is checked now; for one of your own write tls_fingerprint"
        )
    for key, value in given.items():
        migration.lose(section, Option(key, value, place), "there is nothing like it")


def _administrator(migration: Migration, option: Option) -> None:
    """All mail for users of this host went there."""
    addresses = [address for item in option.value.split(",") if (address := item.strip())]
    good = [address for address in addresses if "@" in address and migration.qualified(address)]
    for address in addresses:
        if address not in good:
            migration.wrong(migration.document.section("local"), option, f'"{address}" is no address with a domain')
    if not good:
        return
    migration.more_files[ALIASES_FILE] = f"*: {', '.join(good)}\n"
    migration.document.section("local")["glob_aliases"] = [ALIASES_FILE]
    migration.put(migration.document.section("host"), "postmaster", Mailbox, good[0], option)
    migration.changed(option, "it gets all mail for users of this host, by a glob alias that you can narrow")
