"""What `masqmail check` says about the accounts that mail is fetched from, beyond what cannot be."""

from importlib.util import find_spec
from ipaddress import ip_address

from masqmail.config.faults import Faults, key_text
from masqmail.config.fetch import CLEAR_PORTS, IMPLICIT_PORTS, FetchProtocol, FetchSection
from masqmail.config.model import Configuration
from masqmail.config.routes import Tls
from masqmail.mail.address import Mailbox
from masqmail.routing.local import LocalDomains
from masqmail.routing.pattern import name_domain
from masqmail.settings import Pattern

_USUAL_PORTS = {*IMPLICIT_PORTS.values(), *CLEAR_PORTS.values()}
_INBOX = "INBOX"


def advise_on_fetch(configuration: Configuration, advice: Faults) -> None:
    """Notes what is unwise."""
    for account in configuration.fetch.values():
        _advise_on_library(account, advice)
        _advise_on_tls(account, advice)
        _advise_on_domains(account, configuration, advice)
        _advise_on_sending_on(account, configuration, advice)
    _advise_on_twins(configuration, advice)


def is_loopback(host: str) -> bool:
    """Whether what goes to this host does not leave the machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _advise_on_library(account: FetchSection, advice: Faults) -> None:
    path = ("fetch", account.name)
    if account.protocol is FetchProtocol.IMAP and find_spec("imapclient") is None:
        wrong = f"{key_text(path)} is imap, which needs the Python library IMAPClient, and that is not installed"
        advice.add((*path, "protocol"), wrong, "install it: pip install 'masqmail[imap]', or python3-imapclient")


def _advise_on_tls(account: FetchSection, advice: Faults) -> None:
    path = ("fetch", account.name)
    here, host = key_text(path), account.server.host
    if account.tls is Tls.NONE and not is_loopback(host):
        advice.add((*path, "tls"), f"{here} logs in without TLS to {host}", 'write tls = "implicit" or "starttls"')
    if account.tls is Tls.OPPORTUNISTIC:
        wrong = f"{here} does not check to whom it gives its password"
        advice.add((*path, "tls"), wrong, 'write tls = "implicit" or "starttls"')
    if account.tls_ca and account.tls_fingerprint:
        wrong = f"{here}.tls_ca has no effect beside tls_fingerprint"
        advice.add((*path, "tls_ca"), wrong, "take one of them out")


def _advise_on_domains(account: FetchSection, configuration: Configuration, advice: Faults) -> None:
    """Mail for a domain that is not ours goes back to where it came from; with etrn our server refuses it."""
    path = ("fetch", account.name, "multidrop_domains")
    for domain in account.multidrop_domains:
        if not _has_its_place(Mailbox("anybody", domain), configuration):
            fate = "refused here" if account.protocol is FetchProtocol.ETRN else "sent out again"
            wrong = f"{key_text(path)} has {domain}, whose mail would be {fate}: it is no local domain"
            advice.add(path, wrong, "write it into local_domains of [host] as well")


def _advise_on_sending_on(account: FetchSection, configuration: Configuration, advice: Faults) -> None:
    """Who sends mail on in the name of its author looks like a forger (SPF)."""
    owner, path = account.deliver_to, ("fetch", account.name)
    if owner is not None and account.return_path is None and not _has_its_place(owner, configuration):
        wrong = f"{key_text(path)} sends its mail on to {owner} with the sender it has, which many servers refuse"
        advice.add((*path, "deliver_to"), wrong, 'write return_path = "postmaster" as well')


def _advise_on_twins(configuration: Configuration, advice: Faults) -> None:
    """Each account remembers for itself what it has taken, so of one mailbox two of them take everything twice."""
    seen: dict[tuple[str, int, str, str], str] = {}
    for account in configuration.fetch.values():
        if account.protocol in (FetchProtocol.ODMR, FetchProtocol.ETRN) or account.wrapper:
            continue
        mailboxes = _mailboxes_of(account)
        other = next((seen[mailbox] for mailbox in mailboxes if mailbox in seen), None)
        if other is not None:
            path, twin = ("fetch", account.name), key_text(("fetch", other))
            wrong = f"{key_text(path)} fetches from the same mailbox as {twin}, so that mail may come twice"
            advice.add((*path, "username"), wrong, "take one of them out")
        seen.update(dict.fromkeys(mailboxes, account.name))


def _mailboxes_of(account: FetchSection) -> list[tuple[str, int, str, str]]:
    """Server, user and folders; the usual ports of a host lead to the same server."""
    folders = account.folders if account.protocol is FetchProtocol.IMAP else ("INBOX",)
    host, port = account.server.host.lower(), account.server.port
    if port in _USUAL_PORTS:
        port = 0
    names = (_INBOX if folder.upper() == _INBOX else folder for folder in folders)  # RFC 9051 §5.1
    return [(host, port, account.username or "", name) for name in names]


def _has_its_place(mailbox: Mailbox, configuration: Configuration) -> bool:
    """Whether mail for it stays on this host, or goes where somebody wants this very domain to go."""
    host = configuration.host
    exceptions = tuple(Pattern(str(address)) for address in host.local_addresses)
    others = tuple(Pattern(str(address)) for address in host.not_local_addresses)
    local = LocalDomains(host.name, host.local_domains, exceptions, others, match_case=configuration.local.match_case)
    routes = configuration.routes.values()
    return local.is_local(mailbox) or any(
        name_domain(patterns, mailbox.domain) for patterns in (exceptions, *(route.recipients for route in routes))
    )
