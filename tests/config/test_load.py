"""Reading whole files: defaults, every fault in one run, and input that is no configuration at all."""

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masqmail.config.faults import ConfigError, Fault
from masqmail.config.load import MAX_FILE_BYTES, load, parse
from masqmail.config.model import (
    BUILT_IN_LINKS,
    Link,
    LocalUser,
    LogFormat,
    LogLevel,
    Mailstore,
    Sending,
    Store,
)
from masqmail.config.reader import settings_of
from masqmail.config.routes import LookUp, Mechanism, Rewrite, Tls
from masqmail.config.sections import HEADERS
from masqmail.config.show import toml
from masqmail.config.unsupported import KEYS
from masqmail.config.values import VARIABLES
from masqmail.links import always, command, file, interface, manual
from masqmail.mail.address import Mailbox
from masqmail.settings import Command, HostPort, UserPath
from support.configuration import AS_ROOT, AS_USER, FILE, configuration, faults

EXAMPLES = Path(__file__).parents[2] / "examples"


# defaults


def test_an_empty_file_of_root_means_the_defaults() -> None:
    found = configuration("")
    assert found.path == FILE
    assert found.host.name == "laptop.example.org"
    assert found.host.local_domains == ("localhost", "laptop", "laptop.example.org")
    assert (found.host.postmaster, found.host.user, found.host.group) == (Mailbox("root"), "masqmail", "masqmail")
    assert (found.paths.spool, found.paths.runtime) == (Path("/var/spool/masqmail"), Path("/run/masqmail"))
    assert found.submission.trusted_users == ("root",) and found.submission.archive_to is None
    assert found.queue.store is Store.SQLITE and found.queue.deliver is Sending.AT_ONCE
    assert found.queue.retry == tuple(timedelta(minutes=wait) for wait in (1, 5, 15, 30, 60))
    assert found.queue.warn_after == (timedelta(hours=4), timedelta(days=1))
    assert found.queue.give_up_after == timedelta(days=5)
    assert found.smtp.listen == (HostPort("127.0.0.1", 25), HostPort("::1", 25)) and found.smtp.tls_listen == ()
    assert found.smtp.relay_networks == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert found.smtp.users == Path("/etc/masqmail/users")
    assert found.links == BUILT_IN_LINKS
    assert found.routes == {} and found.policies == ()
    assert found.local.aliases == (Path("/etc/aliases"),) and found.local.alias_user == "masqmail"
    assert (found.log.level, found.log.format) == (LogLevel.INFO, LogFormat.TEXT)


def test_a_user_has_defaults_of_his_own() -> None:
    found = configuration("", AS_USER)
    assert (found.host.postmaster, found.host.user, found.host.group) == (Mailbox("ann"), "ann", "users")
    assert found.paths.spool == Path("/home/ann/.local/state/masqmail")
    assert found.paths.runtime == Path("/run/user/1000/masqmail")
    assert found.smtp.listen == (HostPort("127.0.0.1", 2525), HostPort("::1", 2525))
    assert found.submission.trusted_users == ("root", "ann")
    assert found.local.aliases == () and found.local.alias_user == "ann"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gateway", ("localhost", "gateway")),
        ("localhost", ("localhost",)),
        ("not a name!", ("localhost",)),
    ],
)
def test_local_domains_follow_from_any_host_name(name: str, expected: tuple[str, ...]) -> None:
    assert configuration("", replace(AS_ROOT, host_name=name)).host.local_domains == expected


def test_the_defaults_that_follow_from_the_name_follow_from_the_one_that_is_written() -> None:
    host = configuration('host.name = "gateway.home.example"').host
    assert host.local_domains == ("localhost", "gateway", "gateway.home.example")


def test_no_local_domains_are_none() -> None:
    assert configuration("[host]\nlocal_domains = []").host.local_domains == ()


def test_alias_user_follows_from_user() -> None:
    assert configuration('host.user = "mail"').local.alias_user == "mail"


# values of sections


