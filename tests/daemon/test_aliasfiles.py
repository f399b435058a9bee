"""Alias files are read when they change."""

import os
from pathlib import Path

import pytest

from masqmail.daemon.aliasfiles import MAX_FILE_BYTES, AliasFiles, read_included


def names(files: AliasFiles, *wanted: str) -> list[bool]:
    return [any(table.find(name, match_case=False) for table in files.tables()) for name in wanted]


def test_an_edit_counts_for_the_next_message(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    path.write_text("ann: joe\n")
    files = AliasFiles([path])
    assert names(files, "ann", "bob") == [True, False]
    first = files.tables()[0]
    assert files.tables()[0] is first  # not read again
    path.write_text("bob: joe, eve\n")
    assert names(files, "ann", "bob") == [False, True]


def test_the_mark_that_some_editors_put_first_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    path.write_text("\ufeffann: joe\n")
    assert names(AliasFiles([path]), "ann") == [True]
    assert read_included(str(path)) == "ann: joe\n"


def test_an_edit_that_keeps_size_and_date_counts_too(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    path.write_text("ann: joe\n")
    files = AliasFiles([path])
    assert names(files, "ann") == [True]
    before = path.stat()
    path.write_text("bob: joe\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert names(files, "ann", "bob") == [False, True]


def test_a_missing_file_stops_nothing_and_is_a_problem(tmp_path: Path) -> None:
    here, gone = tmp_path / "here", tmp_path / "gone"
    here.write_text("ann: joe\n")
    files = AliasFiles([gone, here])
    assert names(files, "ann") == [True]
    assert files.problems() == [f"the alias file {gone} cannot be read: No such file or directory"]
    gone.write_text("")
    assert files.problems() == []


def test_a_file_that_is_removed_says_nothing_any_more(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    path.write_text("ann: joe\n")
    files = AliasFiles([path])
    assert names(files, "ann") == [True]
    path.unlink()
    assert names(files, "ann") == [False]


def test_while_a_file_cannot_be_read_what_it_said_last_counts(tmp_path: Path) -> None:
    """Or mail to its names would be refused for good."""
    path = tmp_path / "aliases"
    path.write_text("ann: joe\n")
    files = AliasFiles([path])
    assert names(files, "ann") == [True]
    path.unlink()
    path.mkdir()  # cannot be read, for root neither
    assert names(files, "ann") == [True]
    assert "cannot be read" in files.problems()[0]
    path.rmdir()
    path.write_text("bob: joe\n")
    assert names(files, "ann", "bob") == [False, True]
    assert files.problems() == []


def test_a_bad_entry_is_a_problem_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    path.write_text("ann: joe\nno colon here\n")
    (problem,) = AliasFiles([path]).problems()
    assert f"{path}:2" in problem


def test_a_file_without_end_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    with path.open("wb") as file:
        os.truncate(file.fileno(), MAX_FILE_BYTES + 1)
    with pytest.raises(OSError, match="larger than"):
        read_included(str(path))


def test_glob_files_are_read_when_they_change_and_have_their_problems(tmp_path: Path) -> None:
    path = tmp_path / "globs"
    files = AliasFiles([], [path])
    assert files.globs() == []
    assert files.problems() == [f"the alias file {path} cannot be read: No such file or directory"]
    path.write_text("*@shop.example: joe\njoe: ann\n")
    (table,) = files.globs()
    assert [entry.name for entry in table.entries] == ["*@shop.example"]
    assert files.tables() == []
    assert files.problems() == [
        f"{path}:2: joe: a glob is for the whole address; write joe@* for this name in every local domain"
    ]
