"""Sockets that listen at TCP addresses. It imports next to nothing, as the privileged parent opens them, too."""

import errno
import socket

_BACKLOG = 512
_NO_SUCH_ADDRESS = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
#: For an address that the host does not have yet, ip(7) and ipv6(7); the `socket` module has no names for these.
_FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}


def open_listeners(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each IP address that `host` stands for; none is open when it raises `OSError`.

    Of a name that stands for several, those that this host does not have are left out: `localhost` without IPv6. An
    IP address may come later, with its interface: the socket accepts from then on. A loopback address does not come.
    """
    name = host.encode() if host.isascii() else host  # text is taken for IDNA, whose tables would stay in memory
    found = socket.getaddrinfo(name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, _, _, _, place in dict.fromkeys(found):
            try:
                listeners.append(_open(family, place, may_come_later=_may_come_later(family, host)))
            except OSError as error:
                if error.errno not in _NO_SUCH_ADDRESS:
                    raise
                missing = error
        if missing and not listeners:
            raise missing
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def is_without_ipv6(host: str) -> bool:
    """Whether this is the IPv6 loopback address, and IPv6 is switched off on this host."""
    if host != "::1":
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        return error.errno in _NO_SUCH_ADDRESS
    return False


def _open(family: int, place: object, *, may_come_later: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if may_come_later:
            listener.setsockopt(*_FREEBIND[socket.AddressFamily(family)], 1)
        listener.bind(place)  # type: ignore[arg-type]  # as `getaddrinfo` gave it
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _may_come_later(family: int, host: str) -> bool:
    """Whether this is an IP address, and not one of loopback."""
    try:
        packed = socket.inet_pton(family, host.partition("%")[0])  # of fe80::1%eth0
    except (OSError, ValueError):
        return False
    return packed[:1] != b"\x7f" if family == socket.AF_INET else host != "::1"
