"""What must be true between settings, beyond the type of each; broken rules are faults.

A rule keeps quiet about settings whose own fault is already noted.
"""

from itertools import pairwise

from masqmail.config.faults import Faults, closest, key_text, quote
from masqmail.config.fetchrules import check_fetch
from masqmail.config.letters import a_labels
from masqmail.config.lines import KeyPath
from masqmail.config.model import Configuration, Host, Local, LocalUser, Mailstore, Paths, Queue, Smtp
from masqmail.config.odmrrules import check_odmr
from masqmail.config.routes import RouteSection, Tls
from masqmail.config.surroundings import Surroundings
from masqmail.config.values import BadValue, check_variables
from masqmail.routing.link import ALWAYS
from masqmail.routing.route import LOCAL_ROUTE, Way

#: A Unix socket's path has 108 bytes with the final NUL, unix(7); the longest name of ours is behind the folder.
_MAX_SOCKET_PATH_BYTES = 107

_ROOT = "root"


def check_rules(configuration: Configuration, faults: Faults, surroundings: Surroundings) -> None:
    """Notes every broken rule."""
    _check_host(configuration.host, faults)
    _check_paths(configuration.paths, faults)
    _check_queue(configuration.queue, faults)
    _check_smtp(configuration.smtp, faults)
    _check_links(configuration, faults)
    for route in configuration.routes.values():
        _check_route(route, configuration, faults)
    check_odmr(configuration, faults)
    _check_local(configuration.local, configuration.host, faults)
    check_fetch(configuration, faults)
    if not configuration.log.keep:
        faults.add(("log", "keep"), "log.keep is no time at all", 'write at least "1s"')


def _check_host(host: Host, faults: Faults) -> None:
    _check_greeting(("host", "name"), host.name, faults)
    for key, addresses in (
        ("local_addresses", host.local_addresses),
        ("not_local_addresses", host.not_local_addresses),
    ):
        for address in addresses:
            if not address.domain:
                instead = f'write "{address}@example.org" with its own domain'
                faults.add(("host", key), f"host.{key} has {quote(str(address))} without a domain", instead)
    for address in set(host.local_addresses) & set(host.not_local_addresses):
        wrong = f"{quote(str(address))} is in both local_addresses and not_local_addresses"
        faults.add(("host", "not_local_addresses"), wrong, "take it out of one")


def _check_greeting(path: KeyPath, name: str, faults: Faults) -> None:
    """We say our name before a server says what it reads, and it stands in every header (RFC 6531 §3.7.1)."""
    if not name.isascii():
        wrong = f"{key_text(path)} has letters that not every server reads"
        faults.add(path, wrong, f"write {quote(a_labels(name))}")


def _check_paths(paths: Paths, faults: Faults) -> None:
    if len(bytes(paths.control_socket)) > _MAX_SOCKET_PATH_BYTES:
        wrong = "paths.runtime is too long for the sockets below it"
        faults.add(("paths", "runtime"), wrong, "write a path of 90 bytes or less")


def _check_queue(queue: Queue, faults: Faults) -> None:
    retry = ("queue", "retry")
    if not queue.retry:
        faults.add(retry, "queue.retry is empty, so nothing would be tried again", 'write it like ["5m", "1h"]')
    elif not all(queue.retry):
        faults.add(retry, "queue.retry has a wait of no time", 'write at least "1s"')
    if any(later <= earlier for earlier, later in pairwise(queue.warn_after)):
        faults.add(("queue", "warn_after"), "queue.warn_after does not ascend", 'write it like ["4h", "1d"]')
    if not queue.give_up_after:
        faults.add(("queue", "give_up_after"), "queue.give_up_after is no time at all", 'write it like "5d"')


