"""The configuration as frozen values: one dataclass per section, its settings documented at the field.

Defaults that depend on the system or on other settings are filled in by `masqmail.config.load`; whatever comes
from there is complete. Routes are in `masqmail.config.routes`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, NewType, TypeAlias, assert_never

from masqmail.config.fetch import FetchSection
from masqmail.config.routes import RouteSection, policy_of
from masqmail.frozen import frozen
from masqmail.links import DETECTORS
from masqmail.mail.address import Mailbox
from masqmail.mail.wording import Language
from masqmail.routing.link import ALWAYS, INTERNET
from masqmail.routing.route import Route
from masqmail.settings import (
    Bytes,
    Command,
    Domain,
    DomainPattern,
    HostPort,
    LmtpAddress,
    Pattern,
    TemplateSource,
    UserPath,
    setting,
)

#: Addresses with a common prefix.
Network: TypeAlias = IPv4Network | IPv6Network

#: What separates a user from a detail in a local part; empty for nothing.
Delimiter = NewType("Delimiter", str)


@frozen(kw_only=True)
class Host:
    """Who this host is."""

    name: Domain = setting(
        "The host's full name: for HELO and Received, and as the domain of bare local parts.",
        default=Domain("localhost"),
        otherwise="the system's host name",
        example='"gateway.home.example"',
    )
    local_domains: tuple[DomainPattern, ...] = setting(
        "Domains whose mailboxes are on this host; globs with `*` and `?`.",
        default=(DomainPattern("localhost"),),
        otherwise="localhost, the short name and the name",
        example='["localhost", "gateway", "home.example"]',
    )
    local_addresses: tuple[Mailbox, ...] = setting(
        "Addresses that are local although their domain is not.", default=(), example='["bob@isp.example"]'
    )
    not_local_addresses: tuple[Mailbox, ...] = setting(
        "Addresses that are remote although their domain is local.", default=(), example='["eric@home.example"]'
    )
    postmaster: Mailbox = setting(
        "Where mail to postmaster and notices about the system itself go.",
        default=Mailbox("root"),
        otherwise="root, or yourself when not started as root",
        example='"oliver"',
    )
    user: str = setting(
        "The account a daemon started as root becomes.",
        default="masqmail",
        otherwise="masqmail, or root where there is no such account (containers); yourself when not started as root",
        example='"masqmail"',
    )
    group: str = setting(
        "The group a daemon started as root becomes.",
        default="masqmail",
        otherwise="masqmail, or root where there is no such account; your own when not started as root",
        example='"masqmail"',
    )


@frozen(kw_only=True)
class Paths:
    """Where the daemon keeps its files."""

    spool: Path = setting(
        "The folder of the queue.",
        default=Path("/var/spool/masqmail"),
        otherwise="/var/spool/masqmail, or $XDG_STATE_HOME/masqmail when not started as root",
        example='"/var/spool/masqmail"',
    )
    runtime: Path = setting(
        "The folder of the sockets.",
        default=Path("/run/masqmail"),
        otherwise="/run/masqmail, or $XDG_RUNTIME_DIR/masqmail when not started as root; where that is not set"
        " /run/user/UID/masqmail, or else the default folder of the queue",
        example='"/run/masqmail"',
    )

    @property
    def submit_socket(self) -> Path:
        return self.runtime / "submit.sock"

    @property
    def control_socket(self) -> Path:
        return self.runtime / "control.sock"

    @property
    def handover_socket(self) -> Path:
        """Where `sendmail -bs` leaves the connections that inetd accepted."""
        return self.runtime / "inetd.sock"

    @property
    def pickup(self) -> Path:
        return self.spool / "pickup"


@frozen(kw_only=True)
class Submission:
    """What local programs hand to `sendmail`."""

    trusted_users: tuple[str, ...] = setting(
        "Accounts that may set another envelope sender with -f. Everyone may set the null sender.",
        default=("root",),
        otherwise="root, and yourself when not started as root",
        example='["root", "www-data"]',
    )
    archive_to: Mailbox | None = setting(
        "Gets a blind copy of every accepted message.",
        default=None,
        otherwise="off",
        example='"archive@home.example"',
    )


class Store(Enum):
    """Where the queue is stored."""

    SQLITE = "sqlite"


class Sending(Enum):
    """When the daemon sends."""

    AT_ONCE = "at-once"
    ON_FLUSH = "on-flush"


@frozen(kw_only=True)
class Queue:
    """How long mail waits. Lifetime and warnings count only time in which the route could be used."""

    store: Store = setting("The kind of database.", default=Store.SQLITE)
    retry: tuple[timedelta, ...] = setting(
        "The wait after the first, second, … attempt; the last one repeats.",
        default=tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 30, 60)),
    )
    warn_after: tuple[timedelta, ...] = setting(
        "When the sender is told that a message still waits.", default=(timedelta(hours=4), timedelta(days=1))
    )
    give_up_after: timedelta = setting(
        "When a message that cannot be delivered goes back to its sender.", default=timedelta(days=5)
    )
    deliver: Sending = setting(
        "Whether to send as soon as possible, or only when told by `masqmail flush`.", default=Sending.AT_ONCE
    )


@frozen(kw_only=True)
class Smtp:
    """The SMTP server for the local network."""

    listen: tuple[HostPort, ...] = setting(
        "Addresses to accept connections on, also those that come later with their interface; `[::1]` is left out"
        " where IPv6 is switched off.",
        default=(HostPort("127.0.0.1", 25), HostPort("::1", 25)),
        otherwise="loopback, port 25, or 2525 when not started as root",
        example='["127.0.0.1:25", "[::1]:25", "192.168.1.1:25"]',
    )
    tls_listen: tuple[HostPort, ...] = setting(
        "Addresses where TLS begins at once.", default=(), example='["192.168.1.1:465"]'
    )
    certificate: Path | None = setting(
        "The server's certificate with its chain, PEM. TLS is offered when there is one.",
        default=None,
        example='"/etc/masqmail/cert.pem"',
    )
    private_key: Path | None = setting(
        "The key of the certificate, PEM.", default=None, example='"/etc/masqmail/key.pem"'
    )
    relay_networks: tuple[Network, ...] = setting(
        "Who may send anywhere without logging in.",
        default=(IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")),
        example='["127.0.0.0/8", "::1/128", "192.168.1.0/24"]',
    )
    accept_senders: tuple[Pattern, ...] = setting("Envelope senders that may relay.", default=(Pattern("*"),))
    users: Path | None = setting(
        "The logins: lines of name:hash, made by `masqmail passwd`.",
        default=None,
        otherwise="the file `users` beside the configuration file",
        example='"/etc/masqmail/users"',
    )
    require_login: bool = setting("Accept mail only from who has logged in.", default=False)
    max_message_size: Bytes = setting("Bigger messages are refused.", default=Bytes(50_000_000))
    max_recipients: int = setting("More recipients of one transaction are put off.", default=1000)
    max_hops: int = setting("A message with more Received fields is in a loop.", default=50)
    max_connections: int = setting(
        "More connections at a time to one address we listen at are turned away.", default=200
    )
    ident_networks: tuple[Network, ...] = setting(
        "Clients whose host is asked for their user (RFC 1413), for Received and `${ident}`; it proves nothing.",
        default=(),
        example='["192.168.1.0/24"]',
    )


@frozen
class Link:
    """One [links.NAME]: which of the `links.DETECTORS` watches it, and that detector's own options."""

    name: str
    detect: str
    options: Any


