"""The effective configuration as TOML."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.config.load import Surroundings, load
from masqmail.config.reader import settings_of
from masqmail.config.sections import HEADERS
from masqmail.config.show import document, setting_lines, setting_values, show, toml
from masqmail.settings import setting
from support.configuration import AS_ROOT, AS_USER, configuration

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))
WHOLE = Path(__file__).parent / "whole.toml"


@pytest.mark.parametrize("surroundings", [AS_ROOT, AS_USER], ids=["root", "user"])
@pytest.mark.parametrize("file", [WHOLE, *EXAMPLES], ids=lambda file: file.stem)
def test_what_is_shown_loads_as_the_same_configuration(file: Path, surroundings: Surroundings) -> None:
    found = load(file, surroundings)
    assert found.path is not None
    again = configuration(show(found), surroundings, found.path)
    assert again == found
    assert (list(again.routes), list(again.links)) == (list(found.routes), list(found.links))


def test_every_setting_is_shown_with_its_effective_value() -> None:
    shown = show(configuration(WHOLE.read_text()))
    document = tomllib.loads(shown)
    assert document["smtp"]["max_message_size"] == "50MB"
    assert document["queue"]["retry"] == ["1m", "5m", "15m", "30m", "1h"]
    assert document["local"]["alias_user"] == "masqmail"
    assert document["links"]["script"] == {
        "detect": "command",
        "command": ["/usr/local/bin/which-link"],
        "interval": "5s",
    }
    sections = ["host", "paths", "submission", "queue", "smtp", "links", "routes", "local", "fetch", "notices", "log"]
    assert list(document) == sections
    assert document["notices"] == {
        "bounce_template": "/etc/masqmail/bounce.txt",
        "warning_template": "${recipients} will be tried until ${gives_up_at}.\n",
        "language": "de",
    }
    for kind in HEADERS.values():
        assert all(f"\n{key} = " in shown or f"# {key} is not set" in shown for key in settings_of(kind))


@pytest.mark.parametrize("file", [WHOLE, *EXAMPLES], ids=lambda file: file.stem)
def test_programs_get_what_people_are_shown(file: Path) -> None:
    found = load(file, AS_ROOT)

    def what_is_set(table: dict[str, Any]) -> dict[str, Any]:
        return {
            key: what_is_set(value) if isinstance(value, dict) else value
            for key, value in table.items()
            if value is not None
        }

    whole = json.loads(json.dumps(document(found)))
    assert what_is_set(whole) == tomllib.loads(show(found))


def test_what_is_not_set_is_a_comment_that_says_what_holds() -> None:
    shown = show(configuration('[routes.x]\nsmarthost = "a.example:25"'))
    assert "# tls_ca is not set: the system's store\n" in shown
    assert "# username is not set\n" in shown


def test_the_defaults_alone_are_shown_too(tmp_path: Path) -> None:
    assert show(load(None, AS_USER)).startswith('# "no file: these are the defaults"\n\n[host]\n')


def test_a_name_that_is_no_bare_key_is_quoted() -> None:
    shown = show(configuration('[routes."a.b"]\ndeliver = "direct"'))
    assert '[routes."a.b"]' in shown and '[routes."a.b".rewrite]' in shown


@dataclass(frozen=True)
class _WithSecret:
    password: str = setting("A secret.", default="hunter2", secret=True)
    name: str = setting("No secret.", default="ann")


def test_a_secret_is_hidden() -> None:
    assert list(setting_lines(_WithSecret())) == ["# password is hidden", 'name = "ann"']
    assert setting_values(_WithSecret()) == {"name": "ann"}


_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(_VALUES)
def test_any_value_is_written_as_toml_that_reads_the_same(value: Any) -> None:
    assert tomllib.loads(f"key = {toml(value)}") == {"key": value}
