"""The command line: what may stand where, and what is refused with EX_USAGE."""

import argparse
import os
import re
from pathlib import Path

import pytest

from masqmail import __version__
from masqmail.cli.parser import build_parser

PAGE = Path(__file__).parents[2] / "docs/reference/commands.md"


@pytest.mark.parametrize(
    "line",
    [
        "--json --config FILE queue",
        "queue --json --config FILE",
        "--json queue --config FILE",
        "--config FILE queue list --json",
        "queue --json list --config FILE",
        "queue list --json --config=FILE",
        "queue show ID --json -C FILE",
        "--json -C FILE queue show ID",
        "link --json --config FILE",
        "link up dsl --json --config FILE",
        "status --config FILE --json",
        "explain --json ann@net.example --config FILE",
    ],
)
def test_json_and_config_stand_before_or_after_the_command(line: str) -> None:
    options = build_parser().parse_args(line.split())
    assert (options.json, options.config) == (True, "FILE")


def test_neither_is_given_by_default() -> None:
    options = build_parser().parse_args(["queue", "list"])
    assert (options.json, options.config) == (False, None)


def test_commands_without_a_verb_list() -> None:
    parser = build_parser()
    assert parser.parse_args(["queue"]).handler is parser.parse_args(["queue", "list"]).handler
    assert parser.parse_args(["link"]).handler is parser.parse_args(["link", "list"]).handler


@pytest.mark.parametrize(
    "line",
    ["nonsense", "--nonsense", "queue nonsense", "queue show", "link up", "explain", "log --limit many", "passwd",
     "fetch --message", "init", "import", "status extra"],
)  # fmt: skip
def test_what_makes_no_sense_is_a_usage_error(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(line.split())
    assert ended.value.code == os.EX_USAGE
    assert "usage: masqmail" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["queue", "show", ""],
        ["queue", "remove", "--all", "--sender", ""],
        ["queue", "bounce", "--older-than="],
        ["queue", "hold", "1m7x", ""],
        ["flush", "--route", ""],
        ["flush", "--assume-up", ""],
        ["fetch", ""],
        ["fetch", "gmx", "--message", ""],
        ["link", "up", ""],
        ["explain", "ann@net.example", "--link", ""],
        ["log", ""],
    ],
)
def test_an_empty_argument_does_not_mean_all_of_them(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(words)
    assert ended.value.code == os.EX_USAGE
    assert "it is empty; is a variable not set?" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"MasqMail {__version__}\n"


def _commands(parser: argparse.ArgumentParser, name: str = "masqmail") -> dict[str, argparse.ArgumentParser]:
    """Every command that does something, by its full name."""
    found = {name: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, sub in action.choices.items():
                found |= _commands(sub, f"{name} {word}")
    return found


def test_the_reference_page_has_every_command_and_option_and_no_other() -> None:
    everywhere = {"--help", "--config", "--json"}
    sections = dict(re.findall(r"^## `(masqmail[^`]*)`\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S))
    assert everywhere <= set(re.findall(r"`(--[a-z-]+)", sections.pop("masqmail")))
    commands = _commands(build_parser())
    del commands["masqmail"]
    assert set(sections) == set(commands)
    for name, parser in commands.items():
        options = {option for action in parser._actions for option in action.option_strings if option[:2] == "--"}
        assert set(re.findall(r"^\| `(--[a-z-]+)", sections[name], re.M)) == options - everywhere, name
