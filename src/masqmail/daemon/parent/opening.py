"""What the parent opens for the daemon: addresses to listen at, and secret files. Only what is configured."""

import os
import socket
import stat

_BACKLOG = 1024


def open_listeners(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each IP address that `host` stands for. Raises `OSError`; then none is open."""
    name = host.encode() if host.isascii() else host  # text is taken for IDNA, whose tables would stay in memory
    found = socket.getaddrinfo(name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, place in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(place)
            listener.listen(_BACKLOG)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def open_secret(path: str) -> int:
    """A regular file for reading. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "is not a regular file")
    return descriptor
