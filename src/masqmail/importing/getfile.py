"""One old get file, the account of a POP3 server, as [fetch.NAME]."""

from collections.abc import Sequence

from masqmail.config.values import KINDS, BadValue
from masqmail.importing.migration import Account, Migration, Option, Options
from masqmail.importing.secure import put_plain_tls, put_server
from masqmail.importing.values import number
from masqmail.mail.address import AddressError, parse_mailbox
from masqmail.settings import HostPort

_POP3_PORT = 110
_REASONS = {"do_ssl": "it never did anything", "resolve_list": "the server is always looked up by the system"}


class GetFile:
    """Reads one get file."""

    def __init__(self, migration: Migration, options: Options, name: str) -> None:
        self._migration = migration
        self._options = options
        self._name = name
        self._section = migration.document.section("fetch", name)

    def read(self, links: Sequence[str]) -> None:
        """Takes it over. Without links it was only fetched by its name, and still is."""
        section = self._section
        section["links"] = list(links) or ["always"]
        section["protocol"] = "pop3"
        has_list = self._keeping()
        self._server(has_list)
        self._mail()
        self._limits()
        if not links:
            section["interval"] = "manual"
        self._migration.lose_rest(self._options, section, _REASONS)

    def _server(self, has_list: bool) -> None:
        section, take = self._section, self._options.take
        protocol, server, port, wrapper = (take(name) for name in ("protocol", "server", "port", "wrapper"))
        if protocol and protocol.value == "apop":
            section["auth"] = ["apop"]
        elif protocol and protocol.value != "pop3":
            self._migration.wrong(section, protocol, "neither pop3 nor apop")
        number_ = number(port.value) if port else _POP3_PORT
        if port and not 0 < number_ < 65536:
            self._migration.wrong(section, port, f"no port; {_POP3_PORT} is used")
            number_ = _POP3_PORT
        host = server.value if server else ""
        knows_tls = put_server(self._migration, section, "server", (host, number_), wrapper)
        self._login(host or str(section["server"]).rpartition(":")[0], has_list)
        try:
            KINDS[HostPort].read(section["server"])
        except BadValue:
            section.disabled = "it names no server that could be one"
            if server:
                self._migration.wrong(section, server, "no host name")
        if not knows_tls and server:
            put_plain_tls(self._migration, section, (host, number_), server, has_password="username" in section)

    def _login(self, host: str, has_list: bool) -> None:
        section = self._section
        user, password = self._options.take("user"), self._options.take("pass")
        if user and password and password.value and self._migration.put(section, "username", str, user.value, user):
            section["password_file"] = self._migration.secret(f"fetch-{self._name}", password.value)
            self._migration.accounts.append(Account(self._name, user.value, host, has_list))
            return
        for option in (user, password):
            if option:
                self._migration.lose(section, option, "a login needs both user and pass")
        section.disabled = "it has no login"

    def _mail(self) -> None:
        section = self._section
        for key, name in (("deliver_to", "address"), ("return_path", "return_path")):
            option = self._options.take(name)
            if option is None:
                continue
            text = option.value.strip().removeprefix("<").removesuffix(">")
            try:
                section[key] = str(parse_mailbox(text))
            except AddressError as error:
                self._migration.wrong(section, option, f"no address: {error}")
        if "deliver_to" not in section and not section.disabled:
            section.disabled = "it does not say to whom the mail goes"

    def _keeping(self) -> bool:
        """Takes over what stays on the server; whether the old program listed what it had fetched."""
        section, take, flag = self._section, self._options.take, self._migration.flag
        keep, uidl, deletes = (take(name) for name in ("do_keep", "do_uidl", "do_uidl_dele"))
        section["keep"] = flag(keep, section)
        if section["keep"] and flag(deletes, section):
            section["keep"] = False
            assert deletes is not None
            self._migration.changed(deletes, "mail was deleted from the server by the next fetch, and now at once")
        elif deletes:
            self._migration.changed(
                deletes, "what was fetched and is still there is always deleted, unless keep is on"
            )
        has_list = flag(uidl, section)
        if not has_list:
            self._say_seen(uidl or keep)
        return has_list

    def _say_seen(self, option: Option | None) -> None:
        """Which messages were fetched is always remembered."""
        if option and self._section["keep"]:
            self._migration.changed(option, "kept mail was fetched again each time; now it is fetched once")

    def _limits(self) -> None:
        section, take = self._section, self._options.take
        if size := self._migration.amount(take("max_size"), section):
            section["max_size"] = size
        if option := take("max_size_delete"):
            self._migration.lose(section, option, "mail that is too big always stays on the server, with a notice")
        if count := self._migration.amount(take("max_count"), section):
            section["max_messages"] = count