def _check_smtp(smtp: Smtp, faults: Faults) -> None:
    at = faults.at
    if smtp.certificate and not smtp.private_key and not at("smtp", "private_key"):
        faults.add(("smtp", "certificate"), "smtp.certificate has no key", "write private_key as well")
    if smtp.private_key and not smtp.certificate and not at("smtp", "certificate"):
        faults.add(("smtp", "private_key"), "smtp.private_key has no certificate", "write certificate as well")
    if smtp.tls_listen and not (smtp.certificate or at("smtp", "certificate")):
        faults.add(("smtp", "tls_listen"), "smtp.tls_listen needs a certificate", "write certificate and private_key")
    for address in set(smtp.listen) & set(smtp.tls_listen):
        wrong = f"{address} is in both listen and tls_listen"
        faults.add(("smtp", "tls_listen"), wrong, "take it out of one")
    for key, value in (
        ("max_message_size", smtp.max_message_size),
        ("max_recipients", smtp.max_recipients),
        ("max_hops", smtp.max_hops),
        ("max_connections", smtp.max_connections),
    ):
        if not value:
            faults.add(("smtp", key), f"smtp.{key} is 0, so nothing would be accepted", "write a number above 0")


def _check_links(configuration: Configuration, faults: Faults) -> None:
    if configuration.links[ALWAYS].detect != ALWAYS:
        wrong = "the link always is up without being configured"
        faults.add(("links", ALWAYS), wrong, "write another name for yours")
    for name, link in configuration.links.items():
        if not getattr(link.options, "interval", True):
            faults.add(
                ("links", name, "interval"),
                f"{key_text(('links', name))}.interval is no time at all",
                'write it like "5s"',
            )


def _check_route(route: RouteSection, configuration: Configuration, faults: Faults) -> None:
    path = ("routes", route.name)
    here = key_text(path)
    if route.name == LOCAL_ROUTE:
        faults.add(path, "no route may be called local, the name of delivery on this host", "write another name")
    if route.helo:
        _check_greeting((*path, "helo"), route.helo, faults)
    _check_way(route, faults)
    _check_route_links(route, configuration, faults)
    _check_login(route, faults)
    _check_tls(route, faults)
    if not route.max_connections:
        faults.add((*path, "max_connections"), f"{here}.max_connections is 0", "write at least 1")
    for address_glob, address in route.rewrite.return_path:
        if "<" in address:
            wrong = f"{here}.rewrite.return_path has a display name in {quote(address)}"
            instead = f"write {quote(address.rpartition('<')[2].rstrip('>'))} for {quote(address_glob)}"
            faults.add((*path, "rewrite", "return_path"), wrong, instead)


def _check_way(route: RouteSection, faults: Faults) -> None:
    path = ("routes", route.name)
    here = key_text(path)
    if faults.at(*path, "smarthost") or faults.at(*path, "deliver"):
        return
    if route.smarthost and route.deliver:
        wrong = f'{here} has a smarthost and deliver = "{route.deliver}"'
        faults.add((*path, "deliver"), wrong, "take one of them out")
    if not route.smarthost and not route.deliver:
        wrong = f"{here} does not say where to send"
        faults.add(path, wrong, 'write smarthost = "mail.example.org:587", or deliver = "direct"')
    if route.way is Way.DIRECT and not route.resolve and not faults.at(*path, "resolve"):
        faults.add((*path, "resolve"), f"{here}.resolve is empty", 'write it like ["mx", "a"]')
    _check_pipe(route, faults)
    _check_wrapper(route, faults)


def _check_wrapper(route: RouteSection, faults: Faults) -> None:
    """A program in place of a connection leads to one place, whatever the smarthosts are called."""
    path = ("routes", route.name)
    here = key_text(path)
    for key in ("wrapper", "send_first"):
        if getattr(route, key) and route.deliver:
            instead = "take it out, or write a smarthost in place of deliver"
            faults.add((*path, key), f"{here}.{key} is for a smarthost", instead)
    if route.wrapper and len(route.smarthost) > 1:
        wrong = f"{here} has a wrapper and {len(route.smarthost)} smarthosts, and the program leads to one"
        faults.add((*path, "smarthost"), wrong, f'write smarthost = "{route.smarthost[0]}" alone')


def _check_pipe(route: RouteSection, faults: Faults) -> None:
    path = ("routes", route.name)
    here = key_text(path)
    if route.way is not Way.PIPE:
        for key in ("command", "from_line", "escape_from"):
            if getattr(route, key):
                wrong = f"{here}.{key} is for a program that takes the mail"
                faults.add((*path, key), wrong, 'take it out, or write deliver = "pipe"')
        return
    if not route.command and not faults.at(*path, "command"):
        wrong = f'{here}.deliver = "pipe", and there is no {here}.command'
        faults.add((*path, "deliver"), wrong, 'write command = ["/usr/local/bin/sendfax", "${recipient_local}"]')
    for word in route.command or ():
        try:
            check_variables(word)
        except BadValue as bad:
            faults.add((*path, "command"), f"{here}.command has {quote(word)}, {bad.problem}", bad.instead)


