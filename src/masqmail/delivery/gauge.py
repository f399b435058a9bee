"""What the time of one connection goes into: its round trip, its set-up, and the time per message.

Kept by a `delivery.smtp` session, which says what happens when; nothing here looks at a clock. All times are seconds
of one monotonic clock.
"""

from collections import deque
from dataclasses import dataclass

from masqmail.delivery.parallel import PROVEN_MESSAGES, Speed
from masqmail.proto.smtp.pipeline import Pace

#: As long as a message is so near to its end at the other side, it counts as there: TLS adds some bytes.
SLACK_BYTES = 64

#: A server is the slow part when it works for this part of the time that one connection has had something for it.
BUSY_PART = 0.8

#: Round trips of a transaction with one recipient where each command waits for its reply: MAIL, RCPT, DATA, content.
LOCK_STEP_TRIPS = 4

#: Round trips until a session with TLS and a login is ready: TCP, greeting, EHLO, STARTTLS, TLS, EHLO, AUTH.
SETUP_TRIPS = 7


@dataclass(slots=True)
class _Sent:
    """A message that was sent: what we had sent in all when its last byte left, and when that had arrived."""

    number: int
    end: int | None = None
    arrived: float | None = None


class Gauge:
    """The measurements of one session. Where we stream, only the time after a message's arrival counts as its own."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._asked = began
        self._ready: float | None = None
        self.round_trip_seconds = float("inf")
        self._sent: deque[_Sent] = deque()
        self._free = began  # since when the server has had no other message to work on
        self._was_idle = True
        self._kept_waiting = 0.0  # how long a message at the other side had to wait for the one before it
        self._busy_seconds = 0.0
        self._answered = 0
        self._observed_seconds = 0.0  # of these it was busy so long

    # until the session is ready there is one reply to each thing we say

    def note_asked(self, now: float) -> None:
        self._asked = now

    def note_heard(self, now: float) -> None:
        """The connection was made, or a reply came to the only command that was under way."""
        self.round_trip_seconds = min(self.round_trip_seconds, max(now - self._asked, 1e-6))

    def note_waited(self, seconds: float) -> None:
        """The set-up stood still for so long."""
        self._began += seconds

    def note_ready(self, now: float) -> None:
        self._ready = self._free = now

    # messages

    @property
    def is_proven(self) -> bool:
        """Whether so many messages were answered that the measurements can be trusted."""
        return self._answered >= PROVEN_MESSAGES

    @property
    def has_unanswered(self) -> bool:
        """Whether a message was completely sent and has no reply yet."""
        return bool(self._sent)

    @property
    def has_arrived(self) -> bool:
        """Whether a message has arrived at the other side."""
        return self._answered > 0 or (bool(self._sent) and self._sent[0].arrived is not None)

    def note_idle(self, now: float) -> None:
        """There was nothing to send until now."""
        if not self._sent:
            self._free, self._was_idle = now, True

    def note_sent(self, number: int) -> None:
        """The last byte of a message is in the output."""
        self._sent.append(_Sent(number))

    def note_flushed(self, sent_bytes: int) -> None:
        """The output has left; of a TLS record in it the other side can read nothing before it has all of it."""
        for sent in reversed(self._sent):
            if sent.end is not None:
                break
            sent.end = sent_bytes

    def note_acked(self, acked_bytes: int, now: float) -> None:
        """So many of the bytes that were sent have arrived, as their TCP says."""
        for sent in self._sent:
            if sent.arrived is None:
                if sent.end is None or sent.end > acked_bytes + SLACK_BYTES:
                    break
                sent.arrived = now

    def note_answered(self, number: int, now: float, *, is_streaming: bool) -> None:
        """The reply to a message came."""
        while self._sent and self._sent[0].number < number:
            self._sent.popleft()
        if not self._sent or self._sent[0].number != number:
            return
        sent = self._sent.popleft()
        self._answered += 1
        busy = self._work_on(sent, now, is_streaming=is_streaming)
        if self._sent and self._sent[0].arrived is not None:
            self._kept_waiting = max(self._kept_waiting, now - max(self._sent[0].arrived, self._free))
        self._busy_seconds += busy
        self._observed_seconds += busy if self._was_idle else now - self._free
        self._was_idle = False
        self._free = now

    def _work_on(self, sent: _Sent, now: float, *, is_streaming: bool) -> float:
        """How long the connection has been busy with this message and no other."""
        if not is_streaming:
            return now - self._free
        return 0.0 if sent.arrived is None else now - max(sent.arrived, self._free)

    # what it comes to

    def message_seconds(self, now: float, *, is_streaming: bool) -> float:
        """The time of a message: the mean so far, or longer where one is taking longer and keeps the next waiting."""
        if not is_streaming and self._sent:
            current = self._work_on(self._sent[0], now, is_streaming=False)
        elif len(self._sent) > 1 and self._sent[1].arrived is not None:
            current = self._work_on(self._sent[0], now, is_streaming=True)
        else:
            current = 0.0
        if is_streaming and not self.is_proven:
            return max(current, self._kept_waiting)  # who knows whether the line will keep up
        return max(current, self._busy_seconds / self._answered if self._answered else 0.0)

    def expected(self, pace: Pace, now: float) -> Speed:
        """What can be said as soon as the server has told us what it offers: without CHUNKING each message waits."""
        trips = {Pace.STREAM: 0, Pace.GROUP: 1, Pace.LOCK_STEP: LOCK_STEP_TRIPS}[pace]
        return Speed(self._setup_seconds(now), trips * self.round_trip_seconds)

    def measured(self, pace: Pace, now: float) -> Speed:
        """What the messages so far have shown."""
        time = self.message_seconds(now, is_streaming=pace is Pace.STREAM)
        least = self.expected(pace, now).message_seconds
        line = self._line_seconds(time) if pace is Pace.STREAM else 0.0
        return Speed(self._setup_seconds(now), max(time, least), line, self._answered)

    def _setup_seconds(self, now: float) -> float:
        if self._ready is not None:
            return self._ready - self._began
        return max(now - self._began, SETUP_TRIPS * self.round_trip_seconds)

    def _line_seconds(self, message_seconds: float) -> float:
        """How long the line takes for a message, if that is longer than the server does; 0 if not, or not known."""
        if self._busy_seconds >= BUSY_PART * self._observed_seconds:
            return 0.0  # the server has always had something to do
        return message_seconds * self._observed_seconds / self._busy_seconds if self._busy_seconds else 0.0
