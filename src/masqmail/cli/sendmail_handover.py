"""How `sendmail -bs` gives a connection that inetd accepted to the daemon, which then serves it as one of its own.

Like `cli.sendmail` this imports nothing that costs time to load.
"""

import _socket
import posix
import sys

from masqmail.cli.sendmail_message import write_all
from masqmail.cli.sendmail_places import Place, Unavailable

_TAKEN = b"+"  # as in `net.handover`, which costs more than we want to wait
_SECONDS = 30


def hand_over(place: Place, descriptor: int) -> None:
    """Gives a connection to the daemon there, which only root and the daemon's own user may do.

    What the daemon has to say instead goes to the client. Raises `Unavailable` when it says nothing.
    """
    door = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    door.settimeout(_SECONDS)
    try:
        door.connect(place.handover)
        number = descriptor.to_bytes(4, sys.byteorder)
        door.sendmsg([b"."], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, number)])
        answer = door.recv(512)
    except OSError as error:
        raise Unavailable(f"{place.handover}: {error.strerror or error}") from None
    finally:
        door.close()
    if not answer:
        raise Unavailable(f"{place.handover}: the daemon did not take the connection")
    if answer != _TAKEN:
        write_all(descriptor, answer)


def peer_of(descriptor: int) -> str:
    """The address at the other side of a TCP connection; empty when the descriptor is none."""
    host = ""
    copy = posix.dup(descriptor)
    try:
        connection = _socket.socket(fileno=copy)
    except OSError:
        posix.close(copy)
        return ""
    try:
        if connection.family in (_socket.AF_INET, _socket.AF_INET6):
            host = connection.getpeername()[0].removeprefix("::ffff:")
    except OSError:
        pass
    connection.close()
    return host


def is_this_host(peer: str) -> bool:
    """Whether a connection comes from the loopback interface."""
    return peer.startswith("127.") or peer == "::1"
