"""What is known of an account from its last fetches, and what of it outlives the daemon."""

import json
from dataclasses import dataclass, field
from datetime import datetime

from masqmail.mail.outcome import Culprit
from masqmail.spool.api import Spool

#: Under this name and that of the account the spool has it.
MEMORY = "fetch account "


@dataclass(slots=True)
class Standing:
    """How an account stands. `reason` says how its last fetch failed, else what it did.

    `failing_since` (MONOTONIC) is the first failure in a row, `is_told` whether the postmaster knows of it. `wanted`
    are the messages that somebody wants though they are big.
    """

    last_at: datetime | None = None  # fetched to the end
    reason: str = ""
    failures: int = 0
    culprit: Culprit = Culprit.SESSION
    failing_since: float = 0.0
    failing_at: datetime | None = None  # the same by the wall clock
    is_told: bool = False
    wanted: list[str] = field(default_factory=list)

    @property
    def is_refused(self) -> bool:
        """Whether name or password are the trouble."""
        return bool(self.failures) and self.culprit is Culprit.LOGIN

    def note_failure(self, reason: str, culprit: Culprit, *, got_on: bool, monotonic: float, now: datetime) -> None:
        """One that `got_on` is the first in a row, since it got further than the one before."""
        if not self.failures:
            self.failing_since, self.failing_at = monotonic, now
        self.failures = 1 if got_on else self.failures + 1
        self.reason, self.culprit = reason, culprit

    def note_success(self, reason: str, now: datetime) -> None:
        self.last_at, self.reason, self.failures, self.is_told = now, reason, 0, False


async def remember(spool: Spool, account: str, standing: Standing) -> None:
    """Keeps what is worth it."""
    facts = {
        "last_at": standing.last_at.isoformat() if standing.last_at else None,
        "reason": standing.reason,
        "is_failing": bool(standing.failures),
        "is_told": standing.is_told,
        "wanted": standing.wanted,
    }
    await spool.remember(MEMORY + account, json.dumps(facts))


async def recall(spool: Spool, account: str, monotonic: float) -> Standing:
    """What an earlier daemon has kept; a failure begins anew."""
    text = await spool.recall(MEMORY + account)
    if not text:
        return Standing()
    facts = json.loads(text)
    return Standing(
        last_at=datetime.fromisoformat(facts["last_at"]) if facts["last_at"] else None,
        reason=facts["reason"],
        failures=1 if facts["is_failing"] else 0,
        failing_since=monotonic,
        is_told=facts["is_told"],
        wanted=facts["wanted"],
    )
