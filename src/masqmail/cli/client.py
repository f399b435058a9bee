"""Talks to the running daemon over its control socket: HTTP and JSON."""

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

TIMEOUT_SECONDS = 60.0


class NotRunning(Exception):
    """No daemon answers at the control socket."""


class Refused(Exception):
    """The daemon refused, with an HTTP status and a text for a person."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Daemon:
    """One running daemon, found by its runtime directory."""

    def __init__(self, runtime: Path) -> None:
        self.path = runtime / "control.sock"

    def get(self, *parts: str, **query: str) -> Any:
        """A document. Raises `NotRunning` or `Refused`."""
        return json.loads(self.get_raw(*parts, **query))

    def get_raw(self, *parts: str, **query: str) -> bytes:
        """The bytes of an answer, for what is no JSON."""
        given = {name: value for name, value in query.items() if value}
        return self._request("GET", parts, query=given).read()

    def post(self, *parts: str, **document: object) -> Any:
        """Does something and returns what came of it."""
        return json.loads(self._request("POST", parts, document=document).read())

    def follow(self, *parts: str, **document: object) -> Iterator[Any]:
        """Does something that takes a while and gives each document of its progress as it comes."""
        response = self._request("POST", parts, document=document, timeout=None)
        while line := response.readline():
            yield json.loads(line)

    def _request(
        self,
        method: str,
        parts: tuple[str, ...],
        *,
        query: dict[str, str] | None = None,
        document: dict[str, object] | None = None,
        timeout: float | None = TIMEOUT_SECONDS,
    ) -> HTTPResponse:
        target = "/v1/" + "/".join(parts) + (f"?{urlencode(query)}" if query else "")
        connection = _UnixConnection(self.path, timeout)  # type: ignore[arg-type]  # None waits for ever
        try:
            connection.request(method, target, json.dumps(document) if document is not None else None)
            response = connection.getresponse()
        except (OSError, HTTPException) as error:
            raise NotRunning(f"MasqMail does not answer at {self.path} ({error})") from error
        if response.status >= 400:
            raise Refused(response.status, _reason(response))
        return response


def _reason(response: HTTPResponse) -> str:
    try:
        return str(json.loads(response.read())["error"])
    except (ValueError, KeyError, TypeError):
        return response.reason
