"""How many reports go out: whoever writes under false addresses must not make us write to them without end."""

from collections import Counter, deque

from masqmail.frozen import frozen
from masqmail.system.clock import Clock

#: The time in which reports are counted, in seconds of BOOTTIME.
WINDOW_SECONDS = 3600.0

#: What may go out in that time: to one address, and to all together.
MAX_TO_ONE = 100
MAX_TO_ALL = 500

#: Addresses that a notice about held reports names; the others are only counted.
MAX_NAMED = 20


@frozen
class HeldReports:
    """What was held back since the last notice: how many by address, as far as they are named."""

    count: int
    named: dict[str, int]


class ReportCap:
    """Counts reports. It forgets at a restart, which lets through as many again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: deque[tuple[float, str]] = deque()
        self._to: Counter[str] = Counter()
        self._held = 0
        self._named: Counter[str] = Counter()
        self._told_at: float | None = None

    def takes(self, address: str) -> bool:
        """Whether one more report may go to an address now; what may not is remembered for the postmaster."""
        now = self._clock.boottime()
        while self._sent and now - self._sent[0][0] >= WINDOW_SECONDS:
            _, old = self._sent.popleft()
            self._to[old] -= 1
            if not self._to[old]:
                del self._to[old]
        if len(self._sent) < MAX_TO_ALL and self._to[address] < MAX_TO_ONE:
            self._sent.append((now, address))
            self._to[address] += 1
            return True
        self._held += 1
        if address in self._named or len(self._named) < MAX_NAMED:
            self._named[address] += 1
        return False

    def news(self) -> HeldReports | None:
        """What to tell the postmaster, at most once in the time in which reports are counted."""
        is_early = self._told_at is not None and self._clock.boottime() - self._told_at < WINDOW_SECONDS
        return None if is_early or not self._held else HeldReports(self._held, dict(self._named))

    def told(self, news: HeldReports) -> None:
        """The postmaster knows now."""
        self._told_at = self._clock.boottime()
        self._held -= news.count
        self._named = +(self._named - Counter(news.named))