def test_a_single_text_is_a_list_of_one() -> None:
    found = configuration('queue.retry = "5m"\n[routes.x]\nsmarthost = "a.example:25"')
    assert found.queue.retry == (timedelta(minutes=5),)
    assert found.routes["x"].smarthost == (HostPort("a.example", 25),)


def test_relative_paths_begin_beside_the_file_and_a_tilde_is_the_own_home() -> None:
    found = configuration('[paths]\nspool = "queue"\nruntime = "~/run"', AS_USER)
    assert found.paths.spool == Path("/etc/masqmail/queue")
    assert found.paths.runtime == Path("/home/ann/run")


def test_a_relative_file_is_relative_to_the_working_directory(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "own.toml").write_text('paths.spool = "queue"')
    monkeypatch.chdir(tmp_path)
    found = load(Path("own.toml"), AS_USER)
    assert (found.path, found.paths.spool) == (tmp_path / "own.toml", tmp_path / "queue")


def test_ports_that_are_left_out_are_filled_in() -> None:
    found = configuration(
        """
        [smtp]
        listen = "192.168.1.1"
        tls_listen = "192.168.1.1"
        certificate = "c"
        private_key = "k"
        [routes.plain]
        smarthost = "a.example"
        [routes.login]
        smarthost = ["a.example", "b.example:2525"]
        username = "ann"
        password_credential = "x"
        [routes.implicit]
        smarthost = "a.example"
        tls = "implicit"
        """,
        AS_USER,
    )
    assert (found.smtp.listen[0].port, found.smtp.tls_listen[0].port) == (2525, 465)
    ports = {name: [hop.port for hop in route.smarthost] for name, route in found.routes.items()}
    assert ports == {"plain": [25], "login": [587, 2525], "implicit": [465]}


def test_every_detector_has_its_section() -> None:
    found = configuration(
        """
        [links]
        a = { detect = "manual" }
        b = { detect = "always" }
        c = { detect = "file", path = "up" }
        d = { detect = "command", command = "which-link -x", interval = "60s" }
        e = { detect = "command", command = ["which-link"] }
        f = { detect = "interface", interface = "ppp0" }
        internet = { detect = "interface", interface = "eth0" }
        """
    )
    assert list(found.links.values()) == [
        Link("internet", "interface", interface.Options("eth0")),
        Link("always", "always", always.Options()),
        Link("a", "manual", manual.Options()),
        Link("b", "always", always.Options()),
        Link("c", "file", file.Options(Path("/etc/masqmail/up"))),
        Link("d", "command", command.Options(Command(("which-link", "-x")), timedelta(minutes=1))),
        Link("e", "command", command.Options(Command(("which-link",)), timedelta(seconds=5))),
        Link("f", "interface", interface.Options("ppp0")),
    ]


def test_routes_keep_the_order_of_the_file() -> None:
    text = "".join(f'[routes.{name}]\ndeliver = "direct"\n' for name in ["zeta", "alpha", "mid"])
    found = configuration(text)
    assert list(found.routes) == [route.name for route in found.policies] == ["zeta", "alpha", "mid"]


def test_local_users_differ_in_what_they_say() -> None:
    local = configuration(
        """
        [local]
        maildir = "/mail/${user}"
        [local.users.fritz]
        delivery = "maildir"
        [local.users.ann]
        mbox = "~/mbox"
        """
    ).local
    assert local.users["fritz"] == LocalUser(delivery=Mailstore.MAILDIR)
    assert local.mailbox_of("fritz") == (Mailstore.MAILDIR, "/mail/${user}")
    assert local.mailbox_of("ann") == (Mailstore.MBOX, "~/mbox")
    assert local.mailbox_of("bob") == (Mailstore.MBOX, "/var/mail/${user}")


