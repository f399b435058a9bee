"""What `masqmail check` finds beyond the file itself: files it names that are missing, and unwise settings."""

import os
import stat
from pathlib import Path

from masqmail.config.checkfetch import advise_on_fetch, is_loopback
from masqmail.config.checkodmr import advise_on_odmr
from masqmail.config.checkprograms import advise_on_programs
from masqmail.config.faults import Fault, Faults, key_text, quote
from masqmail.config.fetch import FetchSection
from masqmail.config.letters import a_labels
from masqmail.config.lines import KeyPath
from masqmail.config.model import Configuration, Smtp
from masqmail.config.routes import IMPLICIT_TLS_PORT, SMTP_PORT, SUBMISSION_PORT, RouteSection, Tls
from masqmail.config.surroundings import Surroundings
from masqmail.config.templates import read_template
from masqmail.frozen import frozen
from masqmail.mail.template import TemplateError
from masqmail.net.errors import TlsFailure
from masqmail.net.tls import client_context, server_context
from masqmail.proto.sasl import is_password_hash
from masqmail.system.userfile import read_users


@frozen
class Findings:
    """What was found. With `faults` the daemon cannot work; `advice` is only worth knowing."""

    faults: tuple[Fault, ...]
    advice: tuple[Fault, ...]


def examine(configuration: Configuration, surroundings: Surroundings) -> Findings:
    """Looks at a configuration that `load` has accepted, and at the files it names. Never raises."""
    source = _source(configuration.path)
    file = str(configuration.path or surroundings.default_file)
    faults, advice = Faults(file, source), Faults(file, source)
    _advise_on_host(configuration, advice, surroundings)
    _examine_smtp(configuration.smtp, faults, advice)
    _advise_on_queue(configuration, advice)
    for route in configuration.routes.values():
        _advise_on_tls(route, advice)
        _examine_files(("routes", route.name), route, faults, advice)
    for account in configuration.fetch.values():
        _examine_files(("fetch", account.name), account, faults, advice)
    advise_on_odmr(configuration, advice)
    advise_on_fetch(configuration, advice)
    advise_on_programs(configuration, advice)
    _examine_templates(configuration, faults)
    return Findings(tuple(faults.listing()), tuple(advice.listing()))


def _source(path: Path | None) -> str:
    """The file's text once more, for the line numbers; without it they are those of the file as a whole."""
    try:
        return path.read_text(encoding="utf-8-sig") if path else ""
    except (OSError, ValueError):
        return ""


def _advise_on_host(configuration: Configuration, advice: Faults, surroundings: Surroundings) -> None:
    host = configuration.host
    if "." not in host.name and any(not route.helo for route in configuration.routes.values()):
        wrong = f"{quote(host.name)} is no full host name, and many servers refuse to be greeted with it"
        advice.add(("host", "name"), wrong, f'write name = "{host.name}.example.org" with your own domain')
    for domain in host.local_domains:
        if (other := a_labels(domain)) not in host.local_domains:
            wrong = f"most servers write {quote(other)} for {quote(domain)}"
            advice.add(("host", "local_domains"), wrong, "write both")
    if not surroundings.is_root:
        return
    if host.user == "root":
        advice.add(("host", "user"), "the daemon stays root", "make an account for it: useradd --system masqmail")
    for key, account in ((("host", "user"), host.user), (("local", "alias_user"), configuration.local.alias_user)):
        if not _account_exists(account):
            advice.add(key, f"there is no account {quote(account)}", f"make one: useradd --system {account}")


