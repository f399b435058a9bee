"""The main configuration file but for routes, links, accounts and local delivery."""

from ipaddress import IPv4Address

from masqmail.config.model import Network
from masqmail.config.values import parse_duration
from masqmail.importing.dialect import Dialect
from masqmail.importing.document import Section
from masqmail.importing.migration import Migration, Option, Options
from masqmail.importing.report import Weight
from masqmail.importing.secure import is_loopback, split_host_port
from masqmail.importing.templates import read_templates
from masqmail.importing.values import BadOldValue, duration, number
from masqmail.mail.address import Mailbox
from masqmail.settings import Domain, DomainPattern, HostPort

_SMTP_PORT = 25
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
_LOOPBACK = ("127.0.0.0/8", "::1/128")

#: What happened without a setting, and why nothing takes its place.
REASONS = {
    "run_as_user": "the daemon runs as whoever starts it, and as [host] user when root does",
    "use_syslog": "the log goes to the standard error output, which systemd puts into its journal",
    "log_dir": "the log goes to the standard error output, which systemd puts into its journal",
    "pid_dir": "there is no PID file",
    "lock_dir": "there are no lock files",
    "defer_all": "it was for debugging; stop the daemon instead",
}


class MainFile:
    """Reads the settings of the main file that stand for themselves."""

    def __init__(self, migration: Migration, options: Options) -> None:
        self._migration = migration
        self._options = options

    def read_host(self) -> None:
        """[host], which everything else needs."""
        migration, section = self._migration, self._migration.document.section("host")
        name = self._options.take("host_name")
        if name is None:
            migration.report.add(Weight.WRONG, "there is no host_name; the system's name is used")
        else:
            value = self._host_name(name)
            if migration.put(section, "name", Domain, value, name):
                migration.host_name = value
        if hosts := self._options.take("local_hosts"):
            domains = [domain for item in migration.items(hosts) for domain in self._migration.spread(item, hosts)]
            migration.put_list(section, "local_domains", DomainPattern, domains, hosts)
        self._addresses(section)

    def _host_name(self, option: Option) -> str:
        if not option.value.startswith("/"):
            return option.value
        text = self._migration.files.read(option.value) or ""
        self._migration.changed(
            option, "the name was read from the file anew each time, and stands in the new file now"
        )
        return text.partition("\n")[0].strip()

    def _addresses(self, section: Section) -> None:
        migration, taken = self._migration, dict[str, list[str]]()
        for key in ("not_local_addresses", "local_addresses"):
            option = self._options.take(key)
            found = []
            for item in migration.items(option):
                assert option is not None
                address = migration.qualified(item)
                if address is None:
                    migration.wrong(section, option, f'"{item}" is no address')
                elif address in taken.get("not_local_addresses", ()):
                    migration.check(option, f"{address} is in both lists; it is not local now")
                else:
                    found.append(address)
            if option:
                taken[key] = migration.put_list(section, key, Mailbox, found, option)

    def read_rest(self) -> None:
        """What is neither host, routes, accounts nor local delivery."""
        migration, options = self._migration, self._options
        self._queue(migration.document.section("queue"))
        self._smtp(migration.document.section("smtp"))
        if option := options.take("log_user"):
            section = migration.document.section("submission")
            if address := migration.qualified(option.value):
                section["archive_to"] = address
            else:
                migration.wrong(section, option, "no address")
        read_templates(migration, options)
        self._log(migration.document.section("log"))
        if option := options.take("spool_dir"):
            migration.spool = option.value
            migration.lose(
                migration.document.section("paths"),
                option,
                "the new queue is a database of its own; --queue hands over what waits in the old one",
            )
        for option in options.take_all(tuple(REASONS)):
            migration.lose(
                migration.document.section("host"), option, REASONS.get(option.name, "unknown to the old program")
            )

    def default_port(self) -> int:
        """The port of a mail_host that names none."""
        option = self._options.take("remote_port")
        if option is None:
            return _SMTP_PORT
        port = number(option.value)
        section = self._migration.document.section("routes")
        if not 0 < port < 65536:
            self._migration.wrong(section, option, f"no port; {_SMTP_PORT} is used")
            return _SMTP_PORT
        if port == _SMTP_PORT:
            self._migration.report.add(Weight.KNOWN, "that is how it is here", str(option), option.place)
        else:
            self._migration.lose(section, option, "smarthosts got it; direct delivery always uses port 25")
        return port

    def _queue(self, section: Section) -> None:
        migration, take = self._migration, self._options.take
        if migration.flag(take("do_queue"), section):
            section["deliver"] = "on-flush"
        if option := take("warn_intervals"):
            intervals = [found for item in migration.items(option) if (found := self._time(section, item, option))]
            ordered = sorted(set(intervals), key=parse_duration)
            if ordered != intervals:
                migration.changed(option, "the times are in order now")
            section["warn_after"] = ordered
        if (option := take("max_defer_time")) and (found := self._time(section, option.value, option)):
            section["give_up_after"] = found
            migration.changed(option, "only time in which a route could be used counts")

    def _time(self, section: Section, text: str, option: Option) -> str:
        try:
            return duration(text)
        except BadOldValue as error:
            self._migration.wrong(section, option, f'"{text}" is {error}')
            return ""

    def _smtp(self, section: Section) -> None:
        migration, take = self._migration, self._options.take
        listen = take("listen_addresses")
        addresses = []
        for item in migration.items(listen, include=False):
            host, port = split_host_port(item, _SMTP_PORT)
            addresses.append(f"{host}:{port}")
        if listen:
            section["listen"] = []
            good = migration.put_list(section, "listen", HostPort, addresses, listen)
            self._relaying(section, good, listen)
        elif migration.dialect is Dialect.V02:
            section["listen"] = []
            migration.report.add(Weight.KNOWN, "there was no listener, so there is none; sendmail needs none")
        relay = take("do_relay")
        if not migration.flag(relay, section, default=True) and relay:
            self._only_ours(section, relay)
        if size := migration.amount(take("max_msg_size"), section):
            section["max_message_size"] = size
        if trusted := take("ident_trusted_nets"):
            migration.put_list(section, "ident_networks", Network, migration.items(trusted), trusted)
            migration.changed(
                trusted,
                "these hosts are asked for the user, which is noted; nobody may remove mail by telling a name",
            )

    def _relaying(self, section: Section, addresses: list[str], option: Option) -> None:
        """Who may send anywhere: the networks of the addresses that were listened on, as far as they are private."""
        networks: list[str] = []
        for address in addresses:
            host = address.rpartition(":")[0]
            if not is_loopback(host):
                networks += _networks(host)
        if networks:
            networks = list(dict.fromkeys((*_LOOPBACK, *networks)))
            section["relay_networks"] = networks
            self._migration.check(
                option, f"everybody could send anywhere; now it is {', '.join(networks)}. Leave in what you need"
            )

    def _only_ours(self, section: Section, option: Option) -> None:
        host = self._migration.document.section("host")
        domains = host.get("local_domains", [self._migration.host_name or "localhost"])
        addresses = host.get("local_addresses", [])
        assert isinstance(domains, list) and isinstance(addresses, list)
        section["accept_senders"] = [*(f"*@{domain}" for domain in domains), *addresses]
        self._migration.changed(option, "who may relay is decided by relay_networks first, and then by these senders")

    def _log(self, section: Section) -> None:
        option = self._options.take("debug_level")
        level = self._migration.amount(option, section)
        if option and level >= 4:
            section["level"] = "debug"
            self._migration.changed(option, "the log shows every line of a protocol, but no password")
        elif option:
            self._migration.lose(
                section, option, "there is only one level, debug, which shows all that 4 and more did"
            )


def _networks(host: str) -> list[str]:
    """The private networks that clients of an address may be in."""
    try:
        address = IPv4Address(host)
    except ValueError:
        return list(_PRIVATE)
    if address.is_unspecified:
        return list(_PRIVATE)
    return [f"{host.rpartition('.')[0]}.0/24"] if address.is_private else []
