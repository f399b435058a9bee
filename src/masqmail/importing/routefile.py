"""One old route file as [routes.NAME]."""

from collections.abc import Sequence

from masqmail.config.values import KINDS, BadValue
from masqmail.importing import rewriting
from masqmail.importing.commands import read_delivery_command
from masqmail.importing.conditions import Conditions
from masqmail.importing.dialect import Dialect
from masqmail.importing.migration import Migration, Option, Options
from masqmail.importing.report import Weight
from masqmail.importing.secure import put_plain_tls, put_server, split_host_port
from masqmail.importing.values import BadOldValue, number
from masqmail.settings import Command, Domain, HostPort

_LOOK_UPS = {"dns_mx": ("mx", "a"), "dns_a": ("a",), "byname": ("hosts",)}
_AUTH = {"cram-md5": "cram-md5", "login": "login", "plain": "plain"}
_WITH_PIPE = "it did nothing on a route with a pipe"
_REASONS = {"do_ssl": "it never did anything"}


class RouteFile:
    """Reads one route file. `default_port` is that of a mail_host that names none."""

    def __init__(self, migration: Migration, options: Options, name: str, default_port: int) -> None:
        self._migration = migration
        self._options = options
        self._name = name
        self._default_port = default_port
        self._section = migration.document.section("routes", name)

    def read(self, links: Sequence[str], only: Sequence[str], never: Sequence[str], *, is_lan: bool) -> None:
        """Takes it over. `only` and `never` are patterns of recipients that the route's list brings with it."""
        section = self._section
        if list(links) != ["internet"]:
            section["links"] = list(links)
        if self._is_pipe():
            self._read_pipe()
        else:
            self._read_smtp(is_lan=is_lan)
            rewriting.Rewriting(self._migration, self._options, section).read()
        Conditions(self._migration, self._options, section).read(only, never)
        if self._migration.flag(self._options.take("last_route"), section):
            section["last"] = True
        self._migration.lose_rest(self._options, section, _REASONS)

    def pop_login(self) -> Option | None:
        """The account that is logged in to first, before `read`."""
        return self._options.take("pop3_login")

    def _is_pipe(self) -> bool:
        protocol = self._options.take("protocol")
        pipe = self._options.take("pipe")
        if pipe is None:
            if protocol and protocol.value != "smtp":
                self._migration.wrong(
                    self._section, protocol, "there is no pipe" if protocol.value == "pipe" else "no protocol"
                )
            return False
        if protocol and protocol.value == "smtp":
            self._migration.lose(self._section, pipe, "protocol = smtp had the pipe ignored")
            return False
        if protocol is None and self._migration.dialect is Dialect.V02:
            self._migration.check(pipe, "before 0.3.2 a pipe needed protocol = pipe as well; here it is one")
        self._pipe = pipe
        return True

    def _read_pipe(self) -> None:
        section, take = self._section, self._options.take
        try:
            command = read_delivery_command(self._pipe.value, self._migration.dialect)
        except BadOldValue as error:
            self._migration.wrong(section, self._pipe, str(error))
            section.disabled = "its program cannot be started without a shell"
        else:
            for remark in command.remarks:
                self._migration.changed(self._pipe, remark)
            section["deliver"] = "pipe"
            self._migration.put(section, "command", Command, list(command.words), self._pipe)
        for key, name in (("from_line", "pipe_fromline"), ("escape_from", "pipe_fromhack")):
            if self._migration.flag(take(name), section):
                section[key] = True
        fails = take("connect_error_fail")
        before = "sent the mail back" if self._migration.flag(fails, section) else "made the mail wait"
        how = f"any exit code but 0 {before}; now 75 makes it wait, and any other sends it back"
        self._migration.changed(fails or self._pipe, how)
        for name in ("mail_host", "wrapper", "resolve_list", "auth_name", "auth_login", "auth_secret", "helo_name"):
            if option := take(name):
                self._migration.lose(section, option, _WITH_PIPE)
        for option in self._options.take_all(rewriting.NAMES, exact=True):
            self._migration.lose(section, option, _WITH_PIPE)

    def _read_smtp(self, *, is_lan: bool) -> None:
        section, take, flag = self._section, self._options.take, self._migration.flag
        host, wrapper, instant = take("mail_host"), take("wrapper"), take("instant_helo")
        is_instant = flag(instant, section)
        login = self._login()
        if host or wrapper:
            self._smarthost(host, wrapper, has_password=bool(login), is_instant=is_instant)
        else:
            section["deliver"] = "direct"
            if login:
                self._migration.lose(section, login, "a login needs a mail_host")
                self._forget_login()
        if is_instant and "wrapper" in section:
            section["send_first"] = True
        elif is_instant and instant and not wrapper:
            self._migration.lose(section, instant, "without a wrapper nobody may speak before the greeting")
        self._resolving(is_lan=is_lan)
        self._port()
        if flag(take("connect_error_fail"), section):
            section["bounce_on_connect_error"] = True
        self._greeting()
        if not flag(take("do_pipelining"), section, default=True):
            section["pipelining"] = False
        for name in ("pipe_fromline", "pipe_fromhack"):
            if option := take(name):
                self._migration.lose(section, option, "it is for routes with a pipe")

    def _smarthost(
        self, host: Option | None, wrapper: Option | None, *, has_password: bool, is_instant: bool
    ) -> None:
        server = split_host_port(host.value, self._default_port) if host else ("", self._default_port)
        knows_tls = put_server(self._migration, self._section, "smarthost", server, wrapper, is_instant=is_instant)
        option = wrapper or host
        assert option is not None
        smarthosts = self._section["smarthost"]
        assert isinstance(smarthosts, list)
        try:
            KINDS[HostPort].read(smarthosts[0])
        except BadValue:
            self._migration.wrong(self._section, option, f'"{smarthosts[0]}" is no host with a port')
            self._section.disabled = "it does not say where to send"
        if not knows_tls:
            put_plain_tls(self._migration, self._section, server, option, has_password=has_password)

    def _login(self) -> Option | None:
        """The user's name, if there is a whole login; the secret goes into a file of its own."""
        take, section = self._options.take, self._section
        name, login, secret = take("auth_name"), take("auth_login"), take("auth_secret")
        given = [option for option in (name, login, secret) if option]
        if not (name and login and secret and secret.value):
            for option in given:
                self._migration.lose(
                    section, option, "without auth_name, auth_login and auth_secret nobody logged in"
                )
            return None
        mechanism = _AUTH.get(name.value.lower())
        if mechanism is None:
            self._migration.check(name, "the old program did not log in with this; now the best way offered is taken")
        elif mechanism == "plain":
            self._migration.changed(name, "the old program did not know it and did not log in; now it is used")
        if not self._migration.put(section, "username", str, login.value, login):
            return None
        section["password_file"] = self._migration.secret(self._name, secret.value)
        if mechanism:
            section["auth"] = [mechanism]
        self._migration.report.add(
            Weight.CHANGED,
            "a login that failed was passed over, and the mail went without; now it waits",
            str(name),
            name.place,
        )
        return login

    def _forget_login(self) -> None:
        self._migration.secrets.pop(str(self._section["password_file"]), None)
        for key in ("username", "password_file", "auth"):
            self._section.remove(key)

    def _resolving(self, *, is_lan: bool) -> None:
        option = self._options.take("resolve_list")
        if "deliver" not in self._section:
            if option:
                self._migration.lose(
                    self._section, option, "the address of a smarthost is always looked up by the system"
                )
            return
        found: list[str] = []
        for item in self._migration.items(option, include=False):
            assert option is not None
            if item not in _LOOK_UPS:
                self._migration.wrong(self._section, option, f'there is no look-up "{item}"')
            found += _LOOK_UPS.get(item, ())
        default = ["hosts"] if is_lan else ["mx", "a", "hosts"]
        self._section["resolve"] = list(dict.fromkeys(found)) or default

    def _port(self) -> None:
        option = self._options.take("smtp_port")
        if option and ("deliver" not in self._section or number(option.value) != 25):
            self._migration.lose(
                self._section, option, "direct delivery always uses port 25; a mail_host names its own"
            )
        elif option:
            self._migration.report.add(Weight.KNOWN, "that is how it is here", str(option), option.place)

    def _greeting(self) -> None:
        name = self._options.take("helo_name")
        if self._migration.flag(self._options.take("do_correct_helo"), self._section):
            self._section["helo"] = "address"
            if name:
                self._migration.lose(self._section, name, "do_correct_helo is used instead")
        elif name:
            self._migration.put(self._section, "helo", Domain, name.value, name)
