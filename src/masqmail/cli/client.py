"""Talks to the running daemon over its control socket: HTTP and JSON."""

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote, urlencode

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


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost")
        self._path = path
        self._seconds = timeout

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._seconds)
        try:
            self.sock.connect(self._path)
        except OSError as error:
            self.close()
            raise NotRunning(f"MasqMail is not running: nobody answers at {self._path} ({error.strerror})") from None


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
        given = {name: value for name, value in query.items() if value}
        return self._ask("GET", parts, f"?{urlencode(given)}" if given else "", None, ASKING_SECONDS)

    def post(self, *parts: str, **document: object) -> Any:
        """Does something and returns what came of it."""
        return _parse(b"".join(self._ask("POST", parts, "", document, DOING_SECONDS)))

    def follow(self, *parts: str, **document: object) -> Iterator[Any]:
        """Does something that takes a while and gives each document of its progress as it comes, at least one."""
        rest = b""
        progress: Any = None
        for piece in self._ask("POST", parts, "", document, DOING_SECONDS):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                progress = _parse(line)
                if "error" in progress:
                    raise Refused(500, progress["error"])
                yield progress
        if rest or progress is None:
            raise BrokenOff(_HALF)

    def _ask(
        self, method: str, parts: tuple[str, ...], query: str, document: dict[str, object] | None, seconds: float
    ) -> Iterator[bytes]:
        target = "/v1/" + "/".join(quote(part, safe="") for part in parts) + query
        content = json.dumps(document) if document is not None else None
        connection = _UnixConnection(self.path, seconds)
        try:
            connection.request(method, target, content, {"Connection": "close"})
            with connection.getresponse() as response:
                if response.status >= 400:
                    raise Refused(response.status, _reason(response))
                while piece := response.read1(PIECE_BYTES):
                    yield piece
                if response.length:
                    raise BrokenOff(_HALF)
        except (OSError, HTTPException) as error:
            raise _broken_off(error) from None
        finally:
            connection.close()


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise BrokenOff("MasqMail's answer makes no sense; is it another version?") from None


def _broken_off(error: Exception) -> BrokenOff:
    if isinstance(error, TimeoutError):
        return BrokenOff("MasqMail runs, but does not answer")
    return BrokenOff(_HALF)


def _reason(response: HTTPResponse) -> str:
    try:
        return str(json.loads(response.read())["error"])
    except (ValueError, KeyError, TypeError):
        return response.reason
