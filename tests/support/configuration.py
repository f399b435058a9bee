"""Configurations from text, in surroundings that do not depend on this host."""

from dataclasses import replace
from pathlib import Path

import pytest

from masqmail.config.check import Findings, examine
from masqmail.config.faults import ConfigError
from masqmail.config.load import load, parse
from masqmail.config.model import Configuration
from masqmail.config.surroundings import Surroundings

FILE = Path("/etc/masqmail/masqmail.toml")

AS_USER = Surroundings(
    is_root=False,
    host_name="laptop.example.org",
    user_name="ann",
    group_name="users",
    home=Path("/home/ann"),
    config_home=Path("/home/ann/.config"),
    state_home=Path("/home/ann/.local/state"),
    runtime_home=Path("/run/user/1000"),
)
AS_ROOT = replace(AS_USER, is_root=True, user_name="root", group_name="root", home=Path("/root"))


def configuration(text: str, surroundings: Surroundings = AS_ROOT, file: Path = FILE) -> Configuration:
    """The configuration that a file with this text gives."""
    return parse(text.encode(), file, surroundings)


def faults(text: str, surroundings: Surroundings = AS_ROOT) -> list[str]:
    """Every fault of a file with this text, as `line: what is wrong; what to write instead`."""
    with pytest.raises(ConfigError) as caught:
        configuration(text, surroundings)
    return [str(fault).removeprefix(f"{FILE}:") for fault in caught.value.faults]


def findings(folder: Path, text: str, surroundings: Surroundings = AS_USER) -> Findings:
    """What `check` finds in a file with this text in that folder."""
    file = folder / "own.toml"
    file.write_text(text)
    return examine(load(file, surroundings), surroundings)


def advice(folder: Path, text: str, surroundings: Surroundings = AS_USER) -> list[str]:
    """What it advises, in the same form; there is no fault."""
    found = findings(folder, text, surroundings)
    assert found.faults == ()
    return [str(fault).removeprefix(f"{folder}/own.toml:") for fault in found.advice]
