"""The users file keeps every line it has, and nobody else may read it."""

import os
from pathlib import Path

import pytest

from masqmail.cli.passwords import set_password
from masqmail.proto.sasl import verify_password

pytestmark = pytest.mark.slow  # a password hash takes its time, on purpose


def _users(path: Path) -> dict[str, str]:
    return dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)


def test_a_new_file_is_for_owner_and_group_alone(tmp_path: Path) -> None:
    path = tmp_path / "users"
    set_password(path, "john", "s3cret ü", gid=os.getgid())
    assert verify_password(_users(path)["john"], "s3cret ü")
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["users"]


def test_one_line_changes_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"# who may log in\nann:$scrypt$x\n john :old\n\xff:odd\n")
    path.chmod(0o600)
    set_password(path, "john", "new")
    assert path.read_bytes().startswith(b"# who may log in\nann:$scrypt$x\n\xff:odd\njohn:$scrypt$")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["", "a:b", "a\nb", " john", "#john", "\x1b"])
def test_a_name_that_the_file_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no user name"):
        set_password(tmp_path / "users", name, "x")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        set_password(tmp_path / "none" / "users", "john", "x")
