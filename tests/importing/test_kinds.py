"""Whose a configuration is, and where its files are when it was copied."""

import os
from pathlib import Path

import pytest

from masqmail.importing.files import OldFiles
from masqmail.importing.kinds import Kind, find_kind

PLACES = [
    ("masqmail.conf", Kind.MASQMAIL),
    ("masqmail/masqmail.conf", Kind.MASQMAIL),
    ("etc/masqmail/masqmail.conf", Kind.MASQMAIL),
    ("remotes", Kind.NULLMAILER),
    ("etc/nullmailer/remotes", Kind.NULLMAILER),
    ("dma/dma.conf", Kind.DMA),
    ("ssmtp.conf", Kind.SSMTP),
    ("etc/msmtprc", Kind.MSMTP),
    (".msmtprc", Kind.MSMTP),
]


@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_a_folder_is_known_by_the_file_in_it(tmp_path: Path, name: str, kind: Kind) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    for path in (tmp_path, file):
        found = find_kind(path)
        assert found is not None
        assert (found.kind, found.file) == (kind, file)


SIGNS = [
    ("host_name = x\n", Kind.MASQMAIL),
    ("", Kind.MASQMAIL),
    ("account a\nhost b\n", Kind.MSMTP),
    ("defaults\n", Kind.MSMTP),
    ("Mailhub=x\n", Kind.SSMTP),
    ("SMARTHOST x\n", Kind.DMA),
]


@pytest.mark.parametrize(("text", "kind"), SIGNS)
def test_a_file_of_another_name_is_known_by_what_it_says(tmp_path: Path, text: str, kind: Kind) -> None:
    file = tmp_path / "old"
    file.write_text(text)
    found = find_kind(file)
    assert found is not None
    assert found.kind is kind


def test_nothing_is_nothing(tmp_path: Path) -> None:
    assert find_kind(tmp_path) is None
    assert find_kind(tmp_path / "nowhere") is None


def test_files_of_a_copied_tree_are_found_in_the_copy(tmp_path: Path) -> None:
    folder = tmp_path / "copy/etc/masqmail"
    (folder / "routes").mkdir(parents=True)
    (folder / "routes/a.route").write_text("in the copy")
    (tmp_path / "copy/etc/mailname").write_text("beside it")
    files = OldFiles(folder)
    assert files.read("/etc/masqmail/routes/a.route") == "in the copy"
    assert files.read("/etc/mailname") == "beside it"
    assert files.read("/etc/masqmail/routes/b.route") is None


def test_files_of_a_flat_copy_are_found_too(tmp_path: Path) -> None:
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes/a.route").write_text("here")
    (tmp_path / "b.route").write_text("there")
    files = OldFiles(tmp_path)
    assert files.read("/etc/masqmail/routes/a.route") == "here"
    assert files.read("/etc/masqmail/b.route") == "there"


def test_what_is_no_text_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes("Jürgen".encode("latin-1"))
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "big").write_bytes(b"x" * 1_000_001)
    files = OldFiles(tmp_path)
    assert files.read("/latin") == "Jürgen"
    assert [files.read(f"/{name}") for name in ("fifo", "folder", "big", "a\0b", "none")] == [None] * 5
