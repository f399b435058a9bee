"""A masqdialer server on loopback, in a thread of its own, that answers as a test wants and keeps what it heard."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class MasqdialerServer:
    """Serves one connection after the other.

    It sends the first of `says`, and the next one whenever something was heard. Then it closes, or with `waits`
    waits for the client to do so; `hears` has what each client said. Changing `says` counts for the next client.
    """

    says: Sequence[bytes]
    waits: bool = True
    hears: list[bytes] = field(default_factory=list)
    port: int = 0

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # the test is over
                return
            with connection, suppress(OSError):
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        number = len(self.hears)
        self.hears.append(b"")
        for position, text in enumerate(self.says):
            if position:
                self.hears[number] += connection.recv(100)
            connection.sendall(text)
        while self.waits and (heard := connection.recv(100)):
            self.hears[number] += heard


@contextmanager
def masqdialer_server(*says: bytes, waits: bool = True) -> Iterator[MasqdialerServer]:
    """A running server; `port` is where."""
    server = MasqdialerServer(says, waits)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.port = listener.getsockname()[1]
        thread = threading.Thread(target=server.serve, args=(listener,))
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)
            assert not thread.is_alive()
