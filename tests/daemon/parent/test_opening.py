"""What the parent opens for the daemon."""

import errno
import socket

import pytest

from masqmail.daemon.parent import opening
from masqmail.daemon.parent.opening import open_listeners


def test_of_a_name_the_addresses_that_this_host_does_not_have_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(opening.socket, "getaddrinfo", lambda *_, **__: found)
    [listener] = open_listeners("localhost", 0)
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    found.pop()
    with pytest.raises(OSError) as caught:
        open_listeners("localhost", 0)
    assert caught.value.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def test_an_address_that_is_taken_is_a_failure_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError) as caught:
        open_listeners("127.0.0.1", taken.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE
