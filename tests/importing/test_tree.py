"""Three old configurations, one of each era, and the decisions that the old program would have made."""

import pytest

from masqmail.config.check import examine
from masqmail.config.unsupported import KEYS, WORDS
from support.configuration import AS_ROOT
from support.imported import (
    NOT_YET,
    TREES,
    document,
    explained,
    faults_of,
    import_texts,
    import_tree,
    lines_about,
    supported_part,
    way_of,
)

GATEWAY, LAPTOP, SERVER = NAMES = ("gateway-0.2.20", "laptop-0.3.4", "server-1.0.0")

#: What an import may write and this version still refuses. Whoever builds one of them takes it out here.
WAITING: frozenset[tuple[str, ...]] = frozenset()


def test_there_is_a_tree_of_each_era() -> None:
    assert sorted(path.name for path in TREES.iterdir()) == sorted(NAMES)


def test_what_is_waited_for_is_still_refused() -> None:
    refused = {*KEYS, *((*path, word) for path, (words, _) in WORDS.items() for word in words)}
    assert sorted(WAITING - refused) == [], "supported by now: take it out of WAITING"


@pytest.mark.parametrize("name", NAMES)
def test_a_tree_loads_but_for_what_is_not_supported_yet(name: str) -> None:
    wrong = [fault for fault in faults_of(import_tree(name)) if NOT_YET not in fault]
    assert wrong == []
    if not WAITING:
        assert faults_of(import_tree(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_check_finds_no_fault(name: str) -> None:
    assert examine(supported_part(import_tree(name)), AS_ROOT).faults == ()


@pytest.mark.parametrize(("name", "dialect"), [(GATEWAY, "0.2"), (LAPTOP, "0.3"), (SERVER, "1.0")])
def test_the_version_is_guessed_and_told(name: str, dialect: str) -> None:
    outcome = import_tree(name)
    assert outcome.toml.partition("\n")[0].endswith(f"MasqMail {dialect}")
    assert lines_about(outcome, f"read as MasqMail {dialect}")


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_is_in_the_new_file_or_the_report(name: str) -> None:
    outcome = import_tree(name)
    secrets = [secret.strip() for secret in outcome.secrets.values()]
    assert secrets
    shown = outcome.toml + "".join(map(str, outcome.notes))
    assert [secret for secret in secrets if secret in shown] == []


ANN, BOUNCE = "john@gateway.home.example", "<>"

DECISIONS: list[tuple[str, str, str, tuple[str, ...], tuple[str, str | None]]] = [
    # the gateway: the LAN at any time, and never over a provider
    (GATEWAY, "eve@pc.home.example", ANN, (), ("deliver-remote", "lan")),
    (GATEWAY, "eve@pc.home.example", ANN, ("fastnet",), ("deliver-remote", "lan")),
    (GATEWAY, "eve@printers.example", ANN, ("fastnet",), ("wait", None)),
    (GATEWAY, "root@gateway", ANN, (), ("deliver-local", None)),
    (GATEWAY, "ann@net.example", ANN, (), ("wait", None)),
    (GATEWAY, "ann@net.example", ANN, ("fastnet",), ("deliver-remote", "fastnet")),
    (GATEWAY, "eric@home.example", ANN, ("fastnet",), ("deliver-remote", "fastnet")),
    (GATEWAY, "ann@net.example", ANN, ("slownet",), ("deliver-remote", "slownet")),
    (GATEWAY, "ann@x.dialup-hater.example", ANN, ("fastnet",), ("wait", None)),
    (GATEWAY, "ann@x.dialup-hater.example", ANN, ("slownet",), ("deliver-remote", "slownet")),
    (GATEWAY, "ann@net.example", "root@gateway.home.example", ("fastnet",), ("wait", None)),
    # the office's relay: jane is in both lists, frank and the null sender are in one
    (GATEWAY, "boss@office.example", "jane@home.example", ("fastnet",), ("deliver-remote", "work")),
    (GATEWAY, "boss@office.example", "frank@home.example", ("fastnet",), ("deliver-remote", "fastnet")),
    (GATEWAY, "boss@office.example", BOUNCE, ("fastnet",), ("deliver-remote", "fastnet")),
    (GATEWAY, "boss@office.example", "jane@home.example", ("slownet",), ("deliver-remote", "slownet")),
    # the laptop: one link at a time, and a fax that needs none (its route is not supported yet)
    (LAPTOP, "bob@friends.example", "ann@laptop.example.org", ("home",), ("deliver-remote", "friends")),
    (LAPTOP, "amy@club.example", "ann@laptop.example.org", ("home",), ("deliver-remote", "friends")),
    (LAPTOP, "carl@club.example", "ann@laptop.example.org", ("home",), ("deliver-remote", "home")),
    (LAPTOP, "bob@friends.example", BOUNCE, ("home",), ("deliver-remote", "home")),
    (LAPTOP, "bob@friends.example", "ann@laptop.example.org", ("office",), ("deliver-remote", "office")),
    (LAPTOP, "bob@competitor.example", "ann@laptop.example.org", ("office",), ("wait", None)),
    (LAPTOP, "bob@friends.example", "eve@laptop.example.org", ("office",), ("wait", None)),
    (LAPTOP, "bob@friends.example", "ann@laptop.example.org", (), ("wait", None)),
    # the server: newsletters apart, then the provider, then straight out when that line is up
    (SERVER, "ann@net.example", "newsletter@village.example", (), ("deliver-remote", "bulk")),
    (SERVER, "ann@net.example", "anna@village.example", (), ("deliver-remote", "relay")),
    (SERVER, "ann@net.org", "newsletter@village.example", (), ("deliver-remote", "relay")),
    (SERVER, "bob@spammer.example", "anna@village.example", (), ("wait", None)),
    (SERVER, "bob@spammer.example", "anna@village.example", ("backup",), ("deliver-remote", "backup")),
    (SERVER, "root@village.example", "ann@net.example", (), ("deliver-local", None)),
]


@pytest.mark.parametrize(("name", "address", "sender", "up", "expected"), DECISIONS)
def test_mail_goes_where_the_old_program_would_have_sent_it(
    name: str, address: str, sender: str, up: tuple[str, ...], expected: tuple[str, str | None]
) -> None:
    assert way_of(import_tree(name), address, sender, *up) == expected


REWRITTEN: list[tuple[str, str, tuple[str, ...], dict[str, str]]] = [
    (
        GATEWAY,
        "john@home.example",
        ("fastnet",),
        {"return_path": "jsmith@fastnet.example", "from": "John Smith <jsmith@fastnet.example>"},
    ),
    (GATEWAY, "eve@home.example", ("fastnet",), {"return_path": "eve@fastnet.example"}),
    (GATEWAY, "eve@home.example", ("slownet",), {"return_path": "eve@slownet.example"}),
    (GATEWAY, "eve@elsewhere.example", ("fastnet",), {}),
    (GATEWAY, BOUNCE, ("fastnet",), {}),
    (SERVER, "anna@village.example", (), {"return_path": "anna.bounces@provider.example"}),
    (SERVER, "mayor@village.example", (), {"return_path": "mayor@provider.example"}),
]


@pytest.mark.parametrize(("name", "sender", "up", "expected"), REWRITTEN)
def test_addresses_are_shown_outside_as_before(
    name: str, sender: str, up: tuple[str, ...], expected: dict[str, str]
) -> None:
    [step] = explained(import_tree(name), "ann@net.org", sender, *up)["plan"]
    found = {change["field"]: change["to"] for change in step["rewrites"]}
    assert {field: found.get(field) for field in expected} == expected
    assert expected or not found


def test_the_gateway_as_a_whole() -> None:
    found = document(import_tree(GATEWAY))
    dialer = {"detect": "masqdialer", "server": "localhost:224"}
    assert found["links"] == {"fastnet": dialer, "slownet": dialer}
    assert list(found["routes"]) == ["lan", "work", "slownet", "fastnet"]
    assert found["routes"]["fastnet"]["links"] == ["fastnet", "slownet"]
    assert (found["routes"]["fastnet"]["smarthost"], found["routes"]["fastnet"]["tls"]) == (
        ["mail.fastnet.example:465"],
        "implicit",
    )
    assert found["routes"]["slownet"]["pop_before_smtp"] == "slownet"
    assert found["fetch"]["fastnet"] == {
        "links": ["fastnet"],
        "protocol": "pop3",
        "server": "pop.fastnet.example:110",
        "tls": "starttls",
        "username": "jsmith",
        "password_file": "fetch-fastnet.secret",
        "auth": ["apop"],
        "deliver_to": "john",
        "keep": True,
        "max_size": 500000,
    }
    assert found["fetch"]["rare"]["interval"] == "manual"
    assert found["fetch"]["slownet"]["tls"] == "implicit"
    assert found["local"]["users"] == {"bob": {"delivery": "mda"}, "fritz": {"delivery": "maildir"}}
    assert "${failed_recipients}" in found["notices"]["bounce_template"]
    assert found["queue"] == {"warn_after": ["1h", "4h", "1d"], "give_up_after": "7d"}


def test_the_secrets_are_those_of_the_files_that_name_them() -> None:
    outcome = import_tree(GATEWAY)
    assert outcome.secrets == {
        "fastnet.secret": "fast secret\n",
        "fetch-fastnet.secret": "fetch secret\n",
        "fetch-rare.secret": "rare secret\n",
        "fetch-slownet.secret": "slow secret\n",
    }


TOLD = [
    (GATEWAY, "wrapper", "certificate was not checked"),
    (GATEWAY, "expand_h_sender_address", "Sender"),
    (GATEWAY, "map_return_path_addresses", "only local addresses"),
    (GATEWAY, "allowed_return_paths", "never matched"),
    (GATEWAY, "/etc/aliases:6", "continues"),
    (GATEWAY, "ident_trusted_nets", "nobody may remove mail by telling a name"),
    (LAPTOP, "/etc/aliases:3", "list is read"),
    (LAPTOP, "local_hosts", "blanks"),
    (SERVER, "allowed_senders", "1.0.0"),
    (SERVER, "listen_addresses", "everybody"),
]


@pytest.mark.parametrize(("name", "setting", "words"), TOLD)
def test_what_means_something_else_is_told(name: str, setting: str, words: str) -> None:
    assert [line for line in lines_about(import_tree(name), setting) if words in line]


def test_hosts_that_were_trusted_to_tell_the_user_are_asked_and_trusted_no_more() -> None:
    outcome = import_tree(GATEWAY)
    assert document(outcome)["smtp"]["ident_networks"] == ["192.168.1.0/24"]


def test_both_lists_of_senders_must_fit() -> None:
    main = 'host_name = "a.example"\nonline_routes.x = "/etc/masqmail/a.route"\n'
    route = 'mail_host = "h.example"\nallowed_mail_locals = "jane;frank"\nallowed_return_paths = "*@a.example"\n'
    outcome = import_texts(main, "0.2", a_route=route)
    assert document(outcome)["routes"]["a"]["senders"] == ["jane@a.example", "frank@a.example"]


def test_a_route_that_nobody_could_take_is_left_out_and_told() -> None:
    main = 'host_name = "a.example"\nonline_routes.x = "/etc/masqmail/a.route"\n'
    route = 'mail_host = "h.example"\nallowed_mail_locals = "jane"\nallowed_return_paths = "<>"\n'
    outcome = import_texts(main, "0.2", a_route=route)
    assert "a" not in document(outcome).get("routes", {})
    assert "# [routes.a]" in outcome.toml
    assert lines_about(outcome, "[routes.a]")


def test_links_that_try_routes_in_another_order_get_their_own() -> None:
    main = 'online_routes.x = "/etc/masqmail/a.route;/etc/masqmail/b.route"\n'
    main += 'online_routes.y = "/etc/masqmail/b.route;/etc/masqmail/a.route"\n'
    outcome = import_texts(main, "0.2", a_route='mail_host = "a.example"', b_route='mail_host = "b.example"')
    routes = document(outcome)["routes"]
    assert [(name, route["links"]) for name, route in routes.items()] == [
        ("a", ["x"]),
        ("b", ["x", "y"]),
        ("a-2", ["y"]),
    ]


def test_the_lan_without_a_route_file_has_the_built_in_one() -> None:
    found = document(import_texts('host_name = a\nlocal_nets = "*.home.example"', "0.2"))
    assert found["routes"]["lan"] == {
        "links": ["always"],
        "deliver": "direct",
        "resolve": ["hosts"],
        "pipelining": False,
        "bounce_on_connect_error": True,
        "recipients": ["*@*.home.example"],
    }


DETECTORS = [
    ('online_detect = file\nonline_file = "/run/x"', {"detect": "file", "path": "/run/x"}),
    ('online_detect = pipe\nonline_pipe = "/bin/which x"', {"detect": "command", "command": ["/bin/which", "x"]}),
    ("online_detect = mserver\nmserver_iface = h", {"detect": "masqdialer", "server": "h:224"}),
    ('online_query = "/bin/cat /run/x"', {"detect": "file", "path": "/run/x"}),
    ('online_query = "/bin/echo net"', {"detect": "always"}),
    ('online_query = "/usr/bin/mservdetect h 224"', {"detect": "masqdialer", "server": "h:224"}),
    ("", {"detect": "manual"}),
    ("online_detect = file", {"detect": "manual"}),
]


@pytest.mark.parametrize(("text", "expected"), DETECTORS)
def test_the_online_detection_becomes_a_detector(text: str, expected: dict[str, object]) -> None:
    main = f'host_name = a\nquery_routes.net = "/etc/masqmail/a.route"\n{text}\n'
    found = document(import_texts(main, "0.3", a_route='mail_host = "a.example"'))
    assert found["links"] == {"net": expected}


def test_case_did_not_count_in_lists_of_users() -> None:
    main = 'host_name = "a.example"\nmbox_users = "fritz"\nmaildir_users = "Ann;Fritz"\n'
    outcome = import_texts(main)
    assert document(outcome)["local"]["users"] == {"fritz": {"delivery": "mbox"}, "ann": {"delivery": "maildir"}}
    assert 'Ann is "ann"' in "".join(lines_about(outcome, "maildir_users"))


def test_a_smarthost_gets_the_port_of_the_main_file() -> None:
    main = 'remote_port = 2525\nonline_routes.x = "/etc/masqmail/a.route;/etc/masqmail/b.route"\n'
    outcome = import_texts(main, "0.2", a_route='mail_host = "a.example"', b_route='mail_host = "b.example:26"')
    routes = document(outcome)["routes"]
    assert [routes[name]["smarthost"] for name in "ab"] == [["a.example:2525"], ["b.example:26"]]