def _check_route_links(route: RouteSection, configuration: Configuration, faults: Faults) -> None:
    path = ("routes", route.name, "links")
    here = key_text(path)
    if not route.links:
        faults.add(path, f"{here} is empty", 'write it like ["internet"]')
    for link in route.links:
        if link in configuration.links or faults.at("links", link):
            continue
        likely = closest(link, tuple(configuration.links))
        instead = f'write "{likely}"' if likely else f"add a section [links.{link}]"
        faults.add(path, f"{here} names {quote(link)}, and there is no such link", instead)


def _check_login(route: RouteSection, faults: Faults) -> None:
    path = ("routes", route.name)
    here = key_text(path)
    sources = [
        key
        for key, source in (
            ("password_file", route.password_file),
            ("password_command", route.password_command),
            ("password_credential", route.password_credential),
        )
        if source
    ]
    keys = ("password", "password_file", "password_command", "password_credential", "token_command")
    if any(faults.at(*path, key) for key in ("username", *keys)):
        return
    if len(sources) > 1:
        wrong = f"{here} has both {sources[0]} and {sources[1]}"
        faults.add((*path, sources[1]), wrong, "take one of them out")
    if route.username and not sources:
        faults.add(
            (*path, "username"),
            f"{here} has a username and no password",
            "write password_file, password_command or password_credential as well",
        )
    if sources and not route.username:
        wrong = f"{here} has {sources[0]} and no username"
        faults.add((*path, sources[0]), wrong, "write username as well")
    if route.username and route.deliver:
        how = {Way.DIRECT: "directly", Way.PIPE: "to a program"}.get(route.way, "to who logs in here")
        wrong = f"{here} delivers {how}, where there is nothing to log in to"
        faults.add((*path, "username"), wrong, "take the username out, or write a smarthost")


def _check_tls(route: RouteSection, faults: Faults) -> None:
    path = ("routes", route.name)
    here = key_text(path)
    if route.way is Way.DIRECT and route.tls is Tls.IMPLICIT:
        wrong = f"{here} delivers directly, and no mail server awaits implicit TLS on port 25"
        faults.add((*path, "tls"), wrong, 'write tls = "starttls" or "opportunistic"')
    if route.tls is not Tls.NONE:
        return
    for key, value in (("tls_fingerprint", route.tls_fingerprint), ("tls_ca", route.tls_ca)):
        if value:
            wrong = f'{here} has {key} beside tls = "none"'
            faults.add((*path, key), wrong, 'take it out, or write tls = "starttls"')


def _check_local(local: Local, host: Host, faults: Faults) -> None:
    if local.alias_user == _ROOT:
        instead = f'write "{host.user}"' if host.user != _ROOT else 'write "nobody"'
        faults.add(("local", "alias_user"), "local.alias_user is root, which must not run pipes", instead)
    _check_store(("local",), local, local, faults)
    for name, user in local.users.items():
        _check_store(("local", "users", name), user, local, faults)


def _check_store(path: tuple[str, ...], own: Local | LocalUser, local: Local, faults: Faults) -> None:
    """A program or server that is to take mail must be named, in the section itself or in [local]."""
    here = key_text(path)
    for store, example in (
        (Mailstore.MDA, 'mda = ["/usr/bin/procmail", "-Y", "-d", "${recipient_local}"]'),
        (Mailstore.LMTP, 'lmtp = "/run/dovecot/lmtp"'),
    ):
        key = store.value
        is_named = getattr(own, key) or getattr(local, key) or faults.at(*path, key) or faults.at("local", key)
        if own.delivery is store and not is_named:
            faults.add(
                (*path, "delivery"), f'{here}.delivery = "{key}", and there is no {here}.{key}', f"write {example}"
            )
    for word in own.mda or ():
        try:
            check_variables(word)
        except BadValue as bad:
            faults.add((*path, "mda"), f"{here}.mda has {quote(word)}, {bad.problem}", bad.instead)
