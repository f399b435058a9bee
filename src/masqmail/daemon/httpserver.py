"""HTTP/1.1 with JSON over one of our streams: just enough for the control socket, with h11 doing the protocol.

Whatever the peer sends gets an answer: what is no HTTP or no JSON 400, what is too big 413, what takes too long
408. A long answer goes out in pieces; when one of them cannot be made the connection ends without the last
chunk, so that nobody takes half an answer for a whole one.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlsplit

import anyio
import h11

from masqmail.daemon.http import Handler, HttpError, Request, Response, encode, failure
from masqmail.net.errors import NetError
from masqmail.net.stream import Stream

MAX_HEAD_BYTES = 1 << 16
MAX_REQUEST_BYTES = 1 << 20
#: A whole request must come within this time, and the next one on the same connection.
REQUEST_SECONDS = 30.0
#: So long may the peer take nothing of an answer.
SEND_SECONDS = 30.0


async def serve_http(stream: Stream, handler: Handler) -> None:
    """Answers the requests of one connection until its peer closes it. Never raises for what the peer does."""
    exchange = _Exchange(stream, handler)
    try:
        while await exchange.serve_one():
            pass
    except NetError:
        pass  # the peer went away: nobody is left to be told


class _Exchange:
    """One connection, with one request at a time."""

    def __init__(self, stream: Stream, handler: Handler) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._stream = stream
        self._handler = handler

    async def serve_one(self) -> bool:
        """Answers the next request; says whether another one may follow."""
        try:
            request = await self._read_request()
        except HttpError as error:
            await self._answer("GET", error.response())
            return False
        if request is None:
            return False
        if not await self._answer(request.method, await self._handle(request)):
            return False
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        return False

    # --- what comes in

    async def _read_request(self) -> Request | None:
        """The next request, None when the peer has no more. Raises `HttpError` for what is none."""
        with anyio.move_on_after(REQUEST_SECONDS):
            return await self._read_whole_request()
        if self._http.their_state is h11.IDLE and not self._http.trailing_data[0]:
            return None
        raise HttpError(HTTPStatus.REQUEST_TIMEOUT, f"the request was not here after {REQUEST_SECONDS:g} s")

    async def _read_whole_request(self) -> Request | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            match await self._next_event():
                case h11.Request() as head:
                    if self._http.they_are_waiting_for_100_continue:
                        await self._send(h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[]))
                case h11.Data(data=data):
                    body += data
                    if len(body) > MAX_REQUEST_BYTES:
                        raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request is too big")
                case h11.EndOfMessage() if head is not None:
                    return _make_request(head, bytes(body), self._stream)
                case _:
                    return None

    async def _next_event(self) -> object:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise HttpError(error.error_status_hint, f"this is not HTTP: {error}") from error
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(await self._stream.receive(REQUEST_SECONDS))

    # --- what goes out

    async def _handle(self, request: Request) -> Response:
        """The handler's answer; a refusal or a fault of ours is one too."""
        try:
            if request.method not in ("GET", "POST"):
                raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, f"only GET and POST are known, not {request.method}")
            return await self._handler(request)
        except Exception as error:
            return failure(error)

    async def _answer(self, method: str, response: Response) -> bool:
        """Sends an answer; says whether it went out whole."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return False  # in the middle of an earlier answer: nothing sensible can be said any more
        headers = [("Content-Type", response.content_type)]
        if self._http.their_state is not h11.DONE:
            headers.append(("Connection", "close"))  # what follows is no request
        if response.content is not None:
            return await self._send_pieces(response.status, headers, response.content)
        body = encode(response.document)
        headers.append(("Content-Length", str(len(body))))
        await self._send(h11.Response(status_code=response.status, headers=headers))
        if method != "HEAD":
            await self._send(h11.Data(data=body))
        await self._send(h11.EndOfMessage())
        return True

    async def _send_pieces(
        self, status: int, headers: list[tuple[str, str]], content: AsyncGenerator[bytes, None]
    ) -> bool:
        async with aclosing(content):
            await self._send(h11.Response(status_code=status, headers=[*headers, ("Transfer-Encoding", "chunked")]))
            try:
                async for piece in content:
                    await self._send(h11.Data(data=piece))
            except NetError:
                raise
            except Exception as error:
                failure(error)
                return False
            await self._send(h11.EndOfMessage())
        return True

    async def _send(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            self._stream.write(data)
            await self._stream.drain(SEND_SECONDS)


def _make_request(head: h11.Request, body: bytes, stream: Stream) -> Request:
    try:
        target = urlsplit(head.target.decode("ascii"))
        query = parse_qs(target.query, keep_blank_values=True)
        document = json.loads(body) if body else {}
        json.dumps(document, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"the request cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise HttpError(HTTPStatus.BAD_REQUEST, "the request is JSON, but no object")
    credentials = stream.credentials
    return Request(
        method=head.method.decode("ascii"),
        path=tuple(unquote(part) for part in target.path.split("/") if part),
        query={name: values[-1] for name, values in query.items()},
        document=document,
        uid=credentials.uid if credentials else None,
        gid=credentials.gid if credentials else None,
    )
