"""What the parent opens for the daemon: addresses to listen at, and secret files. Only what is configured."""

import errno
import os
import socket
import stat

_BACKLOG = 1024
_NO_SUCH_ADDRESS = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def open_listeners(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each IP address that `host` stands for. Raises `OSError`; then none is open.

    What this host does not have is left out while another one is left: `localhost` without IPv6.
    """
    name = host.encode() if host.isascii() else host  # text is taken for IDNA, whose tables would stay in memory
    found = socket.getaddrinfo(name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, _, _, _, place in dict.fromkeys(found):
            try:
                listeners.append(_open_listener(family, place))
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


def _open_listener(family: int, place: object) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(place)  # type: ignore[arg-type]  # as `getaddrinfo` gave it
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def open_secret(path: str) -> int:
    """A regular file for reading. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "is not a regular file")
    return descriptor