def test_users_may_have_programs_and_servers_of_their_own() -> None:
    local = configuration(
        """
        [local]
        delivery = "lmtp"
        lmtp = "/run/dovecot/lmtp"
        mda = "procmail -Y -d ${recipient_local}"
        [local.users.fritz]
        delivery = "mda"
        [local.users.ann]
        lmtp = "127.0.0.1:24"
        """
    ).local
    assert local.mailbox_of("fritz") == (Mailstore.MDA, ("procmail", "-Y", "-d", "${recipient_local}"))
    assert local.mailbox_of("ann") == (Mailstore.LMTP, "127.0.0.1:24")
    assert local.mailbox_of("bob") == (Mailstore.LMTP, "/run/dovecot/lmtp")


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse(b'\xef\xbb\xbf[host]\nname = "a.example"', FILE, AS_ROOT).host.name == "a.example"


# the documented surface

WHOLE = (Path(__file__).parent / "whole.toml").read_text()


def test_everything_documented_loads() -> None:
    found = configuration(WHOLE)
    route = found.routes["fastnet"]
    assert list(found.routes) == ["lan", "fastnet", "shore", "fax"]
    assert (found.routes["fastnet"].wrapper, found.routes["shore"].wrapper) == (
        None,
        ("ssh", "-C", "shore", "nc", "localhost", "25"),
    )
    assert found.routes["fax"].command == ("/usr/local/bin/sendfax", "${recipient_local}")
    assert (route.tls, route.username, route.auth) == (
        Tls.STARTTLS,
        "jsmith",
        (Mechanism.PLAIN, Mechanism.LOGIN, Mechanism.CRAM_MD5),
    )
    assert route.rewrite == Rewrite(
        return_path=(("john", "jsmith@fastnet.example"), ("*", "*@fastnet.example")),
        from_=(("john", "John Smith <jsmith@fastnet.example>"),),
    )
    assert found.routes["lan"].resolve == (LookUp.MX, LookUp.HOSTS)
    assert found.local.users == {"fritz": LocalUser(delivery=Mailstore.MAILDIR)}
    assert (found.smtp.max_message_size, found.host.postmaster) == (50_000_000, Mailbox("oliver"))
    assert set(found.links) == {"internet", "always", "dsl", "office", "modem", "script", "cable", "manual"}


@pytest.mark.parametrize("surroundings", [AS_ROOT, AS_USER], ids=["root", "user"])
@pytest.mark.parametrize("name", ["smallest", "laptop", "home-gateway"])
def test_the_examples_load(name: str, surroundings: Any) -> None:
    assert load(EXAMPLES / f"{name}.toml", surroundings).routes


# files


def test_a_missing_default_file_means_the_defaults(tmp_path: Path) -> None:
    found = load(None, replace(AS_USER, config_home=tmp_path))
    assert found.path is None and found.routes == {}
    assert found.smtp.users == tmp_path / "masqmail/users"


def test_the_default_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "masqmail/masqmail.toml"
    file.parent.mkdir()
    file.write_text('host.name = "a.example"')
    found = load(None, replace(AS_USER, config_home=tmp_path))
    assert (found.path, found.host.name) == (file, "a.example")


def test_the_file_that_the_environment_names_goes_before_the_default(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('host.name = "a.example"')
    assert load(None, replace(AS_USER, named_file=file)).host.name == "a.example"


@pytest.mark.parametrize("by_environment", [True, False])
def test_a_named_file_that_is_missing_is_a_fault(tmp_path: Path, by_environment: bool) -> None:
    file = tmp_path / "none.toml"
    surroundings = replace(AS_USER, named_file=file) if by_environment else AS_USER
    with pytest.raises(ConfigError) as caught:
        load(None if by_environment else file, surroundings)
    assert str(caught.value) == (
        f"{file}: the configuration cannot be read: No such file or directory; "
        "name a file that can, with --config FILE"
    )


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, AS_USER)


def test_a_name_that_no_file_can_have_is_a_fault() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(Path("a\0b"), AS_USER)


def test_a_big_file_is_refused_without_reading_all_of_it(tmp_path: Path) -> None:
    file = tmp_path / "big.toml"
    file.write_bytes(b"#" * (10 * MAX_FILE_BYTES))
    with pytest.raises(ConfigError) as caught:
        load(file, AS_USER)
    assert str(caught.value) == f"{file}: the file is bigger than 1000 KB; write less, or name another file"


# faults

