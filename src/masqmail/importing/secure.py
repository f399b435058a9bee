"""How an old connection is encrypted now: TLS of a wrapper becomes ours, and passwords no longer go in clear."""

from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from masqmail.importing.commands import as_tls, read_wrapper
from masqmail.importing.document import Section
from masqmail.importing.migration import Migration, Option
from masqmail.importing.values import BadOldValue
from masqmail.settings import Command

#: Ports that begin with TLS: RFC 8314 §7.3, and what came before it.
IMPLICIT_PORTS = frozenset({465, 993, 995})

#: Ports that never do: SMTP's, and those of POP3 and IMAP.
CLEAR_PORTS = frozenset({25, 110, 143})


def put_server(
    migration: Migration,
    section: Section,
    key: Literal["smarthost", "server"],
    server: tuple[str, int],
    wrapper: Option | None,
    *,
    is_instant: bool = False,
) -> bool:
    """Sets server, TLS and wrapper; whether anything says how the connection is encrypted.

    `is_instant` says that the greeting was not waited for, since the wrapper had swallowed it (`instant_helo`).
    """
    host, port = server
    if wrapper is None:
        _put_host(section, key, host, port)
        return False
    try:
        command = read_wrapper(wrapper.value, migration.dialect)
    except BadOldValue as error:
        migration.wrong(section, wrapper, str(error))
        _put_host(section, key, host, port)
        return False
    tls = as_tls(command.words)
    if tls is None:
        for remark in command.remarks:
            migration.changed(wrapper, remark)
        _put_host(section, key, host or "localhost", port)
        section["tls"] = "none"
        return migration.put(section, "wrapper", Command, list(command.words), wrapper)
    starttls = (tls.starttls or is_instant or tls.port in CLEAR_PORTS) and tls.port not in IMPLICIT_PORTS
    _put_host(section, key, tls.host, tls.port or (25 if starttls else 465))
    section["tls"] = "starttls" if starttls else "implicit"
    if tls.ca_file:
        migration.put(section, "tls_ca", Path, tls.ca_file, wrapper)
    how = "STARTTLS" if starttls else "TLS from the start"
    migration.check(
        wrapper,
        f"is {how} of our own now. The certificate was not checked before and is now: should it be self-signed, "
        "write its tls_fingerprint or tls_ca",
    )
    return True


def put_plain_tls(
    migration: Migration, section: Section, server: tuple[str, int], option: Option, *, has_password: bool
) -> None:
    """What holds where nothing was encrypted: a password goes under TLS only, but for this very host."""
    host, port = server
    if port in IMPLICIT_PORTS:
        section["tls"] = "implicit"
        migration.check(option, f"nothing was encrypted, although port {port} begins with TLS; now it does")
    elif is_loopback(host):
        section["tls"] = "none"
    elif has_password:
        section["tls"] = "starttls"
        migration.check(
            option,
            f"nothing was encrypted; the login to {host} now waits for STARTTLS with a good certificate. "
            'tls = "none" would be as before',
        )
    else:
        section["tls"] = "opportunistic"


def is_loopback(host: str) -> bool:
    """Whether a connection to this host never leaves the machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def split_host_port(text: str, default: int) -> tuple[str, int]:
    """`HOST[:PORT]`; what is no port is the default."""
    host, colon, digits = text.strip().rpartition(":")
    if colon and digits.isascii() and digits.isdigit() and len(digits) < 6 and 0 < int(digits) < 65536:
        return host, int(digits)
    return (host if colon else text.strip()), default


def _put_host(section: Section, key: str, host: str, port: int) -> None:
    server = f"{host}:{port}"
    section[key] = [server] if key == "smarthost" else server