#: The settings of a link, by the word in `detect`.
DETECTOR_OPTIONS: dict[str, type[Any]] = {word: kind.options_type for word, kind in DETECTORS.items()}

#: The links that exist without being configured.
BUILT_IN_LINKS: dict[str, Link] = {
    name: Link(name, name, DETECTORS[name].options_type()) for name in (INTERNET, ALWAYS)
}


class Mailstore(Enum):
    """How a local user gets his mail."""

    MBOX = "mbox"
    MAILDIR = "maildir"
    MDA = "mda"
    LMTP = "lmtp"


@frozen(kw_only=True)
class LocalUser:
    """What differs for one local user; what is left out is as in [local]."""

    delivery: Mailstore | None = setting(
        "How this user gets mail.", default=None, otherwise="as in [local]", example='"maildir"'
    )
    mbox: UserPath | None = setting(
        "This user's mbox file.", default=None, otherwise="as in [local]", example='"~/mbox"'
    )
    maildir: UserPath | None = setting(
        "This user's Maildir.", default=None, otherwise="as in [local]", example='"~/Mail"'
    )
    mda: Command | None = setting(
        "The program that takes this user's mail.",
        default=None,
        otherwise="as in [local]",
        example='["/usr/bin/maildrop"]',
    )
    lmtp: LmtpAddress | None = setting(
        "The LMTP server that takes this user's mail.",
        default=None,
        otherwise="as in [local]",
        example='"/run/${user}/lmtp"',
    )


