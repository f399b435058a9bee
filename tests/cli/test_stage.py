"""Which folders the demo takes, and what it writes into them."""

import os
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from masqmail.cli.stage import CannotPlay, Stage, chosen_port, scratch_folder


def test_a_fresh_folder_is_gone_afterwards() -> None:
    with scratch_folder(None) as folder:
        (folder / "file").touch()
    assert not folder.exists()


def test_a_folder_that_does_not_exist_is_made_and_kept(tmp_path: Path) -> None:
    with scratch_folder(str(tmp_path / "a/b")) as folder:
        pass
    assert folder == tmp_path / "a/b"
    assert folder.is_dir()


def test_the_folder_of_an_earlier_demo_is_taken_again(tmp_path: Path) -> None:
    Stage(tmp_path, 2525, 4000)
    (tmp_path / "more").touch()
    with scratch_folder(str(tmp_path)) as folder:
        assert folder == tmp_path


@pytest.mark.parametrize(("name", "text"), [("letter", "mine"), ("masqmail.toml", "[host]\n")])
def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CannotPlay, match="name another folder") as caught, scratch_folder(str(tmp_path)):
        pass
    assert caught.value.exit_code == os.EX_CANTCREAT
    assert (tmp_path / name).read_text() == text


def test_a_path_too_long_for_unix_sockets_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(CannotPlay, match="too long a path"), scratch_folder(str(tmp_path / ("x" * 100))):
        pass


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(CannotPlay, match="cannot use"), scratch_folder(str(file)):
        pass


def test_the_configuration_holds_the_folder_whatever_its_name(tmp_path: Path) -> None:
    folder = tmp_path / 'a "b" \\ ü'
    folder.mkdir()
    stage = Stage(folder, 2525, 4000)
    document = tomllib.loads(stage.config.read_text())
    assert document["local"]["maildir"] == f"{folder}/mailbox"
    assert document["smtp"]["listen"] == ["127.0.0.1:2525"]
    assert document["routes"]["provider"]["smarthost"] == "127.0.0.1:4000"


def test_demos_that_start_together_get_different_ports() -> None:
    with chosen_port() as one, chosen_port() as two:
        assert one != two


def test_the_commands_may_be_far_from_the_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `pip install --user`."""
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "masqmail")])
    with pytest.raises(CannotPlay, match="install the package"):
        Stage(tmp_path, 2525, 4000)
    (tmp_path / "user").mkdir()
    for name in ("masqmail", "sendmail"):
        (tmp_path / "user" / name).touch(0o755)
    (tmp_path / "masqmail").symlink_to("user/masqmail")
    assert Stage(tmp_path, 2525, 4000).programs == str(tmp_path / "user")