def _account_exists(name: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _advise_on_queue(configuration: Configuration, advice: Faults) -> None:
    queue = configuration.queue
    if queue.warn_after and queue.warn_after[-1] >= queue.give_up_after:
        wrong = "the last warning would come when the message is already given up"
        advice.add(("queue", "warn_after"), wrong, "write less than give_up_after")


def _examine_smtp(smtp: Smtp, faults: Faults, advice: Faults) -> None:
    for network in smtp.relay_networks:
        if network.prefixlen == 0:
            wrong = f"{network} makes this an open relay: anybody may send anywhere"
            advice.add(("smtp", "relay_networks"), wrong, "write only your own networks")
    for key, path in (("certificate", smtp.certificate), ("private_key", smtp.private_key)):
        if path:
            _must_exist(path, ("smtp", key), faults)
    if smtp.certificate and smtp.private_key and _can_read(smtp.certificate) and _can_read(smtp.private_key):
        try:
            server_context(smtp.certificate, smtp.private_key)
        except TlsFailure as error:
            instead = "write a certificate and the key that belongs to it, both PEM and without a passphrase"
            faults.add(("smtp", "certificate"), error.reason, instead)
    if smtp.private_key:
        _must_be_private(smtp.private_key, ("smtp", "private_key"), advice)
    if smtp.users:
        _advise_on_users(smtp.users, smtp.require_login, advice)


def _advise_on_users(path: Path, require_login: bool, advice: Faults) -> None:
    """Logins that cannot succeed; what stands there in place of a hash may be a password, and is not repeated."""
    try:
        users = read_users(path)
    except FileNotFoundError:
        users = {}
    except OSError:
        return  # this account may not look
    if require_login and not users:
        wrong = f"smtp.require_login is true, and nobody is in {quote(str(path))}"
        advice.add(("smtp", "require_login"), wrong, "write: masqmail passwd USER")
    for name, password_hash in users.items():
        if not is_password_hash(password_hash):
            wrong = f"{quote(name)} in {quote(str(path))} cannot log in: what stands there is no hash of ours"
            advice.add(("smtp", "users"), wrong, f"write: masqmail passwd {name}")


def _advise_on_tls(route: RouteSection, advice: Faults) -> None:
    path = ("routes", route.name)
    here = key_text(path)
    remote = [hop for hop in route.smarthost if not is_loopback(hop.host)]
    if route.username and route.tls is Tls.NONE and remote and not route.wrapper:  # that may well be an ssh
        wrong = f"{here} sends its password in clear to {remote[0]}"
        advice.add((*path, "tls"), wrong, 'write tls = "starttls" or "implicit"')
    if route.username and route.tls is Tls.OPPORTUNISTIC:
        wrong = f"{here} does not check to whom it gives its password"
        advice.add((*path, "tls"), wrong, 'write tls = "starttls" or "implicit"')
    for hop in route.smarthost:
        if hop.port == IMPLICIT_TLS_PORT and route.tls not in (None, Tls.IMPLICIT):
            advice.add((*path, "tls"), f"port 465 of {hop.host} begins with TLS", 'write tls = "implicit"')
        if hop.port in (SMTP_PORT, SUBMISSION_PORT) and route.tls is Tls.IMPLICIT:
            wrong = f"port {hop.port} of {hop.host} does not begin with TLS"
            advice.add((*path, "tls"), wrong, 'write tls = "starttls", or port 465')
    if route.tls_ca and route.tls_fingerprint:
        wrong = f"{here}.tls_ca has no effect beside tls_fingerprint"
        advice.add((*path, "tls_ca"), wrong, "take one of them out")
    if route.send_first and not route.wrapper:
        wrong = f"{here} speaks before it is greeted, which servers take for spam"
        advice.add((*path, "send_first"), wrong, "take it out; it is for a wrapper that swallows the greeting")


def _examine_files(path: KeyPath, section: RouteSection | FetchSection, faults: Faults, advice: Faults) -> None:
    """The files that a route or fetch account names."""
    if section.tls_ca:
        _must_exist(section.tls_ca, (*path, "tls_ca"), faults)
        _advise_on_authorities(section.tls_ca, (*path, "tls_ca"), advice)
    if section.password_file:
        _advise_on_password(section.password_file, (*path, "password_file"), advice)


def _advise_on_authorities(path: Path, key: KeyPath, advice: Faults) -> None:
    """A file without certificates is no fault: what needs it pauses, and everything else works."""
    if _can_read(path):
        try:
            client_context(ca_file=path)
        except TlsFailure as error:
            advice.add(key, error.reason, "write a PEM file with the certificates of the authorities to trust")


def _advise_on_password(path: Path, key: KeyPath, advice: Faults) -> None:
    name = quote(str(path))
    try:
        is_empty = path.stat().st_size == 0 and path.is_file()
    except (FileNotFoundError, NotADirectoryError):
        advice.add(key, f"there is no file {name}", "make it, with the password in its first line")
        return
    except OSError:
        is_empty = False  # what this account may not look at
    if is_empty:
        advice.add(key, f"{name} is empty", "write the password into its first line")
    elif not _can_read(path):
        advice.add(key, f"{name} cannot be read by this account", "give it to the account of the daemon")
    _must_be_private(path, key, advice)


def _examine_templates(configuration: Configuration, faults: Faults) -> None:
    notices = configuration.notices
    for key, source in (
        ("bounce_template", notices.bounce_template),
        ("warning_template", notices.warning_template),
    ):
        if source is None or source.path is None:
            continue  # a text in the file itself was checked when that was read
        place, name = ("notices", key), quote(str(source.path))
        try:
            read_template(source)
        except TemplateError as error:
            faults.add(place, f"{name}: {error}, which stands for nothing", f"write {error.instead}")
        except FileNotFoundError:
            faults.add(place, f"there is no file {name}", "make it, or name another one")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            wrong = f"{name} cannot be read: {reason}"
            faults.add(place, wrong, "make it a text file in UTF-8 that everybody may read")


def _can_read(path: Path) -> bool:
    return os.access(path, os.R_OK)


def _must_exist(path: Path, key: KeyPath, faults: Faults) -> None:
    """A fault for what is surely missing; what this account may not look at is none."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        faults.add(key, f"there is no file {quote(str(path))}", "make it, or name another one")
    except OSError:
        return


def _must_be_private(path: Path, key: KeyPath, advice: Faults) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & stat.S_IRWXO:
        advice.add(key, f"everybody may read {quote(str(path))}", f"change that: chmod 0600 {path}")
