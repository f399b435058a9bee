"""What must be true of the [fetch.NAME] sections, and of the routes that log in to one first."""

import re

from masqmail.config.faults import Faults, closest, key_text, quote
from masqmail.config.fetch import CLEAR_PORTS, IMPLICIT_PORTS, FetchMechanism, FetchProtocol, FetchSection, Trigger
from masqmail.config.model import Configuration
from masqmail.config.routes import RouteSection, Tls
from masqmail.proto.smtp.turn import MAX_COMMAND_BYTES

_TOKENS = frozenset({FetchMechanism.XOAUTH2, FetchMechanism.OAUTHBEARER})

#: Where we speak SMTP to the server.
_OF_SMTP = (FetchProtocol.ODMR, FetchProtocol.ETRN)
_NO_USE = {
    FetchProtocol.ODMR: ("keep", "max_messages"),
    FetchProtocol.ETRN: ("keep", "max_messages", "max_size", "deliver_to", "return_path", "strip"),
}
_MOST_DOMAINS_BYTES = MAX_COMMAND_BYTES - len("ATRN \r\n")

_FIELD_NAME = re.compile(r"[!-9;-~]{1,200}")  # RFC 5322 §2.2


def check_fetch(configuration: Configuration, faults: Faults) -> None:
    """Notes every broken rule."""
    for account in configuration.fetch.values():
        _check_links(account, configuration, faults)
        _check_login(account, faults)
        _check_auth(account, faults)
        _check_tls(account, faults)
        _check_multidrop(account, faults)
        _check_imap(account, faults)
        _check_move_to(account, faults)
        _check_smtp(account, faults)
        _check_times(account, faults)
    for route in configuration.routes.values():
        if route.pop_before_smtp is not None:
            _check_pop_before_smtp(route, route.pop_before_smtp, configuration, faults)


def _place(account: FetchSection, *keys: str) -> tuple[str, ...]:
    return ("fetch", account.name, *keys)


def _check_links(account: FetchSection, configuration: Configuration, faults: Faults) -> None:
    path = _place(account, "links")
    here = key_text(path)
    if not account.links:
        faults.add(path, f"{here} is empty", 'write it like ["internet"]')
    for link in account.links:
        if link in configuration.links or faults.at("links", link):
            continue
        likely = closest(link, tuple(configuration.links))
        instead = f'write "{likely}"' if likely else f"add a section [links.{link}]"
        faults.add(path, f"{here} names {quote(link)}, and there is no such link", instead)


def _check_login(account: FetchSection, faults: Faults) -> None:
    here = key_text(_place(account))
    sources = [
        key
        for key, source in (
            ("password_file", account.password_file),
            ("password_command", account.password_command),
            ("password_credential", account.password_credential),
            ("token_command", account.token_command),
        )
        if source
    ]
    keys = ("username", "password", "password_file", "password_command", "password_credential", "token_command")
    if any(faults.at(*_place(account, key)) for key in keys):
        return
    if len(sources) > 1:
        wrong = f"{here} has both {sources[0]} and {sources[1]}"
        faults.add(_place(account, sources[1]), wrong, "take one of them out")
    if not account.username and not sources and account.protocol is FetchProtocol.ETRN:
        return  # few servers ask for a login
    if not account.username:
        faults.add(_place(account), f"{here} has no username", 'write it like username = "jsmith"')
    elif not sources:
        faults.add(
            _place(account, "username"),
            f"{here} has a username and no password",
            "write password_file, password_command or password_credential as well",
        )


def _check_auth(account: FetchSection, faults: Faults) -> None:
    path = _place(account, "auth")
    here = key_text(path)
    if FetchMechanism.APOP in account.auth and account.protocol is not FetchProtocol.POP3:
        wrong = f'{here} has "apop", which is for pop3 only'
        faults.add(path, wrong, "take it out, or write cram-md5")
    if account.token_command and account.auth and not _TOKENS.intersection(account.auth):
        wrong = f"{here} has no use for the token of token_command"
        faults.add(path, wrong, 'write "xoauth2" or "oauthbearer"')
    if account.has_password and account.auth and _TOKENS.issuperset(account.auth):
        wrong = f"{here} needs a token, and there is only a password"
        faults.add(path, wrong, "write token_command instead of the password, or other words here")


def _check_tls(account: FetchSection, faults: Faults) -> None:
    path, here = _place(account, "tls"), key_text(_place(account))
    protocol, port = account.protocol, account.server.port
    if account.tls is Tls.IMPLICIT and protocol in _OF_SMTP:
        faults.add(path, f"{here} is {protocol.value}, which does not begin with TLS", 'write tls = "starttls"')
    elif account.tls is Tls.IMPLICIT and port == CLEAR_PORTS[protocol]:
        instead = f'write tls = "starttls", or port {IMPLICIT_PORTS[protocol]}'
        faults.add(path, f"{here}: port {port} does not begin with TLS", instead)
    if account.tls not in (None, Tls.IMPLICIT) and port == IMPLICIT_PORTS.get(protocol):
        instead = f'write tls = "implicit", or port {CLEAR_PORTS[protocol]}'
        faults.add(path, f"{here}: port {port} begins with TLS", instead)
    if account.tls is not Tls.NONE:
        return
    for key, value in (("tls_fingerprint", account.tls_fingerprint), ("tls_ca", account.tls_ca)):
        if value:
            wrong = f'{here} has {key} beside tls = "none"'
            faults.add(_place(account, key), wrong, 'take it out, or write tls = "starttls"')


