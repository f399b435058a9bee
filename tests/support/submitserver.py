"""A submit.sock that answers as it is told and remembers what it was told, for tests of `sendmail`."""

import socket
import threading
from pathlib import Path
from types import TracebackType


class SubmitServer:
    """Serves connections one after the other. `replies` maps the start of a command to its reply.

    What is not in `replies` is answered with 250, the connection itself with 220. A reply that begins with 421
    is followed by hanging up; an empty one means hanging up at once. From the command that begins with `deaf_from`
    on nothing more is listened to, though that one is answered.
    """

    def __init__(self, path: Path, replies: dict[str, str] | None = None, *, deaf_from: str | None = None) -> None:
        self.commands: list[str] = []
        self.message = b""
        self.connections = 0
        self._replies = {"CONNECT": "220 gw ESMTP", "EHLO": "250-gw\r\n250 XSUBMIT", **(replies or {})}
        self._deaf_from = deaf_from
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "SubmitServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                with connection, connection.makefile("rwb") as file:
                    self._serve(connection, file)
            except (BrokenPipeError, ConnectionResetError):
                pass

    def _serve(self, connection: socket.socket, file) -> None:  # type: ignore[no-untyped-def]
        going_on = self._answer(file, "CONNECT")
        while going_on and (line := file.readline()):
            command = line.decode().removesuffix("\r\n")
            self.commands.append(command)
            if command.startswith("BDAT"):
                self.message += file.read(int(command.split()[1]))
            if self._deaf_from and command.startswith(self._deaf_from):
                connection.shutdown(socket.SHUT_RD)
            going_on = self._answer(file, command)

    def _answer(self, file, command: str) -> bool:  # type: ignore[no-untyped-def]
        reply = next((reply for start, reply in self._replies.items() if command.startswith(start)), "250 2.0.0 OK")
        if reply:
            file.write(reply.encode() + b"\r\n")
            file.flush()
        return bool(reply) and not reply.startswith("421") and command != "QUIT"