SYNTAX: list[tuple[str, str]] = [
    ("[host]\nname = laptop\n", '2: this is not TOML: Invalid value; put text in quotes: name = "value"'),
    ("[a]\n[a]\n", "2: this is not TOML: Cannot declare ('a',) twice; write each section and setting once"),
    ("[a]\nb = 1\nb = 2", "3: this is not TOML: Cannot overwrite a value; write each section and setting once"),
    ("[a]\nb = yes\n", "2: this is not TOML: Invalid value; write true or false"),
    (
        '[a]\nb = "c”\n',
        """2: this is not TOML: Illegal character '\\n'; write straight quotation marks: name = "value\"""",
    ),
    (
        '[a]\nb = "it’s" c\n',
        "2: this is not TOML: Expected newline or end of document after a statement;"
        " write nothing but a comment, which begins with #, behind the value",
    ),
    (
        '[a]\nb = ["c" "d"]\n',
        "2: this is not TOML: Unclosed array; put each text in quotes, a comma between two and a ] at the end",
    ),
    ("[a]\nb = “c”\n", '2: this is not TOML: Invalid value; write straight quotation marks: name = "value"'),
    (
        '[a]\nb = "c\nd = 1\n',
        r"2: this is not TOML: Illegal character '\n'; close the quotation mark in the same line",
    ),
    (
        "[a]\nb = 'c\n",
        '2: this is not TOML: Expected "\'"; close the quotation mark in the same line',
    ),
    (
        "[a] b = 1\n",
        "1: this is not TOML: Expected newline or end of document after a statement; begin a new line behind the ]",
    ),
    (
        '[a]\nb = "c" ; why\n',
        "2: this is not TOML: Expected newline or end of document after a statement;"
        " write nothing but a comment, which begins with #, behind the value",
    ),
    (
        "[a]\nb = 10MB\n",
        "2: this is not TOML: Expected newline or end of document after a statement;"
        ' put text in quotes: name = "value"',
    ),
    (
        '[a]\nb = {\n"c" = "d" }\n',
        "2: this is not TOML: Invalid initial character for a key part;"
        " write all of { … } in one line, without a comma at its end",
    ),
    (
        '[a]\nb = "\\d"\n',
        r"2: this is not TOML: Unescaped '\' in a string; write \\ for each \, or put the text in '…'",
    ),
    (
        "\n\nhost\n",
        "3: this is not TOML: Expected '=' after a key in a key/value pair; write [section] or name = value",
    ),
]