def _check_multidrop(account: FetchSection, faults: Faults) -> None:
    here = key_text(_place(account))
    header, domains = account.envelope_header, account.multidrop_domains
    if header is not None and not _FIELD_NAME.fullmatch(header):
        wrong = f"{here}.envelope_header is {quote(header)}, not the name of a header field"
        faults.add(_place(account, "envelope_header"), wrong, 'write it like "Delivered-To"')
    if faults.at(*_place(account, "multidrop_domains")):
        return
    if (word := account.protocol) in _OF_SMTP:
        if not domains:
            wrong = f"{here} is {word.value} and does not say for which domains"
            faults.add(_place(account), wrong, 'write them: multidrop_domains = ["home.example"]')
        if header is not None:
            wrong = f"{here}.envelope_header has no use with {word.value}, which has the envelope itself"
            faults.add(_place(account, "envelope_header"), wrong, "take it out")
    elif header is not None and not domains:
        wrong = f"{here} has an envelope_header and no domains whose mail it takes"
        instead = 'write multidrop_domains = ["home.example"] as well'
        faults.add(_place(account, "envelope_header"), wrong, instead)
    elif domains and header is None and not faults.at(*_place(account, "envelope_header")):
        wrong = f"{here} has multidrop_domains and does not say which header field has the recipient"
        faults.add(_place(account, "multidrop_domains"), wrong, 'write envelope_header = "Delivered-To" as well')
    if account.strip and header is None and account.protocol not in _OF_SMTP:
        wrong = f"{here}.strip has no use without an envelope_header"
        faults.add(_place(account, "strip"), wrong, "take it out, or write envelope_header as well")


def _check_imap(account: FetchSection, faults: Faults) -> None:
    here = key_text(_place(account))
    if not account.folders:
        faults.add(_place(account, "folders"), f"{here}.folders is empty", 'write it like ["INBOX"]')
    if account.protocol is FetchProtocol.IMAP:
        return
    word = account.protocol.value
    if account.interval is Trigger.IDLE:
        wrong = f'{here}.interval is "idle", which {word} cannot'
        faults.add(_place(account, "interval"), wrong, 'write it like "5m", or protocol = "imap"')
    if account.folders not in ((), ("INBOX",)):
        wrong = f"{here}.folders has no use with {word}, which has one mailbox only"
        faults.add(_place(account, "folders"), wrong, 'take it out, or write protocol = "imap"')


def _check_move_to(account: FetchSection, faults: Faults) -> None:
    if account.move_to is None:
        return
    path, here = _place(account, "move_to"), key_text(_place(account))
    if account.protocol is not FetchProtocol.IMAP:
        wrong = f"{here}.move_to has no use with {account.protocol.value}"
        faults.add(path, wrong, 'take it out, or write protocol = "imap"')
    elif account.keep is True:
        wrong = f"{here}.move_to has no use with keep = true, which leaves all mail where it is"
        faults.add(path, wrong, 'take it out, or write keep like "7d", or false')
    elif _folder(account.move_to) in map(_folder, account.folders):
        wrong = f"{here}.move_to is {quote(account.move_to)}, from which mail is fetched"
        faults.add(path, wrong, 'write another folder, like "Archive"')


def _folder(name: str) -> str:
    return "INBOX" if name.upper() == "INBOX" else name  # RFC 9051 §5.1


def _check_smtp(account: FetchSection, faults: Faults) -> None:
    """Where the server sends the mail itself much is not ours to say; with etrn it does not even come this way."""
    if account.protocol not in _OF_SMTP:
        return
    here, word = key_text(_place(account)), account.protocol.value
    for key in _NO_USE[account.protocol]:
        if getattr(account, key) and not faults.at(*_place(account, key)):
            faults.add(_place(account, key), f"{here}.{key} has no use with {word}", "take it out")
    if account.protocol is FetchProtocol.ODMR and len(",".join(account.multidrop_domains)) > _MOST_DOMAINS_BYTES:
        wrong = f"{here}.multidrop_domains is too long for one command, which has {MAX_COMMAND_BYTES} bytes"
        faults.add(_place(account, "multidrop_domains"), wrong, "write a second account with some of them")


def _check_times(account: FetchSection, faults: Faults) -> None:
    here = key_text(_place(account))
    if not account.interval:
        wrong = f"{here}.interval is no time at all"
        faults.add(_place(account, "interval"), wrong, 'write it like "5m", or "manual"')
    if not account.keep and account.keep is not False:
        faults.add(_place(account, "keep"), f"{here}.keep is no time at all", 'write it like "7d", or false')
    if account.max_size == 0:
        wrong = f"{here}.max_size is 0, so nothing would be fetched"
        faults.add(_place(account, "max_size"), wrong, 'write it like "1MB", or take it out')


def _check_pop_before_smtp(route: RouteSection, name: str, configuration: Configuration, faults: Faults) -> None:
    path = ("routes", route.name, "pop_before_smtp")
    here, named = key_text(path), key_text(("fetch", name))
    if route.deliver:
        faults.add(path, f"{here} is for a smarthost", "take it out, or write a smarthost in place of deliver")
    if faults.at("fetch", name):
        return
    account = configuration.fetch.get(name)
    if account is None:
        likely = closest(name, tuple(configuration.fetch))
        instead = f'write "{likely}"' if likely else f"add a section [fetch.{name}]"
        faults.add(path, f"{here} names {quote(name)}, and there is no such fetch account", instead)
    elif account.protocol is not FetchProtocol.POP3:
        wrong = f"{here} names [{named}], which is {account.protocol.value} and not pop3"
        faults.add(path, wrong, "name an account of pop3")
