"""Measures one connection while it works, and tells its feed when more of them would pay.

What the kernel says about the connection's TCP comes in here; what it means is worked out in `gauge`.
"""

import asyncio
import math
import socket
from collections.abc import Callable

import anyio

from masqmail.delivery.connect import Options
from masqmail.delivery.gauge import Gauge
from masqmail.delivery.job import Feed
from masqmail.delivery.parallel import PROVEN_MESSAGES, Speed, messages_under_way
from masqmail.delivery.wire import Wire
from masqmail.frozen import frozen
from masqmail.net.tcpinfo import tcp_info
from masqmail.proto.smtp.client import Client
from masqmail.proto.smtp.clientsession import Phase
from masqmail.proto.smtp.pipeline import Pace

#: How often we look whether the other side works on what it has. A server so fast need not be helped.
LOOK_SECONDS = 0.025

#: From here on a round trip is worth a lease of its own.
FAR_SECONDS = 0.02

#: Messages on their way at first, where other connections may have to get some: what TCP sends in its first flights.
SHARED_START = 10

#: A server that works so many round trips on a message has enough to do with one until the next one comes.
SLOW_TRIPS = 1.5


@frozen
class Cost:
    """What a connection has cost, for the log. `round_trips` had to be waited for one after the other."""

    messages: int
    seconds: float
    round_trips: int
    round_trip_ms: float | None
    bytes_out: int | None
    bytes_in: int | None


class Meter:
    """One connection's. Where there can be only one connection it counts and does no more."""

    def __init__(self, options: Options, feed: Feed) -> None:
        self._began = anyio.current_time()
        self._gauge = Gauge(self._began)
        self._may_share = options.connections > 1
        self._most = options.window_messages
        self._feed = feed
        self._client: Client
        self._wire: Wire
        self._socket: socket.socket | None
        self._offset = 0  # from what the kernel counts to what the wire does
        self._sent = anyio.Event()
        self._is_greeted = False
        self._timer: asyncio.TimerHandle | None = None
        self._later_window = 0  # messages under way as soon as the first one has arrived
        self._room_grew: Callable[[], None] = lambda: None

    # before the connection is there

    def dialling(self) -> None:
        """The first packet leaves. The line is longer than the wait for its answer so far."""
        if self._may_share:
            self._timer = asyncio.get_running_loop().call_later(FAR_SECONDS, self._note_silence, FAR_SECONDS)

    def _note_silence(self, seconds: float) -> None:
        self._feed.note_round_trip(seconds)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._note_silence, 2 * seconds)

    def dialled(self) -> None:
        """The connection is made, or never will be."""
        if self._timer is not None:
            self._timer.cancel()

    def connected(self, sock: socket.socket | None, client: Client, wire: Wire) -> None:
        self._socket, self._client, self._wire = sock, client, wire
        self._gauge.note_heard(anyio.current_time())
        if self._may_share and (info := tcp_info(sock)) is not None and info.round_trip_seconds >= FAR_SECONDS:
            self._feed.note_round_trip(info.round_trip_seconds)

    # before the first message

    def asked(self) -> None:
        """Whatever was to be said has been sent, and nothing more is until the reply comes."""
        self._is_greeted = self._client.phase is not Phase.GREETING  # that needs no question
        self._gauge.note_asked(anyio.current_time())

    def heard(self) -> None:
        now = anyio.current_time()
        if self._is_greeted:
            self._gauge.note_heard(now)
        if self._may_share and self._client.offered.server_name and self._client.pace is not Pace.STREAM:
            self._feed.note_speed(self._gauge.expected(self._client.pace, now))

    def waited(self, seconds: float) -> None:
        """So long the set-up stood still, because nobody knew whether the connection was wanted."""
        self._gauge.note_waited(seconds)

    def ready(self) -> None:
        self._gauge.note_ready(anyio.current_time())
        if not self._may_share:
            return
        if self._client.pace is Pace.STREAM:
            self._start_streaming(self._feed.known_speed)
        else:
            self._client.window_messages = min(2, self._most)  # one that is being sent, and the commands of the next
        if (info := tcp_info(self._socket)) is not None:  # all that we said was answered, so it has arrived
            self._offset = self._wire.sent_bytes - info.acked_bytes

    def _start_streaming(self, known: Speed | None) -> None:
        """Where others start, too, none shall wait on the line for the second message of another."""
        trip = self._gauge.round_trip_seconds
        start = min(SHARED_START, self._most)
        if known is not None:
            start = min(start, messages_under_way(known, trip, self._most))
            is_slow = known.messages < PROVEN_MESSAGES or known.message_seconds > SLOW_TRIPS * trip
            self._later_window = start if is_slow and start > 1 else 0
        self._client.window_messages = 1 if self._later_window else start

    # messages

    @property
    def is_far(self) -> bool:
        """Whether replies take so long that new work should not wait for them."""
        return self._gauge.round_trip_seconds >= FAR_SECONDS

    def working(self) -> None:
        """There is something to send, perhaps after an idle time."""
        self._gauge.note_idle(anyio.current_time())

    @property
    def wants_one_unsent(self) -> bool:
        """Whether no message is taken before the content of the last one has left: another connection may be quicker.

        The commands of the next one then share the last packet of that content.
        """
        return self._may_share and self._client.pace is not Pace.STREAM

    @property
    def wants_each_alone(self) -> bool:
        """Whether every message should leave on its own: until we know how the server is it should not wait for one.

        Of several in one TLS record it could read none before it has them all.
        """
        return self._may_share and not self._gauge.is_proven

    def sent(self, number: int) -> None:
        """The last byte of a message is in the output."""
        if self._may_share:
            self._gauge.note_sent(number)
            self._sent.set()

    def flushed(self) -> None:
        if self._may_share:
            self._gauge.note_flushed(self._wire.sent_bytes)

    def answered(self, number: int) -> None:
        if self._may_share:
            self._gauge.note_answered(number, anyio.current_time(), is_streaming=self._client.pace is Pace.STREAM)

    async def watch(self, room_grew: Callable[[], None]) -> None:
        """Looks after unanswered messages for as long as there are any; to be run beside the session."""
        self._room_grew = room_grew
        while self._may_share:
            if not self._gauge.has_unanswered:
                self._sent = anyio.Event()
                await self._sent.wait()
            await anyio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Takes the kernel's figures, shares fairly, and tells the feed."""
        if not self._may_share:
            return
        now, pace = anyio.current_time(), self._client.pace
        if (info := tcp_info(self._socket)) is not None:
            self._gauge.note_acked(info.acked_bytes + self._offset, now)
        speed = self._gauge.measured(pace, now)
        if pace is Pace.STREAM and self._gauge.is_proven:
            trip = self._gauge.round_trip_seconds
            self._client.window_messages = messages_under_way(speed, trip, self._most)
        elif self._later_window and self._gauge.has_arrived:
            self._client.window_messages, self._later_window = self._later_window, 0
            self._room_grew()
        self._feed.note_speed(speed)

    def cost(self, messages: int) -> Cost:
        """To be asked before the connection is closed."""
        trip, info = self._gauge.round_trip_seconds, tcp_info(self._socket)
        return Cost(
            messages=messages,
            seconds=round(anyio.current_time() - self._began, 3),
            round_trips=1 + self._client.trips + (1 if self._wire.stream.tls else 0),
            round_trip_ms=round(1000 * trip, 1) if math.isfinite(trip) else None,
            bytes_out=info.acked_bytes if info else None,
            bytes_in=info.received_bytes if info else None,
        )
