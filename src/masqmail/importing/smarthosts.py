"""What the four small senders have in common: all of their mail goes to smarthosts, and nothing stays here."""

from masqmail.config.values import KINDS, BadValue
from masqmail.frozen import frozen
from masqmail.importing.document import Section
from masqmail.importing.migration import Migration, Option
from masqmail.importing.report import Weight
from masqmail.importing.secure import is_loopback
from masqmail.routing.route import AddressMap
from masqmail.settings import HostPort

#: The alias file that is made when the old program sent the mail of local users elsewhere.
ALIASES_FILE = "masqmail.aliases"


@frozen
class Server:
    """A smarthost. `tls` is a word of ours, or empty for a connection in clear; `source` is where it was named."""

    host: str
    port: int
    source: Option
    tls: str = ""
    user: Option | None = None
    password: Option | None = None


def put_server(migration: Migration, section: Section, server: Server) -> None:
    """Sets smarthost, TLS and login of a route; one without a usable host is left out."""
    address = f"[{server.host}]:{server.port}" if ":" in server.host else f"{server.host}:{server.port}"
    section["smarthost"] = [address]
    try:
        KINDS[HostPort].read(address)
    except BadValue:
        migration.wrong(section, server.source, f'"{address}" is no host with a port')
        section.disabled = "it does not say where to send"
    has_login = _put_login(migration, section, server)
    tls = server.tls
    if not tls and is_loopback(server.host):
        tls = "none"
    elif not tls or (tls == "opportunistic" and has_login):
        tls = "starttls" if has_login else "opportunistic"
        if has_login:
            text = (
                'the password is given only under STARTTLS with a good certificate; tls = "none" would be as before'
            )
            migration.check(server.source, text)
    section["tls"] = tls


def _put_login(migration: Migration, section: Section, server: Server) -> bool:
    user, password = server.user, server.password
    if user is None and password is None:
        return False
    if user and password and password.value and migration.put(section, "username", str, user.value, user):
        section["password_file"] = migration.secret(section.path[-1], password.value)
        return True
    for option in (user, password):
        if option:
            migration.lose(section, option, "a login needs both a name and a password")
    return False


def put_address(migration: Migration, section: Section, address: str, option: Option) -> None:
    """Local users are known outside by one address (`user@domain`), or in one domain (`*@domain`)."""
    value = address if "@" in address else f"*@{address}"
    try:
        KINDS[AddressMap].read({"*": value})
    except BadValue:
        migration.wrong(section, option, "no address")
        return
    migration.document.section(*section.path, "rewrite")["all"] = {"*": value}
    migration.changed(option, "sender and From of local users are rewritten when a message goes out, of others never")


def put_aliases(migration: Migration, entries: dict[str, str]) -> None:
    """Mail for local users that the old program sent elsewhere."""
    if entries:
        migration.more_files[ALIASES_FILE] = "".join(f"{name}: {target}\n" for name, target in entries.items())
        migration.document.section("local")["aliases"] = [ALIASES_FILE]


def say_what_is_new(migration: Migration, program: str, file: str) -> None:
    """What every user of a small sender should know."""
    migration.document.head(f"Imported from {file}, {program}")
    report = migration.report
    report.add(Weight.KNOWN, f"read as the configuration of {program}", place=file)
    report.add(
        Weight.KNOWN, "mail for users of this host stays here, in /var/mail, unless an alias sends it elsewhere"
    )
    report.add(Weight.KNOWN, "mail is queued and tried again, and certificates are checked")
