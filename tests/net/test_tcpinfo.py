"""The kernel's figures for a connection."""

import socket

from masqmail.net.tcpinfo import tcp_info


def test_the_kernel_counts_what_was_acknowledged_and_what_came() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as near,
        listener.accept()[0] as far,
    ):
        near.sendall(b"x" * 1000)
        assert len(far.recv(1000, socket.MSG_WAITALL)) == 1000
        far.sendall(b"y" * 10)  # acknowledges all that has come
        assert len(near.recv(10, socket.MSG_WAITALL)) == 10
        info = tcp_info(near)
    assert info is not None
    assert info.acked_bytes in (1000, 1001)  # the SYN may be counted
    assert info.received_bytes == 10
    assert 0 < info.round_trip_seconds < 10


def test_what_is_no_connection_has_no_figures() -> None:
    closed = socket.socket()
    closed.close()
    with socket.socket(socket.AF_UNIX) as unix:
        assert [tcp_info(None), tcp_info(closed), tcp_info(unix)] == [None, None, None]
