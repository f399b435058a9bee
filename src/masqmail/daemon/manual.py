"""Links declared up or down by hand: they survive a restart of the daemon, not a reboot."""

import json
from collections.abc import Collection
from pathlib import Path

from masqmail.links.board import LinkBoard
from masqmail.routing.link import ALWAYS, LinkState
from masqmail.spool.api import Spool

_KEY = "links declared by hand"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ManualLinks:
    """Declares links on the board and remembers it in the spool, with the boot it was said in."""

    def __init__(self, board: LinkBoard, spool: Spool, boot_id: str | None = None) -> None:
        self._board = board
        self._spool = spool
        self._boot_id = _BOOT_ID.read_text().strip() if boot_id is None else boot_id

    async def restore(self, links: Collection[str]) -> None:
        """Declares again what was declared since the machine started."""
        text = await self._spool.recall(_KEY)
        if text is None:
            return
        remembered = json.loads(text)
        if remembered["boot"] == self._boot_id:
            for name, state in remembered["links"].items():
                if name in links and name != ALWAYS:  # an older version remembered that as well
                    self._board.set_manual(name, LinkState(state))

    async def declare(self, name: str, state: LinkState) -> None:
        """Up or down, until somebody says otherwise."""
        self._board.set_manual(name, state)
        await self._remember()

    async def give_back(self, name: str) -> None:
        """Its detector decides again."""
        self._board.clear_manual(name)
        await self._remember()

    async def _remember(self) -> None:
        links = {name: state.value for name, state in self._board.manual_overrides().items()}
        await self._spool.remember(_KEY, json.dumps({"boot": self._boot_id, "links": links}))
