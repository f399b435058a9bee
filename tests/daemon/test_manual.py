"""Links declared by hand survive a restart, not a reboot."""

import pytest

from masqmail.daemon.manual import ManualLinks
from masqmail.routing.link import LinkState
from support.assembly import MemorySpool

pytestmark = pytest.mark.anyio


class Board:
    """What was declared on a board."""

    def __init__(self) -> None:
        self.declared: dict[str, LinkState] = {}

    def set_manual(self, name: str, state: LinkState) -> None:
        self.declared[name] = state

    def clear_manual(self, name: str) -> None:
        del self.declared[name]

    def manual_overrides(self) -> dict[str, LinkState]:
        return dict(self.declared)


async def restored(spool: MemorySpool, boot: str, *links: str) -> dict[str, LinkState]:
    board = Board()
    await ManualLinks(board, spool, boot).restore(links)  # type: ignore[arg-type]
    return board.declared


async def test_what_was_declared_is_there_after_a_restart_and_gone_after_a_reboot() -> None:
    spool, board = MemorySpool(), Board()
    links = ManualLinks(board, spool, "boot 1")  # type: ignore[arg-type]
    await links.declare("dsl", LinkState.UP)
    await links.declare("umts", LinkState.DOWN)
    await links.declare("wifi", LinkState.UP)
    await links.give_back("wifi")
    assert await restored(spool, "boot 1", "dsl", "umts", "wifi") == {"dsl": LinkState.UP, "umts": LinkState.DOWN}
    assert await restored(spool, "boot 1", "umts") == {"umts": LinkState.DOWN}  # dsl is not configured any more
    assert await restored(spool, "boot 2", "dsl", "umts") == {}


async def test_what_was_declared_of_the_link_always_does_not_count() -> None:
    spool = MemorySpool()
    await ManualLinks(Board(), spool, "boot 1").declare("always", LinkState.DOWN)  # type: ignore[arg-type]
    assert await restored(spool, "boot 1", "always") == {}


async def test_without_anything_declared_nothing_is_restored() -> None:
    assert await restored(MemorySpool(), "boot 1", "dsl") == {}
