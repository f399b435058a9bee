"""The [fetch.NAME] sections as values: the accounts that mail is fetched from."""

from dataclasses import replace
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from masqmail.config.routes import Tls
from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox
from masqmail.routing.link import INTERNET
from masqmail.settings import Bytes, Command, Domain, Fingerprint, HostPort, setting


class FetchProtocol(Enum):
    """How mail is fetched."""

    POP3 = "pop3"
    IMAP = "imap"
    ODMR = "odmr"
    ETRN = "etrn"


class FetchMechanism(Enum):
    """How to log in to an account."""

    APOP = "apop"
    PLAIN = "plain"
    LOGIN = "login"
    CRAM_MD5 = "cram-md5"
    SCRAM_SHA_256 = "scram-sha-256"
    SCRAM_SHA_1 = "scram-sha-1"
    XOAUTH2 = "xoauth2"
    OAUTHBEARER = "oauthbearer"


class Trigger(Enum):
    """When mail is fetched, if not at intervals."""

    MANUAL = "manual"
    IDLE = "idle"


#: When mail is fetched.
Interval: TypeAlias = timedelta | Trigger

#: Whether fetched mail stays on the server: always, never, or for so long.
Keep: TypeAlias = bool | timedelta

#: The port that begins with TLS (RFC 8314 §3) and the one that does not; RFC 2645 §4 has one for ODMR.
IMPLICIT_PORTS = {FetchProtocol.POP3: 995, FetchProtocol.IMAP: 993}
CLEAR_PORTS = {FetchProtocol.POP3: 110, FetchProtocol.IMAP: 143, FetchProtocol.ODMR: 366, FetchProtocol.ETRN: 25}


@frozen(kw_only=True)
class FetchSection:
    """An account that mail is fetched from, into the queue. A route can log in to it first with `pop_before_smtp`."""

    name: str
    links: tuple[str, ...] = setting("The links to fetch over.", default=(INTERNET,), example='["dsl"]')
    protocol: FetchProtocol = setting(
        "The protocol of the server. With `odmr` it sends us our mail on the connection that we make; with `etrn` it "
        "is only asked to send now what it has, to our own SMTP server.",
        example='"pop3"',
    )
    server: HostPort = setting(
        "The server. A port that is left out is that of the protocol: with implicit TLS 995 or 993, else 110, 143, "
        "366 for odmr and 25 for etrn.",
        example='"pop.fastnet.example:995"',
    )
    tls: Tls | None = setting(
        "How the connection is encrypted. All but `opportunistic` and `none` check the server's certificate. "
        "Only `none`, written out, lets a password go in clear.",
        default=None,
        otherwise="implicit for pop3 and imap without a port or with 995 or 993, else starttls",
        example='"implicit"',
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
    username: str | None = setting(
        "The name to log in with; it must be given, but for etrn.", default=None, example='"jsmith"'
    )
    password_file: Path | None = setting("A file whose first line is the password.", default=None)
    password_command: Command | None = setting(
        "A program that prints the password; it runs as the daemon's user and has 10 seconds.",
        default=None,
        example='"pass show fastnet"',
    )
    password_credential: str | None = setting("The name of a systemd credential that is the password.", default=None)
    token_command: Command | None = setting(
        "A program that prints a token for xoauth2 or oauthbearer, in place of a password.", default=None
    )
    auth: tuple[FetchMechanism, ...] = setting(
        "The ways to log in that may be used, the best first; `plain` is also USER and PASS of POP3.",
        default=(),
        otherwise="the best one offered",
        example='["apop", "plain"]',
    )
    deliver_to: Mailbox | None = setting(
        "Who gets the mail: a local or remote address. With odmr each message says that itself, and this is for what "
        "is for nobody here.",
        default=None,
        otherwise="`postmaster` of [host]; with odmr such mail is refused",
        example='"john"',
    )
    envelope_header: str | None = setting(
        "The header field that says who a message was for, where one mailbox has the mail of several people.",
        default=None,
        example='"Delivered-To"',
    )
    multidrop_domains: tuple[Domain, ...] = setting(
        "The domains whose mail comes through this account; for odmr and etrn those that are asked for.",
        default=(),
        example='["home.example"]',
    )
    return_path: Mailbox | None = setting(
        "The envelope sender of what is fetched.",
        default=None,
        otherwise="the message's own Return-Path, else its Sender or From, else the postmaster",
        example='"postmaster"',
    )
    strip: str | None = setting(
        "What is removed from the front of an envelope address.", default=None, example='"mbox-foo-"'
    )
    folders: tuple[str, ...] = setting("The folders to fetch from, with imap.", default=("INBOX",))
    interval: Interval = setting(
        "How often to fetch; `manual` is only when told, `idle` is as soon as the server has mail, with imap.",
        default=timedelta(minutes=5),
    )
    keep: Keep = setting(
        "Whether mail stays on the server; with a duration it is deleted there after that long.", default=False
    )
    move_to: str | None = setting(
        "The folder that taken messages are moved to on the server, with imap, in place of deleting them, like "
        "`Archive`; it is made when it is missing.",
        default=None,
    )
    max_size: Bytes | None = setting(
        "Bigger messages stay on the server, and a notice says so once (not with odmr).",
        default=None,
        otherwise="any size",
        example='"1MB"',
    )
    max_messages: int = setting("How many messages to fetch at a time; 0 is all of them.", default=0)
    wrapper: Command | None = setting("A program to talk to instead of a connection to the server.", default=None)

    @property
    def effective_tls(self) -> Tls:
        """How the connection is encrypted, with the default by port."""
        if self.tls is not None:
            return self.tls
        implicit = IMPLICIT_PORTS.get(self.protocol)
        return Tls.IMPLICIT if implicit is not None and self.server.port in (0, implicit) else Tls.STARTTLS

    @property
    def has_password(self) -> bool:
        """Whether there is a source for the password."""
        return bool(self.password_file or self.password_command or self.password_credential)

    def with_port(self) -> "FetchSection":
        """The same with the port that was left out, and with the encryption that this means."""
        if self.server.port:
            return self
        ports = IMPLICIT_PORTS if self.effective_tls is Tls.IMPLICIT else CLEAR_PORTS
        port = ports.get(self.protocol, CLEAR_PORTS[self.protocol])
        return replace(self, server=HostPort(self.server.host, port))
