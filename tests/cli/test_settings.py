"""Which daemon a command talks to, without reading the whole configuration."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from masqmail.cli import sendmail_places
from masqmail.cli.configuration import ConfigurationFaulty
from masqmail.cli.settings import configuration, daemon


def _options(config: Path | None = None) -> argparse.Namespace:
    return argparse.Namespace(config=str(config) if config else None)


@pytest.fixture(autouse=True)
def _no_named_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASQMAIL_CONFIG", raising=False)


def test_the_socket_is_where_the_configuration_says(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text('[paths]\nruntime = "run"\n')
    assert daemon(_options(file)).path == str(tmp_path / "run/control.sock")


def test_a_fault_elsewhere_does_not_keep_us_from_the_daemon(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text('[paths]\nruntime = "/run/other"\n[smtp]\nlisten = 5\n')
    assert daemon(_options(file)).path == "/run/other/control.sock"
    with pytest.raises(ConfigurationFaulty, match=r"m\.toml:4: "):
        configuration(_options(file))


def test_the_environment_names_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.toml"
    file.write_text('[paths]\nruntime = "/run/mine"\n')
    monkeypatch.setenv("MASQMAIL_CONFIG", str(file))
    assert daemon(_options()).path == "/run/mine/control.sock"


def test_a_named_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFaulty, match="cannot be read"):
        daemon(_options(tmp_path / "none.toml"))


def test_every_fault_is_told_in_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text("[nonsense]\n[host]\nnome = 1\n")
    with pytest.raises(ConfigurationFaulty) as faulty:
        configuration(_options(file))
    assert [str(fault).split(":")[1] for fault in faulty.value.faults] == ["1", "3"]


def test_a_user_gets_the_daemon_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, own = tmp_path / "system", tmp_path / "own"
    own.mkdir()
    places = [sendmail_places.Place(str(folder), "/spool") for folder in (system, own)]
    monkeypatch.setattr("masqmail.cli.settings.find_places", lambda config: places)
    assert daemon(_options()).path == str(system / "control.sock")
    (own / "control.sock").touch()
    assert daemon(_options()).path == str(own / "control.sock")


def test_what_talks_to_the_daemon_does_not_load_the_program() -> None:
    """The commands that people and scripts call often start in a few hundredths of a second."""
    code = "import sys, masqmail.cli.run as m; m.build_parser(); print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    modules = set(loaded.stdout.split())
    assert "masqmail.cli.queue_commands" in modules
    program = {"asyncio", "anyio", "tomllib", "h11", "sqlite3", "masqmail.config.model", "masqmail.daemon"}
    if sys.version_info < (3, 14):  # since then argparse itself loads it, for its colours
        program.add("dataclasses")
    assert not modules & (program | {"email", "http.client", "pathlib", "socket", "urllib"})
