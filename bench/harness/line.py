"""One direction of a slow link, as arithmetic: what becomes of a packet that enters it now, and what was counted."""

import random
from dataclasses import dataclass

QUEUE_BYTES = 96 * 1024

_TCP = 6
_SYN, _ACK = 0x02, 0x10


@dataclass(frozen=True, slots=True)
class LinkKind:
    """What a link is like. The delay is one way and without the time a packet takes to be sent; loss is a share."""

    name: str
    rate_bits: float
    delay_seconds: float
    loss: float = 0.0

    @property
    def round_trip_seconds(self) -> float:
        return 2 * self.delay_seconds

    def seconds_for(self, size_bytes: float) -> float:
        """How long the line is busy with so many bytes."""
        return size_bytes * 8 / self.rate_bits


LINKS = {
    link.name: link
    for link in (
        LinkKind("geo", 256_000, 0.300),
        LinkKind("modem", 56_000, 0.100),
        LinkKind("lte", 1_000_000, 0.075, loss=0.01),
        LinkKind("leo", 20_000_000, 0.020),
        LinkKind("overseas", 10_000_000, 0.150),
    )
}


@dataclass(slots=True)
class Counts:
    """What entered one direction. Bytes are those of IP packets, with their headers."""

    packets: int = 0
    bytes: int = 0
    syns: int = 0  # without ACK: attempts to connect
    first_syn_at: float = 0.0
    lost: int = 0
    dropped: int = 0  # because the queue was full


class Line:
    """One direction: packets leave one after the other at the rate, and arrive a delay later.

    What has to wait fills a queue of bounded size; what does not fit in is dropped. A lost packet has taken its time
    on the line.
    """

    def __init__(self, kind: LinkKind, chance: random.Random, *, queue_bytes: int = QUEUE_BYTES) -> None:
        self.counts = Counts()
        self._kind = kind
        self._chance = chance
        self._queue_bytes = queue_bytes
        self._busy_until = 0.0

    def admit(self, packet: bytes, now: float) -> float | None:
        """When the packet comes out at the other end, or None when it never does."""
        size = len(packet)
        self.counts.packets += 1
        self.counts.bytes += size
        if is_syn(packet):
            self.counts.first_syn_at = self.counts.first_syn_at or now
            self.counts.syns += 1
        if self.waiting_bytes(now) + size > self._queue_bytes:
            self.counts.dropped += 1
            return None
        self._busy_until = max(now, self._busy_until) + self._kind.seconds_for(size)
        if self._kind.loss and self._chance.random() < self._kind.loss:
            self.counts.lost += 1
            return None
        return self._busy_until + self._kind.delay_seconds

    def waiting_bytes(self, now: float) -> float:
        """What has entered and not left yet."""
        return max(0.0, self._busy_until - now) * self._kind.rate_bits / 8


def is_syn(packet: bytes) -> bool:
    """Whether an IPv4 packet asks for a TCP connection."""
    return (segment := tcp_of(packet)) is not None and segment[13] & (_SYN | _ACK) == _SYN


def tcp_of(packet: bytes) -> bytes | None:
    """The TCP segment in an IPv4 packet, if it holds one."""
    if len(packet) < 40 or packet[0] >> 4 != 4 or packet[9] != _TCP:
        return None
    return packet[4 * (packet[0] & 15) :]


def describe(packet: bytes) -> str:
    """A packet in words: ports, flags, sequence and acknowledged numbers, bytes of payload."""
    segment = tcp_of(packet)
    if segment is None:
        return f"protocol {packet[9] if len(packet) > 9 else '?'}, {len(packet)} bytes"
    names = "".join(name for bit, name in enumerate("FSRPA") if segment[13] >> bit & 1)
    source, target = int.from_bytes(segment[0:2]), int.from_bytes(segment[2:4])
    sequence, acknowledged = int.from_bytes(segment[4:8]), int.from_bytes(segment[8:12])
    payload = len(segment) - 4 * (segment[12] >> 4)
    window = int.from_bytes(segment[14:16])
    return f"{source}>{target} {names:3} seq {sequence} ack {acknowledged} win {window} payload {payload}"
