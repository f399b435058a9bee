"""A connection to a server of this host, or near it, for whoever runs in a thread or process of its own.

Each wait has an end, and is cut short when somebody asks us to stop. `net.stream` is for the event loop.
"""

import select
import socket
import threading
import time

_SLICE_SECONDS = 0.5  # how soon a request to stop is seen
_BACKLOG_SECONDS = 0.05  # between two attempts at a socket whose backlog is full
_PIECE_BYTES = 65536


class LineError(Exception):
    """The server cannot be reached, is silent or has hung up; the message says which."""


class HostLine:
    """Bytes out in big pieces, bytes in as they come."""

    def __init__(self, sock: socket.socket, stop: threading.Event) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._stop = stop
        self._poll = select.poll()
        self._output: list[bytes] = []
        self._output_bytes = 0

    @classmethod
    def open(cls, address: str, timeout_seconds: float, stop: threading.Event) -> "HostLine":
        """Connects to the path of a Unix socket or to host:port. Raises `LineError`."""
        try:
            if address.startswith("/"):
                return cls(_connect_to_path(address, timeout_seconds, stop), stop)
            host, _, port = address.rpartition(":")
            name = host.strip("[]")
            place = name.encode() if name.isascii() else name  # text would need the tables for IDNA
            return cls(socket.create_connection((place, int(port)), timeout_seconds), stop)  # type: ignore[arg-type]
        except (OSError, ValueError) as error:
            raise LineError(f"cannot connect to {address}: {_words(error)}") from error

    def close(self) -> None:
        self._socket.close()

    def put(self, data: bytes, patience_seconds: float) -> None:
        """Adds to what is sent next, and sends it when it is much. Raises `LineError`."""
        self._output.append(data)
        self._output_bytes += len(data)
        if self._output_bytes >= _PIECE_BYTES:
            self.flush(patience_seconds)

    def flush(self, patience_seconds: float) -> None:
        """Sends everything; `patience_seconds` is how long the server may take nothing. Raises `LineError`."""
        rest = memoryview(b"".join(self._output))
        self._output.clear()
        self._output_bytes = 0
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, patience_seconds)
            except OSError as error:
                raise LineError(_words(error)) from error

    def put_last(self, data: bytes) -> None:
        """Sends a goodbye, if it can be sent at once."""
        try:
            self._socket.send(data)
        except OSError:
            return

    def receive(self, patience_seconds: float) -> bytes:
        """What comes next; empty when the server has hung up. Raises `LineError`."""
        self._wait(select.POLLIN, patience_seconds)
        try:
            return self._socket.recv(_PIECE_BYTES)
        except OSError as error:
            raise LineError(_words(error)) from error

    def take(self) -> bytes:
        """What is here already."""
        try:
            return self._socket.recv(_PIECE_BYTES)
        except OSError:
            return b""

    def _wait(self, event: int, patience_seconds: float) -> None:
        self._poll.register(self._socket, event)
        deadline = time.monotonic() + patience_seconds
        while not self._stop.is_set():
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                raise LineError(f"no answer within {patience_seconds:g} s")
            if self._poll.poll(1000 * min(seconds, _SLICE_SECONDS)):
                return
        raise LineError("the delivery was stopped")


def _connect_to_path(path: str, timeout_seconds: float, stop: threading.Event) -> socket.socket:
    """Waits for room in the listener's backlog."""
    deadline = time.monotonic() + timeout_seconds
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        while True:
            try:
                sock.connect(path)
            except BlockingIOError as error:  # unix(7): EAGAIN says that the backlog is full
                if stop.wait(_BACKLOG_SECONDS) or time.monotonic() > deadline:
                    raise TimeoutError(None, f"timed out after {timeout_seconds:g} s") from error
            else:
                return sock
    except BaseException:
        sock.close()
        raise


def _words(error: Exception) -> str:
    """What an error of the system means, in lower case."""
    return ((error.strerror if isinstance(error, OSError) else None) or str(error)).lower()
