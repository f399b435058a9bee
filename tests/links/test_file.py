from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest

from masqmail.links.detector import Observation
from masqmail.links.file import FileDetector, Options
from masqmail.routing.link import LinkState
from masqmail.system.clock import FakeClock

pytestmark = pytest.mark.anyio


def detector(path: Path) -> FileDetector:
    return FileDetector("office", Options(path), FakeClock())


@pytest.mark.parametrize(
    "content", [b"office", b"office\n", b" office \r\n", b"office\nhome\n", b"office\n" + bytes(9999)]
)
async def test_a_file_that_names_the_link_brings_it_up(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "connection"
    path.write_bytes(content)
    assert await detector(path).ask() == Observation(LinkState.UP, f"{path} names it")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\noffice\n", "is empty"),
        (b"home\n", 'names "home"'),
        (b"Office\n", 'names "Office"'),
        (b"office2", 'names "office2"'),
    ],
)
async def test_any_other_file_does_not(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "connection"
    path.write_bytes(content)
    assert await detector(path).ask() == Observation(LinkState.DOWN, f"{path} {reason}")


async def test_without_a_file_the_link_is_down(tmp_path: Path) -> None:
    path = tmp_path / "connection"
    assert await detector(path).ask() == Observation(LinkState.DOWN, f"{path} does not exist")


async def test_what_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    assert await detector(tmp_path).ask() == Observation(
        LinkState.UNKNOWN, f"{tmp_path} cannot be read: is a directory"
    )


async def next_state(watch: AsyncGenerator[Observation, None], *, not_yet: LinkState | None = None) -> LinkState:
    """The next state, passing over what was found while a file was only half written."""
    with anyio.fail_after(5):
        while (state := (await anext(watch)).state) is not_yet:
            pass
    return state


async def test_changes_are_seen_at_once(tmp_path: Path) -> None:
    path = tmp_path / "connection"
    watch = detector(path).watch()
    assert await next_state(watch) is LinkState.DOWN
    path.write_text("office\n")
    assert await next_state(watch, not_yet=LinkState.DOWN) is LinkState.UP
    path.write_text("home\n")
    assert await next_state(watch, not_yet=LinkState.UP) is LinkState.DOWN
    path.write_text("office\n")
    assert await next_state(watch, not_yet=LinkState.DOWN) is LinkState.UP
    path.unlink()
    assert await next_state(watch, not_yet=LinkState.UP) is LinkState.DOWN
    await watch.aclose()