@frozen(kw_only=True)
class Local:
    """Delivery on this host. In paths `~` is the recipient's home, and `${user}` and the like are filled in."""

    delivery: Mailstore = setting(
        "How users get their mail: in a file, in a folder, through a program or from an LMTP server.",
        default=Mailstore.MBOX,
    )
    mbox: UserPath = setting("The mbox file of a user.", default=UserPath("/var/mail/${user}"))
    maildir: UserPath = setting("The Maildir of a user.", default=UserPath("~/Maildir"))
    mda: Command | None = setting(
        "The program that takes a user's mail, run as that user.",
        default=None,
        otherwise="none",
        example='["/usr/bin/procmail", "-Y", "-d", "${recipient_local}"]',
    )
    lmtp: LmtpAddress | None = setting(
        "The LMTP server that takes the mail: the path of its Unix socket, or host:port.",
        default=None,
        otherwise="none",
        example='"/run/dovecot/lmtp"',
    )
    aliases: tuple[Path, ...] = setting(
        "Alias files, looked up in order.",
        default=(Path("/etc/aliases"),),
        otherwise="/etc/aliases, or none when not started as root",
        example='["/etc/aliases"]',
    )
    glob_aliases: tuple[Path, ...] = setting(
        "Files of `glob: targets` for whole addresses; the first that fits counts, before the alias files.",
        default=(),
        example='["/etc/masqmail/globs"]',
    )
    match_case: bool = setting("Whether case matters in local parts of aliases and local addresses.", default=False)
    recipient_delimiter: Delimiter = setting(
        "`user+detail` is `user`; an empty text turns this off.", default=Delimiter("+")
    )
    forward_files: bool = setting("Whether users may send their mail elsewhere with ~/.forward.", default=True)
    alias_user: str = setting(
        "The account that runs the pipes of alias files and routes and writes the files of alias files; never root.",
        default="masqmail",
        otherwise="`user` of [host]",
        example='"masqmail"',
    )
    save_envelope_to: bool = setting("Rename Envelope-To to X-Orig-Envelope-To.", default=False)
    users: Mapping[str, LocalUser] = field(default_factory=dict)

    def mailbox_of(self, user: str) -> tuple[Mailstore, UserPath | Command | LmtpAddress]:
        """How a user gets mail, and the path, program or server for it, still to be filled in."""
        own = self.users.get(user, LocalUser())
        store = own.delivery or self.delivery
        match store:
            case Mailstore.MBOX:
                return store, own.mbox or self.mbox
            case Mailstore.MAILDIR:
                return store, own.maildir or self.maildir
            case Mailstore.MDA:
                return store, own.mda or self.mda or Command(())
            case Mailstore.LMTP:
                return store, own.lmtp or self.lmtp or LmtpAddress("")
            case _:
                assert_never(store)


class LogLevel(Enum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(Enum):
    """For whom the log is written."""

    TEXT = "text"
    JSON = "json"
    JOURNAL = "journal"


@frozen(kw_only=True)
class Notices:
    """What people read when mail could not be delivered; docs/explanation/reports.md lists the variables of a text.

    A value is the path of a file (one word, or beginning with `/`, `~/` or `./`), which is read when the daemon
    starts or reloads; or it is the text itself. The parts for programs are always those of RFC 3464.
    """

    bounce_template: TemplateSource | None = setting(
        "The text of a report that mail could not be delivered.",
        default=None,
        otherwise="a text in the language",
        example='"/etc/masqmail/bounce.txt"',
    )
    warning_template: TemplateSource | None = setting(
        "The text of a warning that mail still waits.",
        default=None,
        otherwise="a text in the language",
        example='''"""
Dear ${sender_local}, this waits since ${received_at}:
${failed_recipients}
"""''',
    )
    language: Language = setting(
        "The language of reports, warnings and notices to the postmaster.", default=Language.ENGLISH
    )


@frozen(kw_only=True)
class Log:
    """What is written down."""

    keep: timedelta = setting("How long the history of finished messages is kept.", default=timedelta(days=30))
    level: LogLevel = setting("`debug` shows every protocol line, never a secret.", default=LogLevel.INFO)
    format: LogFormat = setting("Lines for people, JSON, or fields for the journal.", default=LogFormat.TEXT)


@frozen(kw_only=True)
class Configuration:
    """Everything at once. `path` is the file it was read from, or None when these are the defaults alone.

    `links` include those that need no configuration; `routes` are in the order of the file, and `policies` are
    the same routes as `masqmail.routing` sees them. `generation` changes when route classes have to be computed anew.
    """

    path: Path | None = None
    host: Host = field(default_factory=Host)
    paths: Paths = field(default_factory=Paths)
    submission: Submission = field(default_factory=Submission)
    queue: Queue = field(default_factory=Queue)
    smtp: Smtp = field(default_factory=Smtp)
    links: Mapping[str, Link] = field(default_factory=lambda: dict(BUILT_IN_LINKS))
    routes: Mapping[str, RouteSection] = field(default_factory=dict)
    local: Local = field(default_factory=Local)
    fetch: Mapping[str, FetchSection] = field(default_factory=dict)
    notices: Notices = field(default_factory=Notices)
    log: Log = field(default_factory=Log)

    policies: tuple[Route, ...] = field(init=False, compare=False)
    generation: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", tuple(map(policy_of, self.routes.values())))
        object.__setattr__(self, "generation", _generation(self))


def _generation(configuration: Configuration) -> str:
    """A short hash of what route classes are computed from: equal settings give equal text in every process."""
    host, local = configuration.host, configuration.local
    facts = (
        [(route.name, route.conditions) for route in configuration.policies],
        sorted(domain.lower() for domain in host.local_domains),
        sorted(map(str, host.local_addresses)),
        sorted(map(str, host.not_local_addresses)),
        local.match_case,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