@pytest.mark.parametrize(("text", "fault"), SYNTAX)
def test_a_fault_of_syntax_has_its_line(text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_a_text_that_ends_too_early_is_a_fault_of_the_last_line() -> None:
    [fault] = faults('[host]\nname = [ "a",\n\n')
    assert fault.startswith("2: this is not TOML: ")


def test_a_file_in_another_encoding_is_a_fault_of_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        parse('[host]\nname = "b\xfccher"'.encode("latin-1"), FILE, AS_ROOT)
    assert str(caught.value) == f"{FILE}:2: this is not UTF-8 text; save the file as UTF-8"


@pytest.mark.parametrize("text", ["a = " + "[" * 50_000, "a = " + "{ a = " * 5_000, "[" + "a." * 2_000 + "a]"])
def test_deep_nesting_is_a_fault_and_no_crash(text: str) -> None:
    assert len(faults(text)) == 1


def test_numbers_and_dates_out_of_range_are_faults() -> None:
    assert len(faults("a = " + "9" * 5_000)) == 1
    assert len(faults("a = 2026-13-45")) == 1


MANY = """\
name = "x"
[hosts]
x = 1
[host]
nam = "a"
local_domains = ["a b", "c"]
postmaster = 5
[queue]
retry = [
  "5m", # comment ]
  5,
  "5 days",
]
warn_after = ["1d", "4h"]
deliver = "at_once"
max_hops = 9
[smtp]
listen = "::1:25"
relay_networks = ["192.168.1.7/24"]
max_hops = 0
[links]
foo = 3
[links.a]
[links.b]
detect = "interfce"
[links.c]
detect = "file"
[links."a b"]
detect = "manual"
[routes]
smarthost = "x"
[routes.x]
smarthosts = "m"
links = ["intenet"]
deliver = "direct"
username = "x"
password = "hunter2"
"a\\u0062c" . d = 1
rewrite.from = { john = "john" }
rewrite.return_path."*" = "A <a@b.c>"
[[local]]
[log]
keep = 1979-05-27
[fetch.x]
"""

MANY_FAULTS = [
    '1: there is no setting "name" outside of the sections; write it below [host]',
    "2: there is no section [hosts]; write [host]",
    '5: there is no setting "nam" in [host]; write name',
    '6: entry 1 of host.local_domains is "a b", not a domain; write it like "home.example" or "*.home.example"',
    '7: host.postmaster is the number 5, not an address; write it like "ann@example.org"',
    '11: entry 2 of queue.retry is the number 5, not a duration; write it like "90s", "15m", "4h" or "5d"',
    '12: entry 3 of queue.retry is "5 days", not a duration; write it like "90s", "15m", "4h" or "5d"',
    '14: queue.warn_after does not ascend; write it like ["4h", "1d"]',
    '15: queue.deliver is "at_once", not "at-once" or "on-flush"; write "at-once"',
    '16: there is no setting "max_hops" in [queue]; write it below [smtp]',
    '18: smtp.listen is "::1:25", an IPv6 address without brackets; write "[::1]:25"',
    '19: entry 1 of smtp.relay_networks is "192.168.1.7/24", an address within a network; '
    'write "192.168.1.0/24" for the network',
    "20: smtp.max_hops is 0, so nothing would be accepted; write a number above 0",
    "22: links.foo is the number 3, and [links] has only sections below it; "
    "write [links.NAME] above it, with a name of your choice",
    '23: [links.a] needs detect; write detect = "always", "command", "file", "interface", "internet", "manual" '
    'or "masqdialer"',
    '25: there is no detector "interfce"; write "interface"',
    '26: [links.c] needs path; write path = "/run/connection"',
    '28: "a b" is no name; write letters, digits and . _ + - (64 at most)',
    '31: routes.smarthost is "x", and [routes] has only sections below it; '
    "write [routes.NAME] above it, with a name of your choice",
    '33: there is no setting "smarthosts" in [routes.x]; write smarthost',
    '34: routes.x.links names "intenet", and there is no such link; write "internet"',
    "37: routes.x.password is in a file that everybody may read; "
    "write password_file, password_command or password_credential",
    '38: there is no setting "abc" in [routes.x]; take it out',
    '39: routes.x.rewrite.from is a table, in which "john" has no domain; write "john@isp.example"',
    '40: routes.x.rewrite.return_path has a display name in "A <a@b.c>"; write "a@b.c" for "*"',
    "41: local is a list, not a section; write [local] and its settings below it",
    '43: log.keep is a date or time, not a duration; write it like "90s", "15m", "4h" or "5d"',
    '44: [fetch.x] needs protocol; write protocol = "pop3"',
    '44: [fetch.x] needs server; write server = "pop.fastnet.example:995"',
]


def test_all_faults_of_all_sections_come_in_one_run() -> None:
    assert faults(MANY) == MANY_FAULTS


def test_all_faults_of_a_table_of_addresses_come_in_one_run() -> None:
    text = """\
[routes.x]
deliver = "direct"
rewrite.from = { a = "one@isp@example", "c@d" = "e@f.example", f = "*@isp.example", g = "h" }
rewrite.sender = { "" = "a@b.example", a = 5 }
[routes.x.rewrite.all]
a = "b"
c = "c@isp.example"
d = "e*@isp.example"
"""
    here = "routes.x.rewrite"
    assert [fault.partition(";")[0] for fault in faults(text)] == [
        f'3: {here}.from is a table, in which "one@isp@example" is no address: '
        "'@' cannot stand at this place in 'one@isp@example'",
        f'3: {here}.from is a table, whose key "c@d" is no local part',
        f'3: {here}.from is a table, in which "h" has no domain',
        f'4: {here}.sender is a table, whose key "" is no local part',
        f"4: {here}.sender is a table, in which the number 5 stands for an address",
        f'6: {here}.all is a table, in which "b" has no domain',
        f'8: {here}.all is a table, in which "e*@isp.example" has a * beside other letters',
    ]


def test_the_password_itself_is_in_no_message() -> None:
    assert "hunter2" not in "\n".join(faults(MANY))


def test_a_section_that_is_nothing_of_the_kind_is_a_fault() -> None:
    assert faults("host = 1\nroutes = true\nlocal.users = []\nlinks = 'x'\nroute = []") == [
        "1: host is the number 1, not a section; write [host] and its settings below it",
        "2: routes is true; write sections: [routes.NAME]",
        "3: local.users is a list; write sections: [local.users.NAME]",
        '4: links is "x"; write sections: [links.NAME]',
        "5: there is no section [route]; write [routes]",
    ]


def test_an_unknown_section_like_no_other_is_told_which_there_are() -> None:
    [fault] = faults("[zzz]")
    assert fault == (
        "1: there is no section [zzz]; take it out; there are "
        "[host], [paths], [submission], [queue], [smtp], [links], [routes], [local], [fetch], [notices], [log]"
    )


def test_a_number_where_a_list_is_expected_is_a_fault() -> None:
    assert faults("queue.retry = 5") == [
        '1: queue.retry is the number 5, not a list; write it like ["90s", "15m", "4h"]'
    ]


# whatever the file says


def _accepts(data: bytes) -> None:
    """A configuration or a `ConfigError` with faults, and nothing else."""
    found: tuple[Fault, ...] = ()
    try:
        parse(data, FILE, AS_ROOT)
    except ConfigError as error:
        found = error.faults or (Fault("", 0, "", "", ""),)
    assert all(fault.wrong and fault.instead for fault in found)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_configuration_or_faults(data: bytes) -> None:
    _accepts(data)


@given(st.text(alphabet="[]{}\"'=.,#\n abhost19-:\\", max_size=60))
def test_anything_like_toml_gives_a_configuration_or_faults(text: str) -> None:
    _accepts(text.encode())


_WORDS = st.sampled_from(
    sorted(
        {
            *(key for kind in HEADERS.values() for key in settings_of(kind)),
            *(part for path in KEYS for part in path),
            *["host", "routes", "links", "users", "rewrite", "detect", "password", "store", "x"],
        }
    )
)
_TEXTS = st.text(max_size=6) | st.sampled_from(
    ["direct", "pipe", "interface", "command", "probe", "a.example:25", "5m", "1KB", "a@b.example", "::1", "pam"]
)
_LEAVES = _TEXTS | st.booleans() | st.integers() | st.dates().map(str)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4), max_leaves=12
)


@pytest.mark.slow
@settings(max_examples=1000)
@given(st.dictionaries(_WORDS, _VALUES, max_size=6))
def test_any_values_under_any_keys_give_a_configuration_or_faults(document: dict[str, Any]) -> None:
    _accepts("\n".join(f"{toml(key)} = {toml(value)}" for key, value in document.items()).encode())


_SETTINGS = st.sampled_from([(header, key) for header, kind in HEADERS.items() for key in settings_of(kind)])


@pytest.mark.slow
@settings(max_examples=1000)
@given(st.lists(st.tuples(_SETTINGS, _VALUES), max_size=6, unique_by=lambda pair: pair[0][1]))
def test_any_values_of_real_settings_give_a_configuration_or_faults(pairs: list[Any]) -> None:
    lines = [f"{header.partition(',')[0]}.{key} = {toml(value)}" for (header, key), value in pairs]
    _accepts("\n".join([*lines, 'links.NAME.detect = "command"']).encode())


def test_variables_are_told_apart() -> None:
    for name in VARIABLES:
        text = f'local.mbox = "/mail/${{{name}}}"'
        assert configuration(text).local.mbox == UserPath(f"/mail/${{{name}}}")
