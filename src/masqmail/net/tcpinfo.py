"""What the kernel has measured on a TCP connection: TCP_INFO, tcp(7)."""

import socket
import struct

from masqmail.frozen import frozen

# struct tcp_info of linux/tcp.h: tcpi_rtt, tcpi_bytes_acked and tcpi_bytes_received.
_ROUND_TRIP = struct.Struct("=68xI")
_BYTES = struct.Struct("=120xQQ")


@frozen
class TcpInfo:
    """`acked_bytes` of ours are at the other side, `received_bytes` of theirs here; TLS is counted with them."""

    acked_bytes: int
    received_bytes: int
    round_trip_seconds: float


def tcp_info(sock: socket.socket | None) -> TcpInfo | None:
    """The figures of a connection; None where there are none: closed, not TCP, an old kernel."""
    if sock is None:
        return None
    try:
        data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        (microseconds,) = _ROUND_TRIP.unpack_from(data)
        acked, received = _BYTES.unpack_from(data)
    except (OSError, struct.error):
        return None
    return TcpInfo(acked, received, microseconds / 1e6)
