"""Requests and answers over the control socket: JSON documents, or `content` in pieces.

How they become HTTP is the matter of `masqmail.daemon.httpserver`, which is imported when the first one comes.
"""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus

from masqmail.frozen import frozen
from masqmail.spool.api import SpoolError
from masqmail.system.events import INTERNAL_ERROR, emit

JSON_TYPE, LINES_TYPE, RAW_TYPE = "application/json", "application/x-ndjson", "application/octet-stream"


@frozen
class Request:
    """One request: its path as decoded parts, its query, its JSON document, and who asks (None: not a Unix peer)."""

    method: str
    path: tuple[str, ...]
    query: dict[str, str]
    document: dict[str, object]
    uid: int | None
    gid: int | None


@frozen
class Response:
    """One answer: a JSON document, or `content` in pieces as they come."""

    document: object = None
    content: AsyncGenerator[bytes, None] | None = None
    content_type: str = JSON_TYPE
    status: int = HTTPStatus.OK


class HttpError(Exception):
    """A refusal with its HTTP status and a text for a person."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text

    def response(self) -> Response:
        return Response({"error": self.text}, status=self.status)


Handler = Callable[[Request], Awaitable[Response]]


def encode(document: object) -> bytes:
    """A document as one line of JSON."""
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"


async def json_list(slices: AsyncIterator[list[object]]) -> AsyncGenerator[bytes, None]:
    """One JSON list from slices of it, an entry to a line."""
    lead = b"["
    async for entries in slices:
        if entries:
            yield lead + b",".join(map(encode, entries))
            lead = b","
    yield b"[]\n" if lead == b"[" else b"]\n"


async def json_lines(series: AsyncGenerator[object, None]) -> AsyncGenerator[bytes, None]:
    """Documents as they come, one a line; when no more can be made, the last one says why in "error"."""
    async with aclosing(series):
        try:
            async for document in series:
                yield encode(document)
        except Exception as error:
            yield encode(failure(error).document)


def failure(error: Exception) -> Response:
    """What the peer is told when something went wrong; a fault of ours is logged."""
    if isinstance(error, HttpError):
        return error.response()
    if isinstance(error, SpoolError):
        return HttpError(HTTPStatus.SERVICE_UNAVAILABLE, f"the spool says: {error}").response()
    emit(INTERNAL_ERROR, level=logging.ERROR, reason="a request over the control socket failed", exception=error)
    text = "that went wrong by a fault of ours; the log of the daemon says more"
    return HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, text).response()
