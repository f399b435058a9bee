"""An inetd.sock that takes what it is handed, for tests of `sendmail -bs`."""

import socket
import threading
from pathlib import Path
from types import TracebackType


class InetdDoor:
    """Takes one connection and answers as it is told."""

    def __init__(self, path: Path, answer: bytes = b"+") -> None:
        self.taken: list[socket.socket] = []
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "InetdDoor":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for sock in self.taken:
            sock.close()

    def _run(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # the test is over
            return
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
            self.taken += [socket.socket(fileno=descriptor) for descriptor in descriptors]
            connection.sendall(self._answer)
