"""The [routes.NAME] sections as values, and how policy sees them."""

from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import Literal

from masqmail.frozen import frozen
from masqmail.routing.link import INTERNET
from masqmail.routing.route import AddressMap, Conditions, Rewriting, Route, Way, line_of
from masqmail.settings import Bytes, Command, Domain, Fingerprint, HostPort, Pattern, setting

IMPLICIT_TLS_PORT = 465  # RFC 8314 §3.3
SUBMISSION_PORT = 587  # RFC 6409 §3.1
SMTP_PORT = 25

#: The value of `helo` that stands for the name of our public address.
HELO_BY_ADDRESS = "address"


class Tls(Enum):
    """How a connection is encrypted."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"
    OPPORTUNISTIC = "opportunistic"
    NONE = "none"


class Mechanism(Enum):
    """How to log in."""

    PLAIN = "plain"
    LOGIN = "login"
    CRAM_MD5 = "cram-md5"


class LookUp(Enum):
    """Where direct delivery finds the hosts of a domain."""

    MX = "mx"
    A = "a"
    HOSTS = "hosts"


@frozen(kw_only=True)
class Rewrite:
    """Which addresses change on the way out. Only local addresses do, and never the null sender.

    The keys are globs over local parts, tried in order. A value is an address, a name with an address in angle
    brackets, or `*@domain`, which changes the domain alone.
    """

    return_path: AddressMap = setting(
        "The envelope sender.",
        default=(),
        example='{ "john" = "jsmith@fastnet.example", "*" = "*@fastnet.example" }',
    )
    from_: AddressMap = setting(
        "The From field.", default=(), key="from", example='{ "john" = "John Smith <jsmith@fastnet.example>" }'
    )
    sender: AddressMap = setting("The Sender field.", default=())
    reply_to: AddressMap = setting("The Reply-To field.", default=())
    mail_followup_to: AddressMap = setting("The Mail-Followup-To field.", default=())
    all: AddressMap = setting(
        "What holds for those of the five above that have no table.", default=(), example='{ "*" = "*@isp.example" }'
    )


@frozen(kw_only=True)
class RouteSection:
    """What to do with a recipient over a link. Routes are tried in file order; the first whose conditions all hold
    is taken, and the next one when it fails for now.

    A route needs `smarthost`, `deliver = "direct"`, `deliver = "pipe"` with a `command`, or `deliver = "odmr"` with
    the user it is `for`.
    """

    name: str
    links: tuple[str, ...] = setting("The links this route may use.", default=(INTERNET,), example='["dsl", "umts"]')
    smarthost: tuple[HostPort, ...] = setting(
        "The provider's servers, tried in order. A port that is left out is 465 with implicit TLS, "
        "587 with a login, and 25 otherwise.",
        default=(),
        example='["mail.fastnet.example:587", "backup.fastnet.example:587"]',
    )
    deliver: Literal["direct", "pipe", "odmr"] | None = setting(
        "`direct` delivers to the recipient's own mail servers, and `resolve` says how they are found; `pipe` hands "
        "each recipient's copy to the program in `command`; `odmr` keeps the mail for the domains in `recipients` "
        "until the user in `for` fetches it with ATRN (RFC 2645); no later route takes it, everybody may send it.",
        default=None,
    )
    for_: str | None = setting(
        'Who fetches what waits with `deliver = "odmr"`: one of the `users` of [smtp].',
        default=None,
        key="for",
    )
    command: Command | None = setting(
        'The program of `deliver = "pipe"`, such as ["/usr/local/bin/sendfax", "${recipient_local}"]; it runs once '
        "for each recipient, as `alias_user` of [local], `max_connections` of them at a time.",
        default=None,
    )
    from_line: bool = setting("The program gets a line `From SENDER DATE` first, as in an mbox.", default=False)
    escape_from: bool = setting(
        "The program gets a `>` before each line that begins with `From `, as in an mbox.", default=False
    )
    resolve: tuple[LookUp, ...] = setting(
        "Where direct delivery looks for a domain's servers: MX records, address records (`a`), or the system's "
        "own look-up with /etc/hosts (`hosts`). In this order; the next counts when those before it know nothing.",
        default=(LookUp.MX, LookUp.A),
    )
    tls: Tls | None = setting(
        "How the connection is encrypted. All but `opportunistic` and `none` check the server's certificate. "
        "Only `none`, written out, lets a password go in clear.",
        default=None,
        otherwise="port 465 is implicit, any other smarthost starttls, direct delivery opportunistic",
        example='"starttls"',
    )
    tls_fingerprint: Fingerprint | None = setting(
        "The SHA-256 of the server's certificate (DER), colons optional, in place of all other checks of it.",
        default=None,
    )
    tls_ca: Path | None = setting(
        "A PEM file with the authorities to trust.",
        default=None,
        otherwise="the system's store",
        example='"/etc/ssl/own-ca.pem"',
    )
    username: str | None = setting("The name to log in with.", default=None, example='"jsmith"')
    password_file: Path | None = setting(
        "A file whose first line is the password.", default=None, example='"/etc/masqmail/fastnet.secret"'
    )
    password_command: Command | None = setting(
        'A program that prints the password, such as "pass show fastnet"; it runs as the daemon\'s user and has '
        "10 seconds.",
        default=None,
    )
    password_credential: str | None = setting("The name of a systemd credential that is the password.", default=None)
    auth: tuple[Mechanism, ...] = setting(
        "The ways to log in that may be used, the best first.",
        default=(),
        otherwise="the best one offered",
        example='["cram-md5", "plain"]',
    )
    pop_before_smtp: str | None = setting(
        "An account of [fetch.NAME] with pop3 to log in to before the smarthost is used (SMTP-after-POP).",
        default=None,
        example='"NAME"',
    )
    senders: tuple[Pattern, ...] = setting(
        "Condition: the envelope sender matches one of these. `<>` is the null sender; a pattern without @ "
        "matches the local part in any domain.",
        default=(),
        example='["*@home.example"]',
    )
    not_senders: tuple[Pattern, ...] = setting(
        "Condition: the envelope sender matches none of these.", default=(), example='["root"]'
    )
    recipients: tuple[Pattern, ...] = setting(
        "Condition: the recipient matches one of these.", default=(), example='["*@*.home.example"]'
    )
    not_recipients: tuple[Pattern, ...] = setting(
        "Condition: the recipient matches none of these.", default=(), example='["*@dialup-hater.example"]'
    )
    from_headers: tuple[Pattern, ...] = setting(
        "Condition: the address in From matches one of these.", default=(), example='["*@home.example"]'
    )
    not_from_headers: tuple[Pattern, ...] = setting(
        "Condition: the address in From matches none of these.", default=(), example='["root"]'
    )
    max_size: Bytes | None = setting(
        "Condition: the message is not bigger.", default=None, otherwise="any size", example='"20MB"'
    )
    last: bool = setting("A temporary failure here tries no later route.", default=False)
    helo: Domain | None = setting(
        'The name to greet with; "address" is the name of our address on the connection if it leads back there, or '
        "else that address in brackets.",
        default=None,
        otherwise="`name` of [host]",
        example='"home.example"',
    )
    wrapper: Command | None = setting(
        'A program to talk to in place of a connection, such as "ssh -C shore nc localhost 25"; it runs as the '
        "daemon's user. The smarthost is then only a name for it, by which its certificate is checked.",
        default=None,
    )
    send_first: bool = setting(
        "Do not wait for the server's greeting, for a `wrapper` that has swallowed it.", default=False
    )
    pipelining: bool = setting("Send commands without waiting, where the server offers it.", default=True)
    bounce_on_connect_error: bool = setting(
        "A next hop that cannot be reached fails the recipient at once.", default=False
    )
    max_messages_per_connection: int = setting(
        "How many messages go over one connection; 0 is all of them.", default=0
    )
    max_connections: int = setting("How many connections to one next hop at a time.", default=1)
    rewrite: Rewrite = field(default=Rewrite())

    @property
    def way(self) -> Way:
        return Way(self.deliver) if self.deliver else Way.SMARTHOST

    @property
    def has_password(self) -> bool:
        """Whether there is a source for the password."""
        return bool(self.password_file or self.password_command or self.password_credential)

    def tls_for(self, next_hop: HostPort) -> Tls:
        """How a connection to this next hop is encrypted, with the default by port."""
        if self.tls is not None:
            return self.tls
        if self.way is Way.DIRECT:
            return Tls.OPPORTUNISTIC
        return Tls.IMPLICIT if next_hop.port == IMPLICIT_TLS_PORT else Tls.STARTTLS

    def port_for(self, next_hop: HostPort) -> int:
        """The port of a smarthost, with the default for one that is left out."""
        if next_hop.port:
            return next_hop.port
        if self.tls is Tls.IMPLICIT:
            return IMPLICIT_TLS_PORT
        return SUBMISSION_PORT if self.username else SMTP_PORT


def policy_of(section: RouteSection) -> Route:
    """The route as `masqmail.routing` sees it: without its transport options."""
    rewrite, user = section.rewrite, section.for_ or ""
    is_fetched = section.way is Way.ODMR
    return Route(
        name=section.name,
        links=(line_of(user),) if is_fetched else section.links,
        way=section.way,
        conditions=Conditions(
            senders=section.senders,
            not_senders=section.not_senders,
            recipients=section.recipients,
            not_recipients=section.not_recipients,
            from_headers=section.from_headers,
            not_from_headers=section.not_from_headers,
            max_size_bytes=section.max_size,
        ),
        rewriting=Rewriting(
            return_path=rewrite.return_path,
            from_=rewrite.from_,
            sender=rewrite.sender,
            reply_to=rewrite.reply_to,
            mail_followup_to=rewrite.mail_followup_to,
            all=rewrite.all,
        ),
        last=section.last or is_fetched,
        fails_on_connect_error=section.bounce_on_connect_error,
        user=user,
    )
