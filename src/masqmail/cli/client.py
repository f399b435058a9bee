"""Talks to the running daemon over its control socket: HTTP and JSON."""

import _socket
import json
from collections.abc import Iterator
from typing import Any

from masqmail.cli.answer import Answer, HalfAnswer

#: The daemon may stay silent for so long: when it is asked for something, and while it works on a long queue.
ASKING_SECONDS = 60.0
DOING_SECONDS = 600.0
PIECE_BYTES = 1 << 16

_HALF = "MasqMail ended the connection before its answer was complete; did it stop just now?"


class NotRunning(Exception):
    """No daemon answers at the control socket."""


class BrokenOff(Exception):
    """The daemon took the request, but its answer did not come, or not to its end."""


class Refused(Exception):
    """The daemon refused, with an HTTP status and a text for a person."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Daemon:
    """One running daemon, by the path of its control socket.

    Everything raises `NotRunning`, `Refused` or `BrokenOff`.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def get(self, *parts: str, **query: str) -> Any:
        """A document."""
        return _parse(b"".join(self.stream(*parts, **query)))

    def stream(self, *parts: str, **query: str) -> Iterator[bytes]:
        """The bytes of an answer, piece by piece."""
        given = "&".join(f"{name}={_escaped(value)}" for name, value in query.items() if value)
        return self._ask("GET", parts, f"?{given}" if given else "", None, ASKING_SECONDS)

    def post(self, *parts: str, **document: object) -> Any:
        """Does something and returns what came of it."""
        return _parse(b"".join(self._ask("POST", parts, "", document, DOING_SECONDS)))

    def follow(self, *parts: str, **document: object) -> Iterator[Any]:
        """Does something that takes a while and gives each document of its progress as it comes, if there is any."""
        rest = b""
        for piece in self._ask("POST", parts, "", document, DOING_SECONDS):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                progress = _parse(line)
                if "error" in progress:
                    raise Refused(500, progress["error"])
                yield progress
        if rest:
            raise BrokenOff(_HALF)

    def _ask(
        self, method: str, parts: tuple[str, ...], query: str, document: dict[str, object] | None, seconds: float
    ) -> Iterator[bytes]:
        target = "/v1/" + "/".join(map(_escaped, parts)) + query
        connection = self._connect(seconds)
        try:
            connection.sendall(_request(method, target, document))
            answer = Answer(lambda: connection.recv(PIECE_BYTES))
            if answer.status >= 400:
                raise Refused(answer.status, _reason(answer))
            yield from answer.pieces()
        except TimeoutError:
            raise BrokenOff("MasqMail runs, but does not answer") from None
        except (OSError, HalfAnswer):
            raise BrokenOff(_HALF) from None
        finally:
            connection.close()

    def _connect(self, seconds: float) -> _socket.socket:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        connection.settimeout(seconds)
        try:
            connection.connect(self.path)
        except OSError as error:
            connection.close()
            raise NotRunning(f"MasqMail is not running: nobody answers at {self.path} ({error.strerror})") from None
        return connection


def _request(method: str, target: str, document: dict[str, object] | None) -> bytes:
    content = json.dumps(document).encode() if document is not None else b""
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def _escaped(text: str) -> str:
    """A text as a part of a path or query, RFC 3986 §2.1."""
    return "".join(
        chr(octet) if octet < 128 and (chr(octet).isalnum() or octet in b"-._~") else f"%{octet:02X}"
        for octet in text.encode(errors="surrogateescape")
    )


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise BrokenOff("MasqMail's answer makes no sense; is it another version?") from None


def _reason(answer: Answer) -> str:
    content = b"".join(answer.pieces())
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return answer.reason
