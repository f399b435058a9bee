"""Sockets listen at the addresses of this host, and at those it will have."""

import errno
import os
import socket
import subprocess
import sys

import pytest

from masqmail.net import bind
from masqmail.net.bind import is_without_ipv6, open_listeners
from support.peers import needs


def test_of_a_name_the_addresses_that_this_host_does_not_have_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(bind.socket, "getaddrinfo", lambda *_, **__: found)
    [listener] = open_listeners("localhost", 0)
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    found.pop()
    with pytest.raises(OSError) as caught:
        open_listeners("localhost", 0)
    assert caught.value.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def test_an_address_that_is_taken_is_a_failure_of_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError) as caught:
        open_listeners("127.0.0.1", taken.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "127.0.0.2"])
def test_an_ip_address_may_come_later_with_its_interface(host: str) -> None:
    [listener] = open_listeners(host, 0)
    with listener:
        assert listener.getsockname()[0] == host


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a network of its own")
@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "fe80::99%lo"])
def test_who_connects_when_the_address_has_come_is_heard(host: str) -> None:
    needs("unshare", "ip")
    script = """if True:
        import socket, subprocess, sys
        from masqmail.net.bind import open_listeners
        host = sys.argv[1]
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        [listener] = open_listeners(host, 2525)
        prefix, options = ("128", ["nodad"]) if ":" in host else ("32", [])
        address = host.partition("%")[0]
        subprocess.run(["ip", "address", "add", f"{address}/{prefix}", "dev", "lo", *options], check=True)
        with socket.create_connection((host, 2525), timeout=5):
            listener.setblocking(True)
            listener.accept()[0].close()
    """
    subprocess.run(["unshare", "--net", sys.executable, "-c", script, host], check=True, timeout=60)


def test_ipv6_that_is_switched_off_shows_at_its_loopback_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(bind.socket, "socket", refuse)
    assert is_without_ipv6("::1")
    assert not is_without_ipv6("127.0.0.1")
    assert not is_without_ipv6("2001:db8::1")
