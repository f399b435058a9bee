"""`mservdetect HOST PORT`: prints the name of the connection that a masqdialer server reports as up.

A program for scripts, and for settings taken over from older versions (`online_query = "mservdetect localhost 224"`).
It imports next to nothing, because it may be started every few seconds.
"""

import _socket
import os
import sys
from time import monotonic

from masqmail.proto.masqdialer import LINE_SECONDS, Inquiry

USAGE = """\
usage: mservdetect HOST PORT

Asks the masqdialer server there, prints the name of the connection that is up and exits with 0.
When none is up it prints nothing and exits with 1; when the server gives no answer, with 69.
"""

_NONE_IS_UP = 1  # what the program of this name has exited with since version 0.3
_READ_BYTES = 1024


class NoAnswer(Exception):
    """The server cannot be asked; the message says why."""


def main() -> int:
    """Runs the command and returns its exit code."""
    words = sys.argv[1:]
    if words in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
        return os.EX_OK
    if len(words) != 2 or not (words[1].isdecimal() and 0 < int(words[1]) < 65536):
        sys.stderr.write(USAGE)
        return os.EX_USAGE
    try:
        name = ask(words[0], int(words[1]))
    except NoAnswer as error:
        sys.stderr.write(f"mservdetect: {error}\n")
        return os.EX_UNAVAILABLE
    except KeyboardInterrupt:
        return 130
    if not name:
        return _NONE_IS_UP
    sys.stdout.buffer.write(name.encode() + b"\n")
    return os.EX_OK


def ask(host: str, port: int) -> str:
    """The connection that is up; empty when none is. Raises `NoAnswer`."""
    connection = _connect(host, port)
    try:
        inquiry = _converse(connection)
    except OSError as error:
        raise NoAnswer(f"the connection to {host} port {port} broke: {error.strerror or error}") from None
    finally:
        connection.close()
    if inquiry.fault:
        raise NoAnswer(f"{host} port {port} {inquiry.fault}")
    return inquiry.online


def _connect(host: str, port: int) -> _socket.socket:
    """Tries the addresses of the host, one after the other."""
    try:
        name = host.encode() if host.isascii() else host  # text would be encoded with a codec that takes time to load
        found = _socket.getaddrinfo(name, port, 0, _socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it cannot be the name of a host"
        raise NoAnswer(f"{host} cannot be found: {reason}") from None
    reason = "it has no address"
    deadline = monotonic() + LINE_SECONDS
    for family, kind, protocol, _, address in found:
        connection = _socket.socket(family, kind, protocol)
        try:
            connection.settimeout(max(0.1, deadline - monotonic()))
            connection.connect(address)
        except TimeoutError:
            connection.close()
            reason = f"no answer within {LINE_SECONDS:g} s"
        except OSError as error:
            connection.close()
            reason = error.strerror or str(error)
        else:
            return connection
    raise NoAnswer(f"cannot connect to {host} port {port}: {reason}")


def _converse(connection: _socket.socket) -> Inquiry:
    """The whole dialogue, with LINE_SECONDS for each line of the server. Raises `OSError`."""
    inquiry = Inquiry()
    while not inquiry.is_over:
        lines, deadline = inquiry.lines, monotonic() + LINE_SECONDS
        while inquiry.lines == lines and not inquiry.is_over:
            connection.settimeout(max(0.001, deadline - monotonic()))
            try:
                data = connection.recv(_READ_BYTES)
            except TimeoutError:
                inquiry.expire()
                break
            _send(connection, inquiry.receive(data))
    return inquiry


def _send(connection: _socket.socket, data: bytes) -> None:
    """Sends a word; reading tells when the connection is broken, and a last QUIT does not matter."""
    try:
        connection.sendall(data)
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main())
