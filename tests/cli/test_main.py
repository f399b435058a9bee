"""`masqmail` itself, called as the original MasqMail was."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from masqmail.cli import main as program
from masqmail.cli.main import COMMANDS, is_classic, mailq, main
from masqmail.cli.parser import build_parser


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-bd -q10m", True),
        ("-qo dsl", True),
        ("-go dsl", True),
        ("-Mrm 1", True),
        ("-C /x.toml -bp", True),
        ("--config /x.toml -q", True),
        ("ann@example.org", True),
        ("-t", True),
        ("-- ann@example.org", True),
        ("-v", True),
        ("-v ann", True),
        ("-v -qo dsl", True),
        ("-v ann@example.org", True),
        ("-v status", False),
        ("-C /x.toml -v --json queue list", False),
        ("", False),
        ("-h", False),
        ("--help", False),
        ("--version", False),
        ("status -C /x.toml", False),
        ("-C /x.toml queue list", False),
        ("-C/x.toml --json status", False),
        ("--config ann@x/x.toml status", False),
        ("explain ann@example.org", False),
    ],
)
def test_a_command_line_of_the_original_is_known(line: str, expected: bool) -> None:
    assert is_classic(line.split()) == expected


def test_every_command_is_known_as_one() -> None:
    (commands,) = (action.choices for action in build_parser()._actions if isinstance(action.choices, dict))
    assert set(commands) == COMMANDS


def test_a_v_before_a_command_does_not_change_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.toml").write_text("")
    answers = []
    for words in (["check"], ["-v", "check"]):
        answers.append((main(["--config", str(tmp_path / "own.toml"), *words]), *capsys.readouterr()))
    assert answers[0] == answers[1]
    assert answers[0][0] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "text", "expected"),
    [
        ("check >&- 2>&-", "", (0, "", "")),
        ("check --show >&-", "", (0, "", "")),
        ("check 2>&-", "[nonsense]\n", (os.EX_CONFIG, "", "")),
        ("nonsense 2>&-", "", (os.EX_USAGE, "", "")),
        (
            "passwd ann <&-",
            '[smtp]\nusers = "users"\n',
            (os.EX_DATAERR, "", "masqmail: an empty password is no password\n"),
        ),
        ("ann@x.test <&-", "", (os.EX_NOINPUT, "", "sendmail: cannot read the message: Bad file descriptor\n")),
    ],
)
def test_a_closed_stream_ends_no_command_in_a_traceback(
    tmp_path: Path, line: str, text: str, expected: tuple[int, str, str]
) -> None:
    (tmp_path / "own.toml").write_text('[paths]\nspool = "spool"\nruntime = "."\n' + text)
    (tmp_path / "spool" / "pickup").mkdir(parents=True)
    command = f"{sys.executable} -m masqmail.cli.main --config {tmp_path}/own.toml {line}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == expected


def test_the_original_command_line_is_read_as_that_of_sendmail() -> None:
    module = [sys.executable, "-m", "masqmail.cli.main"]
    done = subprocess.run([*module, "-bV"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sendmail (MasqMail) ")


def test_the_original_command_line_leads_to_our_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda path, words: called.append(words))
    monkeypatch.setattr("os.execvp", lambda path, words: called.append(words))
    for line in ("-bd -q10m", "-qo dsl", "-C /x -bp"):
        called.clear()
        main(line.split())
        expected = {
            "-bd -q10m": ["masqmail", "serve"],
            "-qo dsl": ["masqmail", "flush", "--assume-up", "dsl"],
            "-C /x -bp": ["masqmail", "--config", "/x", "queue", "list"],
        }[line]
        assert called[0] == expected


def test_mailq_passes_over_options_of_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(program, "main", lambda words: called.append(words) or 0)
    monkeypatch.setattr("sys.argv", ["mailq", "-v", "-Ac", "--json"])
    assert mailq() == 0
    assert called == [["queue", "list", "--json"]]
