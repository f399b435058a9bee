"""Accounts that are not configured any more: after a while what is known of them is forgotten.

Until then one that comes back goes on as before, and nothing that was kept on its server comes a second time.
"""

import json
from collections.abc import Collection
from datetime import datetime, timedelta

from masqmail.daemon.fetch import standing, uids
from masqmail.spool.api import Spool
from masqmail.system.clock import Clock
from masqmail.system.events import ACCOUNT_FORGOTTEN, emit

#: How long an account must have been gone. Somebody may just be away, or try something else.
GONE_AFTER = timedelta(days=30)

#: How often to look, besides at each change of the configuration.
LOOK_EVERY = timedelta(hours=1)

#: Marks that are dropped at a time, so that nothing else waits long.
SLICE = 2000

#: Under this name the spool has all accounts there were, and since when each is gone; empty for those of today.
MEMORY = "fetch accounts"


class GoneAccounts:
    """Notes which accounts there are, and forgets those that have been gone for long."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock
        self._seen: frozenset[str] | None = None
        self._looked_at = 0.0

    async def look(self, configured: Collection[str]) -> None:
        """To be called now and then with the accounts of today."""
        accounts, boottime = frozenset(configured), self._clock.boottime()
        if accounts == self._seen and boottime - self._looked_at < LOOK_EVERY.total_seconds():
            return
        text = await self._spool.recall(MEMORY)
        known: dict[str, str] = json.loads(text) if text else {}
        now = self._clock.now()
        gone = {name: known[name] or now.isoformat() for name in known.keys() - accounts}
        for name in [name for name, since in gone.items() if now - datetime.fromisoformat(since) >= GONE_AFTER]:
            await self._forget(name)
            del gone[name]
        if (found := dict.fromkeys(accounts, "") | gone) != known:
            await self._spool.remember(MEMORY, json.dumps(found))
        self._seen, self._looked_at = accounts, boottime

    async def _forget(self, account: str) -> None:
        known = list(await self._spool.fetch_marks(account))
        for start in range(0, len(known), SLICE):
            await self._spool.forget_fetched(account, known[start : start + SLICE])
        for memory in (standing.MEMORY, uids.MEMORY):
            await self._spool.remember(memory + account, "")
        emit(ACCOUNT_FORGOTTEN, account=account, marks=len(known))
