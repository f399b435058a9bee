"""Programs that are named and not there are worth a word, and never a fault."""

from pathlib import Path

import pytest

from masqmail.config.check import examine
from masqmail.config.load import load
from support.configuration import AS_USER
from support.configuration import advice as advice_of

SMARTHOST = '[routes.x]\nsmarthost = "mail.example.org:587"\n'
LOGIN = 'username = "ann"\n'


def advice(folder: Path, text: str) -> list[str]:
    return [line for line in advice_of(folder, text) if "no program" in line]


MISSING = [
    ('[local]\ndelivery = "mda"\nmda = {}\n', 3),
    ('[local.users.ann]\ndelivery = "mda"\nmda = {}\n', 3),
    ('[routes.fax]\ndeliver = "pipe"\ncommand = {}\n', 3),
    (SMARTHOST + "wrapper = {}\n", 3),
    (SMARTHOST + LOGIN + "password_command = {}\n", 4),
    ('[links.line]\ndetect = "command"\ncommand = {}\n', 3),
]


@pytest.mark.parametrize(("text", "line"), MISSING, ids=range(len(MISSING)))
def test_a_program_that_is_not_there_is_told_with_its_place(tmp_path: Path, text: str, line: int) -> None:
    (found,) = advice(tmp_path, text.format('["/nonexistent/prog", "-x"]'))
    assert found == f'{line}: there is no program "/nonexistent/prog"; install it, or write where it is'
    assert advice(tmp_path, text.format('["/bin/sh", "-x"]')) == []


def test_what_cannot_be_run_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    text = '[local]\ndelivery = "mda"\nmda = ["{}"]\n'
    for path in (tmp_path / "script", tmp_path):
        (found,) = advice(tmp_path, text.format(path))
        assert found == f'3: "{path}" is no program that can be run; install it, or write where it is'
    (tmp_path / "script").chmod(0o755)
    assert advice(tmp_path, text.format(tmp_path / "script")) == []


def test_a_name_alone_is_looked_for_where_the_program_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for mail gets a fixed PATH; the others have the daemon's."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "own-prog").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "own-prog").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (found,) = advice(tmp_path, '[routes.fax]\ndeliver = "pipe"\ncommand = ["own-prog"]\n')
    assert (
        found == '3: there is no program "own-prog" in /usr/local/bin:/usr/bin:/bin; install it, or write where it is'
    )
    assert advice(tmp_path, SMARTHOST + 'wrapper = ["own-prog"]\n') == []
    assert advice(tmp_path, SMARTHOST + 'wrapper = ["sh"]\n') == []
    assert advice(tmp_path, '[routes.fax]\ndeliver = "pipe"\ncommand = ["sh"]\n') == []


@pytest.mark.parametrize("program", ["${user}/bin/prog", "bin/prog", "/bin/sh"])
def test_what_cannot_be_known_from_here_is_not_guessed(tmp_path: Path, program: str) -> None:
    assert advice(tmp_path, f'[local]\ndelivery = "mda"\nmda = ["{program}"]\n') == []


def test_a_folder_that_may_not_be_looked_into_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    text = '[local]\ndelivery = "mda"\nmda = ["/home/ann/prog"]\n'
    file = tmp_path / "own.toml"
    file.write_text(text)
    configuration = load(file, AS_USER)
    monkeypatch.setattr(Path, "stat", refuse)
    assert [fault.wrong for fault in examine(configuration, AS_USER).advice if "program" in fault.wrong] == []
