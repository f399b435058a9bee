"""A Maildir gets each message once, complete and synced, and keeps nothing of a failed attempt."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from masqmail.delivery import maildir

MESSAGE = [b"Subject: one\r\n\r\n", b"body\r", b"\nlast"]
STORED = b"Subject: one\n\nbody\nlast"


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return tmp_path / "Maildir"


def put(box: Path, identity: str = "0a1b2c.7", *, is_first: bool = False) -> bool:
    return maildir.put(str(box), MESSAGE, identity=identity, is_first=is_first)


def names(box: Path) -> dict[str, list[str]]:
    return {part: sorted(os.listdir(box / part)) for part in ("tmp", "new", "cur")}


def test_a_missing_maildir_is_made_for_its_owner_alone(box: Path) -> None:
    assert put(box)
    (message,) = (box / "new").iterdir()
    assert message.read_bytes() == STORED
    assert message.name == "0a1b2c=2E7,S=23"
    assert names(box)["tmp"] == names(box)["cur"] == []
    assert [path.stat().st_mode & 0o777 for path in (box, box / "new", message)] == [0o700, 0o700, 0o600]


def test_the_directory_above_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        put(tmp_path / "missing" / "Maildir")


def test_a_missing_part_is_made(box: Path) -> None:
    (box / "new").mkdir(parents=True)
    assert put(box)
    assert len(names(box)["new"]) == 1


def test_a_repeat_leaves_the_first_copy_alone(box: Path) -> None:
    assert put(box)
    before = names(box)
    assert not put(box)
    assert names(box) == before


@pytest.mark.parametrize("flags", ["", ":2,", ":2,FS"])
def test_a_repeat_is_seen_after_it_was_read(box: Path, flags: str) -> None:
    assert put(box)
    (message,) = (box / "new").iterdir()
    message.rename(box / "cur" / (message.name + flags))
    assert not put(box)
    assert names(box)["new"] == names(box)["tmp"] == []


def test_another_identity_or_size_is_another_message(box: Path) -> None:
    put(box, "a.1")
    put(box, "a.2")
    maildir.put(str(box), [b"other\r\n"], identity="a.1")
    assert names(box)["new"] == ["a=2E1,S=23", "a=2E1,S=6", "a=2E2,S=23"]


def test_a_first_attempt_does_not_look_for_another(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def listdir(path: str) -> list[str]:
        raise AssertionError(f"{path} was listed")

    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", listdir)
        assert put(box, is_first=True)
    assert len(names(box)["new"]) == 1


@pytest.mark.parametrize("identity", ["../../etc/x", ".hidden", "a:2,S", "ü b"])
def test_an_identity_is_made_a_safe_name(box: Path, identity: str) -> None:
    assert put(box, identity)
    (name,) = names(box)["new"]
    assert not set("/:. ") & set(name.removesuffix(",S=23"))
    assert not put(box, identity)


@pytest.mark.parametrize("function", ["write", "fsync", "rename"])
def test_a_failed_attempt_leaves_nothing(box: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    put(box, "other")
    before = names(box)

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, function, fail)
        with pytest.raises(OSError, match="No space left"):
            put(box)
    assert names(box) == before


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("part", ["tmp", "new", "cur"])
def test_what_is_missing_of_a_maildir_stops_no_delivery(box: Path, part: str, is_first: bool) -> None:
    put(box, "other")
    shutil.rmtree(box / part)
    assert put(box, "first", is_first=is_first)
    assert any(name.startswith("first,") for name in os.listdir(box / "new"))


def test_whoever_finds_tmp_finds_the_rest_of_the_maildir(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    mkdir = os.mkdir

    def note(path: str, mode: int) -> None:
        made.append(os.path.basename(path))
        mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", note)
    put(box)
    assert made[-1] == "tmp"


def test_a_body_that_cannot_be_read_leaves_nothing(box: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"Subject: one\r\n\r\n"
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        maildir.put(str(box), pieces(), identity="a")
    assert names(box) == {"tmp": [], "new": [], "cur": []}


def test_what_is_renamed_was_synced_and_its_directory_is_synced_after(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(box, "other")
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        done.append("sync " + os.path.basename(os.path.dirname(os.readlink(f"/proc/self/fd/{descriptor}") + "/")))
        fsync(descriptor)

    def note_rename(source: str, target: str) -> None:
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    put(box)
    assert done[0].startswith("sync ") and done[1:] == ["rename", "sync new"]
