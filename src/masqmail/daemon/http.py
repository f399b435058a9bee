"""HTTP/1.1 with JSON over one of our streams: just enough for the control socket, with h11 doing the protocol."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

import h11

from masqmail.net.errors import NetError
from masqmail.net.stream import Stream

MAX_REQUEST_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0

Json = dict[str, object] | list[object]


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its path as decoded parts, its query, its JSON document, and who asks (None: not a Unix peer)."""

    method: str
    path: tuple[str, ...]
    query: dict[str, str]
    document: dict[str, object]
    uid: int | None
    gid: int | None


@dataclass(frozen=True, slots=True)
class Response:
    """One answer: a JSON document, raw bytes, or a series of JSON documents, one a line, as they come."""

    status: int = 200
    document: object = None
    raw: bytes | None = None
    series: AsyncIterator[Json] | None = None


@dataclass(frozen=True, slots=True)
class HttpError(Exception):
    """A refusal with its HTTP status and a text for a person."""

    status: int
    text: str
    fields: dict[str, object] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]


async def serve_http(stream: Stream, handler: Handler) -> None:
    """Answers the requests of one connection until its peer closes it. Never raises for what the peer does."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=65536)
    try:
        while connection.states[h11.CLIENT] is h11.IDLE:
            request = await _read_request(connection, stream)
            if request is None:
                break
            await _answer(connection, stream, request, handler)
            if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
                connection.start_next_cycle()
            else:
                break
    except (NetError, h11.ProtocolError):
        pass  # the peer went away or speaks no HTTP: nobody is left to be told
    finally:
        await stream.aclose()


async def _read_request(connection: h11.Connection, stream: Stream) -> Request | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive(TIMEOUT_SECONDS))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_REQUEST_BYTES:
                raise h11.RemoteProtocolError("request too large", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return _make_request(head, bytes(body), stream)
        else:
            return None


def _make_request(head: h11.Request, body: bytes, stream: Stream) -> Request:
    target = urlsplit(head.target.decode("ascii"))
    try:
        document = json.loads(body) if body else {}
    except ValueError as error:
        raise h11.RemoteProtocolError(f"the request is no JSON: {error}", error_status_hint=400) from error
    if not isinstance(document, dict):
        raise h11.RemoteProtocolError("the request is no JSON object", error_status_hint=400)
    credentials = stream.credentials
    return Request(
        method=head.method.decode("ascii"),
        path=tuple(unquote(part) for part in target.path.split("/") if part),
        query={name: values[-1] for name, values in parse_qs(target.query, keep_blank_values=True).items()},
        document=document,
        uid=credentials.uid if credentials else None,
        gid=credentials.gid if credentials else None,
    )


async def _answer(connection: h11.Connection, stream: Stream, request: Request, handler: Handler) -> None:
    try:
        response = await handler(request)
    except HttpError as error:
        response = Response(error.status, {"error": error.text, **error.fields})
    if response.series is not None:
        await _send_series(connection, stream, response)
        return
    body = response.raw if response.raw is not None else _encode(response.document)
    kind = "application/octet-stream" if response.raw is not None else "application/json"
    headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
    await _send(connection, stream, h11.Response(status_code=response.status, headers=headers))
    await _send(connection, stream, h11.Data(data=body))
    await _send(connection, stream, h11.EndOfMessage())


async def _send_series(connection: h11.Connection, stream: Stream, response: Response) -> None:
    assert response.series is not None
    headers = [("Content-Type", "application/x-ndjson"), ("Transfer-Encoding", "chunked")]
    await _send(connection, stream, h11.Response(status_code=response.status, headers=headers))
    async for document in response.series:
        await _send(connection, stream, h11.Data(data=_encode(document)))
    await _send(connection, stream, h11.EndOfMessage())


async def _send(connection: h11.Connection, stream: Stream, event: h11.Event) -> None:
    data = connection.send(event)
    if data:
        stream.write(data)
        await stream.drain(TIMEOUT_SECONDS)


def _encode(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
