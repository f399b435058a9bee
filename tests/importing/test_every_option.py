"""Nothing is dropped in silence: each setting of each old version is in the new file, or in the report."""

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masqmail.importing.dialect import Dialect
from masqmail.importing.migration import Outcome
from support.imported import NOT_YET, faults_of, import_texts

LISTS = 'local_hosts = "home.example"\n'
ROUTE = 'mail_host = "smtp.isp.example"\n'
GET = 'server = "pop.isp.example"\nuser = u\npass = p\naddress = john\n'

#: Every setting of the main file, with a value that asks for something.
MAIN = {
    "run_as_user": "yes",
    "use_syslog": "yes",
    "debug_level": "5",
    "log_dir": "/var/log/masqmail",
    "pid_dir": "/run/masqmail",
    "mail_dir": "/srv/mail",
    "spool_dir": "/srv/spool",
    "lock_dir": "/srv/lock",
    "host_name": "gateway.home.example",
    "remote_port": "2525",
    "local_hosts": "home.example",
    "local_nets": "*.home.example",
    "local_addresses": "bob@isp.example",
    "not_local_addresses": "eric@home.example",
    "listen_addresses": "192.168.1.1:25",
    "do_save_envelope_to": "yes",
    "do_relay": "no",
    "do_queue": "yes",
    "defer_all": "yes",
    "online_routes.net": "/etc/masqmail/b.route",
    "connect_route.net": "/etc/masqmail/b.route",
    "query_routes.net": "/etc/masqmail/b.route",
    "local_net_route": "/etc/masqmail/b.route",
    "permanent_routes": "/etc/masqmail/b.route",
    "online_detect": "file",
    "online_file": "/run/online",
    "online_pipe": "/bin/which",
    "mserver_iface": "localhost:224",
    "online_query": "/bin/which",
    "alias_file": "/srv/aliases",
    "globalias_file": "/srv/globaliases",
    "alias_local_caseless": "yes",
    "caseless_matching": "yes",
    "pipe_fromline": "yes",
    "pipe_fromhack": "yes",
    "mbox_default": "maildir",
    "mbox_users": "ann",
    "mda_users": "ann",
    "maildir_users": "ann",
    "mda": "/usr/bin/procmail",
    "mda_fromline": "yes",
    "mda_fromhack": "yes",
    "ident_trusted_nets": "192.168.1.0/24",
    "get.isp": "/etc/masqmail/b.get",
    "online_gets.net": "/etc/masqmail/b.get",
    "errmsg_file": "/etc/masqmail/bounce.txt",
    "warnmsg_file": "/etc/masqmail/bounce.txt",
    "warn_intervals": "2h;3h",
    "max_defer_time": "3d",
    "log_user": "archive",
    "max_msg_size": "1000000",
    "unheard_of": "x",
}

#: Every setting of a route file.
ROUTES = {
    "protocol": "pipe",
    "mail_host": "other.example",
    "resolve_list": "dns_a",
    "connect_error_fail": "yes",
    "helo_name": "home.example",
    "do_correct_helo": "yes",
    "instant_helo": "yes",
    "do_pipelining": "no",
    "smtp_port": "2525",
    "auth_name": "login",
    "auth_login": "john",
    "auth_secret": "x",
    "pop3_login": "/etc/masqmail/b.get",
    "wrapper": "ssh shore nc h 25",
    "pipe": "/usr/local/bin/fax",
    "pipe_fromline": "yes",
    "pipe_fromhack": "yes",
    "allowed_mail_locals": "john",
    "not_allowed_mail_locals": "john",
    "allowed_return_paths": "john@home.example",
    "not_allowed_return_paths": "john@home.example",
    "allowed_rcpt_domains": "isp.example",
    "not_allowed_rcpt_domains": "isp.example",
    "allowed_senders": "john",
    "denied_senders": "john",
    "allowed_recipients": "*@isp.example",
    "denied_recipients": "*@isp.example",
    "allowed_from_hdrs": "john@*",
    "denied_from_hdrs": "john@*",
    "last_route": "yes",
    "set_h_from_domain": "isp.example",
    "set_h_reply_to_domain": "isp.example",
    "set_return_path_domain": "isp.example",
    "map_h_from_addresses": "john: j@isp.example",
    "map_h_reply_to_addresses": "john: j@isp.example",
    "map_h_mail_followup_to_addresses": "john: j@isp.example",
    "map_h_sender_addresses": "john: j@isp.example",
    "map_return_path_addresses": "john: j@isp.example",
    "map_outgoing_addresses": "john: j@isp.example",
    "expand_h_sender_domain": "yes",
    "expand_h_sender_address": "yes",
    "do_ssl": "yes",
    "unheard_of": "x",
}

#: Every setting of a get file.
GETS = {
    "protocol": "apop",
    "server": "other.example",
    "port": "1110",
    "resolve_list": "dns_a",
    "user": "other",
    "pass": "other",
    "address": "ann",
    "return_path": "postmaster",
    "do_keep": "yes",
    "do_uidl": "yes",
    "do_uidl_dele": "yes",
    "max_size": "1000",
    "max_size_delete": "yes",
    "max_count": "3",
    "wrapper": "ssh shore nc h 110",
    "do_ssl": "yes",
    "unheard_of": "x",
}

