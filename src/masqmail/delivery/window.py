"""How much may be on its way unanswered: in bytes two bandwidth-delay products, as measured, and in messages."""

from collections import deque

MAX_WINDOW_BYTES = 4 * 1024 * 1024


class Window:
    """Takes the times at which messages were sent and answered; `size_bytes` follows what the line can hold.

    A message answered now was sent `t` seconds ago, and since then other bytes were answered too: their number
    over `t` is the bandwidth, the shortest `t` the delay. While the window is what holds us back it doubles
    with each round trip; when the line does, it stops growing. It never shrinks below its start.
    """

    def __init__(self, start_bytes: int) -> None:
        self.size_bytes = start_bytes
        self._sent: deque[tuple[int, float, int]] = deque()  # number, when, bytes answered by then
        self._answered_bytes = 0
        self._delay = float("inf")

    def note_sent(self, number: int, now: float) -> None:
        self._sent.append((number, now, self._answered_bytes))

    def note_answered(self, number: int, size_bytes: int, now: float) -> None:
        self._answered_bytes += size_bytes
        while self._sent and self._sent[0][0] < number:
            self._sent.popleft()
        if not self._sent or self._sent[0][0] != number:
            return  # its content was never sent
        _, sent_at, answered_before = self._sent.popleft()
        elapsed = max(now - sent_at, 1e-6)
        self._delay = min(self._delay, elapsed)
        bandwidth = (self._answered_bytes - answered_before) / elapsed
        wanted = int(2 * bandwidth * self._delay)
        self.size_bytes = max(self.size_bytes, min(wanted, MAX_WINDOW_BYTES))
