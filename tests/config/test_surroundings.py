"""Where things are by default."""

from dataclasses import replace
from pathlib import Path

import pytest

from masqmail.config.surroundings import Surroundings, full_name
from support.configuration import AS_ROOT, AS_USER


def test_root_has_the_places_of_the_system() -> None:
    assert AS_ROOT.default_file == Path("/etc/masqmail/masqmail.toml")
    assert AS_ROOT.default_spool == Path("/var/spool/masqmail")
    assert AS_ROOT.default_runtime == Path("/run/masqmail")


def test_a_user_has_the_places_of_the_xdg_folders() -> None:
    assert AS_USER.default_file == Path("/home/ann/.config/masqmail/masqmail.toml")
    assert AS_USER.default_spool == Path("/home/ann/.local/state/masqmail")
    assert AS_USER.default_runtime == Path("/run/user/1000/masqmail")


def test_the_environment_names_the_folders() -> None:
    found = Surroundings.of_this_process(
        {
            "HOME": "/h",
            "XDG_CONFIG_HOME": "/c",
            "XDG_STATE_HOME": "/s",
            "XDG_RUNTIME_DIR": "/r",
            "MASQMAIL_CONFIG": "own.toml",
        }
    )
    expected = {
        "home": Path("/h"),
        "config_home": Path("/c"),
        "state_home": Path("/s"),
        "runtime_home": Path("/r"),
        "named_file": Path("own.toml"),
    }
    assert replace(found, **expected) == found


def test_without_an_environment_the_home_comes_from_the_account() -> None:
    found = Surroundings.of_this_process({"XDG_CONFIG_HOME": "relative", "MASQMAIL_CONFIG": ""})
    assert found.config_home == found.home / ".config"
    assert found.state_home == found.home / ".local/state"
    assert found.runtime_home.is_absolute() and found.named_file is None


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("127.0.0.1 localhost\n127.0.1.1 gateway.home.example gateway\n", "gateway.home.example"),
        ("127.0.1.1 gateway gateway.home.example # comment\n", "gateway.home.example"),
        ("# 127.0.1.1 gateway.home.example gateway\n", "gateway"),
        ("127.0.1.1 gateway\n", "gateway"),
        ("127.0.1.1 mygateway.home.example mygateway\n", "gateway"),
        ("", "gateway"),
    ],
)
def test_the_full_host_name_comes_from_the_hosts_file(hosts: str, expected: str) -> None:
    assert full_name("gateway", hosts) == expected