FILES = {"b_route": 'mail_host = "b.example"\n', "b_get": GET, "bounce_txt": "It failed: ${err_msg}\n"}


def imported(main: str = "", route: str = "", get: str = "", dialect: str = "0.2") -> Outcome:
    """A small configuration with more settings in its three files."""
    first = 'host_name = "gateway.home.example"\nonline_routes.isp = "/etc/masqmail/a.route"\n'
    first += 'online_gets.isp = "/etc/masqmail/a.get"\n'
    return import_texts(first + main, dialect, a_route=ROUTE + route, a_get=GET + get, **FILES)


def tables(outcome: Outcome) -> dict[str, Any]:
    return tomllib.loads(outcome.toml)


def is_heard(name: str, before: Outcome, after: Outcome) -> bool:
    """Whether a setting changes the new file, a secret, or is named in the report."""
    told = any(note.setting.startswith(f"{name} ") for note in after.notes)
    return told or tables(after) != tables(before) or after.secrets != before.secrets


@pytest.mark.parametrize("dialect", ["0.2", "0.3", "1.0"])
@pytest.mark.parametrize("name", MAIN)
def test_no_setting_of_the_main_file_is_dropped(name: str, dialect: str) -> None:
    after = imported(main=f'{name} = "{MAIN[name]}"\n', dialect=dialect)
    assert is_heard(name, imported(dialect=dialect), after) or name == "host_name"


@pytest.mark.parametrize("dialect", ["0.2", "0.3", "1.0"])
@pytest.mark.parametrize("name", ROUTES)
def test_no_setting_of_a_route_file_is_dropped(name: str, dialect: str) -> None:
    after = imported(route=f'{name} = "{ROUTES[name]}"\n', dialect=dialect)
    assert is_heard(name, imported(dialect=dialect), after)


@pytest.mark.parametrize("name", GETS)
def test_no_setting_of_a_get_file_is_dropped(name: str) -> None:
    after = imported(get=f'{name} = "{GETS[name]}"\n')
    assert is_heard(name, imported(), after) or name == "do_uidl"  # what is always done


@pytest.mark.parametrize("name", ROUTES)
def test_no_setting_of_a_pipe_route_is_dropped(name: str) -> None:
    pipe = 'protocol = pipe\npipe = "/bin/x"\n'
    after = imported(route=pipe + f'{name} = "{ROUTES[name]}"\n')
    assert is_heard(name, imported(route=pipe), after) or name == "protocol"


def test_what_has_no_counterpart_is_a_comment_in_the_file() -> None:
    outcome = imported(main='log_dir = "/var/log/x"\n', route="do_ssl = yes\n", get="max_size_delete = yes\n")
    comments = [line for line in outcome.toml.splitlines() if line.startswith("#")]
    for name in ("log_dir", "do_ssl", "max_size_delete"):
        assert any(name in line for line in comments), name


def test_no_secret_is_told_where_its_setting_is() -> None:
    route = 'auth_secret = "hush1"\nauth_secret = "hush2"\n'
    get = 'pass = "hush3"\nuser = ""\n'
    outcome = imported(route=route, get=get)
    assert "hush" not in outcome.toml + "".join(map(str, outcome.notes))


VALUES = st.text(alphabet='ab1.*?[]@<>:;/-_ ,"\\$\n\0\x7fü#%', max_size=12) | st.sampled_from(
    ["yes", "no", "0", "-1", "99999999999999999999", "*", "<>", "a@b", "*@b", "a: b@c", "/etc/masqmail/a.route"]
)


def statements(names: dict[str, str]) -> st.SearchStrategy[str]:
    """Some settings with any values, and some with the good ones."""
    pair = st.sampled_from(sorted(names)).flatmap(
        lambda name: st.tuples(st.just(name), st.just(names[name]) | VALUES)
    )

    def written(pairs: list[tuple[str, str]]) -> str:
        quoted = ((name, value.replace("\\", "\\\\").replace('"', '\\"')) for name, value in pairs)
        return "".join(f'{name} = "{value}"\n' for name, value in quoted)

    return st.lists(pair, max_size=5).map(written)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(statements(MAIN), statements(ROUTES), statements(GETS), st.sampled_from(Dialect))
def test_whatever_stands_in_the_files_the_outcome_loads(main: str, route: str, get: str, dialect: Dialect) -> None:
    outcome = imported(main, route, get, dialect.value)
    assert [fault for fault in faults_of(outcome) if NOT_YET not in fault] == []


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(Dialect))
def test_files_that_are_none_do_no_harm(main: str, route: str, dialect: Dialect) -> None:
    outcome = import_texts(f"{main}\nonline_routes.a = /etc/masqmail/a.route\n", dialect.value, a_route=route)
    tomllib.loads(outcome.toml)
