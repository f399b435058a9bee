import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from masqmail.system.watch import Watcher

pytestmark = pytest.mark.anyio


async def changes(watcher: Watcher) -> set[Path]:
    with anyio.fail_after(5):
        return await anext(watcher)


async def nothing(watcher: Watcher) -> bool:
    """Whether nothing changed: another change, made now, is the first to be told of."""
    with anyio.move_on_after(0.01):
        await anext(watcher)
        return False
    return True


def write(path: Path) -> None:
    path.write_text("x")


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("x")
    other.replace(path)


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("x")


@pytest.mark.parametrize("change", [write, replace])
async def test_a_file_that_appears_has_changed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "connection"
    with Watcher([path]) as watcher:
        change(path)
        assert await changes(watcher) == {path}


@pytest.mark.parametrize(
    "change", [write, replace, append, os.unlink, lambda path: path.rename(path.parent / "gone")]
)
async def test_a_file_that_is_there_changes_in_every_way(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "connection"
    path.write_text("office")
    with Watcher([path]) as watcher:
        change(path)
        assert await changes(watcher) == {path}


async def test_other_files_of_the_folder_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "connection"
    with Watcher([path]) as watcher:
        write(tmp_path / "connections")
        assert await nothing(watcher)
        write(path)
        assert await changes(watcher) == {path}


async def test_a_folder_changes_with_its_entries(tmp_path: Path) -> None:
    with Watcher([tmp_path]) as watcher:
        write(tmp_path / "letter")
        assert await changes(watcher) == {tmp_path}


async def test_a_file_in_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    path = tmp_path / "run" / "masqmail" / "connection"
    with Watcher([path]) as watcher:
        (tmp_path / "run").mkdir()
        await changes(watcher)
        (tmp_path / "run" / "masqmail").mkdir()
        await changes(watcher)
        write(path)
        assert await changes(watcher) == {path}


async def test_a_folder_that_goes_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "connection"
    with Watcher([path]) as watcher:
        folder.rmdir()
        assert await changes(watcher) == {path}
        folder.mkdir()
        assert await changes(watcher) == {path}
        write(path)
        assert await changes(watcher) == {path}


async def test_the_file_behind_a_link_counts(tmp_path: Path) -> None:
    target, link = tmp_path / "a" / "target", tmp_path / "b" / "link"
    for path in (target, link):
        path.parent.mkdir()
    link.symlink_to("../a/target")
    with Watcher([link]) as watcher:
        write(target)
        assert await changes(watcher) == {link}


async def test_links_in_a_circle_are_no_trouble(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.symlink_to(two)
    two.symlink_to(one)
    with Watcher([one]) as watcher:
        one.unlink()
        assert await changes(watcher) == {one}


async def test_many_changes_come_as_one(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(3)]
    with Watcher(paths) as watcher:
        for path in paths:
            write(path)
        assert await changes(watcher) == set(paths)
        assert await nothing(watcher)


async def test_an_overflow_counts_as_a_change_of_everything(tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    with Watcher(paths) as watcher:
        watcher._note(-1, 0x4000, "")
        assert watcher._changed == set(paths)


async def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    watcher = Watcher([tmp_path])
    watcher.close()
    watcher.close()
