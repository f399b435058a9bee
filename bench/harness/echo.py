"""What ping does, without needing it: `python bench/harness/echo.py ADDRESS COUNT INTERVAL PAYLOAD_BYTES`.

Sends ICMP echo requests (RFC 792) and prints the round trip of each that was answered, in seconds.
"""

import select
import socket
import struct
import sys
import time

PATIENCE_SECONDS = 10.0

_REQUEST, _REPLY = 8, 0
_IP_HEADER = 20


def checksum(data: bytes) -> int:
    """The internet checksum, RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def request(number: int, payload_bytes: int) -> bytes:
    body = b"\0" * payload_bytes
    blank = struct.pack("!BBHHH", _REQUEST, 0, 0, 0, number) + body
    return struct.pack("!BBHHH", _REQUEST, 0, checksum(blank), 0, number) + body


def round_trips(address: str, count: int, interval_seconds: float, payload_bytes: int) -> list[tuple[float, float]]:
    """When each answer came and how long it took, in the order they came."""
    sent_at: dict[int, float] = {}
    found: list[tuple[float, float]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        next_at = ends_at = time.monotonic()
        while time.monotonic() <= ends_at + PATIENCE_SECONDS and len(found) < count:
            if len(sent_at) < count and time.monotonic() >= next_at:
                sent_at[len(sent_at)] = ends_at = time.monotonic()
                sock.sendto(request(len(sent_at) - 1, payload_bytes), (address, 0))
                next_at += interval_seconds
                continue
            wait = next_at - time.monotonic() if len(sent_at) < count else PATIENCE_SECONDS
            if not select.select([sock], [], [], max(0.0, wait))[0]:
                continue
            packet, now = sock.recv(65536), time.monotonic()
            if packet[_IP_HEADER] == _REPLY:
                (number,) = struct.unpack_from("!H", packet, _IP_HEADER + 6)
                found.append((now, now - sent_at[number]))
    return found


if __name__ == "__main__":
    for at, seconds in round_trips(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])):
        print(at, seconds)
