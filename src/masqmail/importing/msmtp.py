"""The configuration of msmtp: accounts, chosen by their `from` address, with a default one."""

import re
import shlex
from pathlib import Path

from masqmail.importing.document import Section
from masqmail.importing.migration import Files, Migration, Option, Outcome, good_name
from masqmail.importing.report import Weight
from masqmail.importing.smarthosts import Server, put_address, put_server, say_what_is_new
from masqmail.importing.values import number
from masqmail.settings import Command, Domain, Fingerprint, Pattern

_DEFAULTS = ""  # what stands before the first account
_SYSTEM_STORES = ("system", "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_METHODS = {"plain": "plain", "login": "login", "cram-md5": "cram-md5", "scram-sha-256": "scram-sha-256"}
_SHELL = re.compile(r"[|&;<>()`$*?~]")
_REASONS = {
    "logfile": "the log goes to the standard error output, which systemd puts into its journal",
    "syslog": "the log goes to the standard error output, which systemd puts into its journal",
    "timeout": "how long to wait follows the standards, and the line",
    "protocol": "routes speak SMTP",
    "tls_cert_file": "there are no certificates of clients",
    "tls_key_file": "there are no certificates of clients",
}

Settings = dict[str, Option]


def import_msmtp(file: str, files: Files) -> Outcome:
    """Turns an msmtprc into our configuration. Raises `FileNotFoundError` when it cannot be read."""
    text = files.read(file)
    if text is None:
        raise FileNotFoundError(file)
    migration = Migration(files)
    say_what_is_new(migration, "msmtp", file)
    accounts, default = _accounts(migration, file, text)
    for name, settings in accounts.items():
        if name != default:
            _account(migration, name, dict(settings), is_default=False)
    if default in accounts:
        _account(migration, default, dict(accounts[default]), is_default=True)
    return migration.outcome()


def _accounts(migration: Migration, file: str, text: str) -> tuple[dict[str, Settings], str]:
    """All accounts with what they take from others, and the name of the default one."""
    found: dict[str, Settings] = {_DEFAULTS: {}}
    current, default = _DEFAULTS, ""
    for number_, line in enumerate(text.splitlines(), 1):
        name, _, value = line.strip().partition(" ")
        name, value = name.lower(), value.strip()
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        option = Option(name, value, f"{file}:{number_}")
        if not name or name.startswith("#"):
            continue
        if name == "defaults":
            current = _DEFAULTS
        elif name == "account":
            current, _, parents = (part.strip() for part in value.partition(":"))
            names = [parent.strip() for parent in parents.split(",") if parent.strip()]
            if current == "default" and len(names) == 1:
                default = names[0]
                continue
            default = current if current == "default" else default
            found[current] = dict(found[_DEFAULTS])
            for parent in names:
                found[current] |= found.get(parent, {})
        else:
            if current == "default" and default not in ("", "default"):
                migration.check(option, f'it stands below "account default : {default}", and counts for {default}')
                found.get(default, {})[name] = option
            else:
                found[current][name] = option
    defaults = found.pop(_DEFAULTS)
    if not found and "host" in defaults:
        found, default = {"default": defaults}, "default"
    return found, default


def _account(migration: Migration, name: str, settings: Settings, *, is_default: bool) -> None:
    section = migration.document.section("routes", good_name(name))
    host = settings.pop("host", None)
    if host is None:
        section.disabled = "it names no host"
        migration.report.add(Weight.WRONG, f"the account {name} names no host")
    else:
        _server(migration, section, host, settings)
    if command := settings.pop("passwordeval", None):
        _password_command(migration, section, command)
    sender = settings.pop("from", None)
    if sender and is_default:
        put_address(migration, section, sender.value.removeprefix("*@"), sender)
    elif sender:
        migration.put_list(section, "senders", Pattern, [sender.value], sender)
    if not is_default and "senders" not in section:
        section.disabled = section.disabled or "it was only taken when a command asked for it with -a"
    if domain := settings.pop("domain", None):
        migration.put(section, "helo", Domain, domain.value, domain)
    if aliases := settings.pop("aliases", None):
        migration.put_list(migration.document.section("local"), "aliases", Path, [aliases.value], aliases)
        migration.check(aliases, "the file is used as it is; an entry `default:` means nothing here")
    for option in settings.values():
        migration.lose(section, option, _REASONS.get(option.name, "there is nothing like it"))


def _server(migration: Migration, section: Section, host: Option, settings: Settings) -> None:
    has_tls = _is_on(settings.pop("tls", None))
    starttls = _is_on(settings.pop("tls_starttls", None), default=True)
    port = settings.pop("port", None)
    default_port = 465 if has_tls and not starttls else 25
    auth, user = settings.pop("auth", None), settings.pop("user", None)
    method = auth.value.lower() if auth else "off"
    password = settings.pop("password", None)
    command = settings.get("passwordeval")
    tls = ("starttls" if starttls else "implicit") if has_tls else ""
    is_login = method != "off" and user is not None
    for option in (auth, user, password, None if password else command):
        if option and not is_login and option.value != "off":
            migration.lose(section, option, "a login needs both auth and user")
    if not is_login:
        settings.pop("passwordeval", None)
    source = Option(host.name, host.value, host.place)
    given = user if is_login and not command else None
    put_server(
        migration,
        section,
        Server(
            host.value, number(port.value) if port else default_port, source, tls, given, password if given else None
        ),
    )
    if command and is_login and user and migration.put(section, "username", str, user.value, user):
        section["tls"] = section["tls"] if tls else "starttls"
    if is_login and auth and method in _METHODS:
        section["auth"] = [_METHODS[method]]
    elif is_login and auth and method != "on":
        migration.lose(section, auth, "the best way that is offered is taken")
    _trust(migration, section, settings)


def _password_command(migration: Migration, section: Section, option: Option) -> None:
    if "username" not in section:
        return
    try:
        words = ["/bin/sh", "-c", option.value] if _SHELL.search(option.value) else shlex.split(option.value)
    except ValueError:
        words = ["/bin/sh", "-c", option.value]
    if not migration.put(section, "password_command", Command, words, option):
        section.remove("username")
        return
    migration.check(option, "it runs as the account of the daemon, not as you, and has ten seconds")


def _trust(migration: Migration, section: Section, settings: Settings) -> None:
    if (store := settings.pop("tls_trust_file", None)) and store.value not in _SYSTEM_STORES:
        migration.put(section, "tls_ca", Path, store.value, store)
    elif store:
        migration.report.add(Weight.KNOWN, "that is how it is here", str(store), store.place)
    if fingerprint := settings.pop("tls_fingerprint", None):
        migration.put(section, "tls_fingerprint", Fingerprint, fingerprint.value, fingerprint)
    check = settings.pop("tls_certcheck", None)
    if check and not _is_on(check, default=True):
        migration.check(
            check, "the certificate was not checked and is now; for one of your own write tls_fingerprint"
        )
    if section["tls"] == "none":
        for key in ("tls_ca", "tls_fingerprint"):
            section.remove(key)


def _is_on(option: Option | None, *, default: bool = False) -> bool:
    return option.value.lower() in ("", "on") if option else default
