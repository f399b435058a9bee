"""The control socket's HTTP: whatever comes gets an answer, and long answers do not need to fit into memory."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from masqmail.daemon import httpserver
from masqmail.daemon.http import HttpError, Request, Response, json_lines, json_list
from masqmail.daemon.httpserver import serve_http
from masqmail.net.errors import NetError
from masqmail.net.fake import stream_pair
from masqmail.net.stream import Stream
from masqmail.spool.api import SpoolFull

pytestmark = pytest.mark.anyio

GET = b"GET /v1/status?a=1&b=x%20y HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def served(handler: Callable[[Request], Awaitable[Response]]) -> AsyncIterator[Stream]:
    """The client's end of a connection that is being served."""
    near, far = stream_pair()

    async def serve() -> None:
        await serve_http(far, handler)
        await far.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        yield near
        near.abort()


async def echo(request: Request) -> Response:
    return Response({"path": request.path, "query": request.query, "document": request.document})


async def exchange(data: bytes, handler: Callable[[Request], Awaitable[Response]] = echo) -> bytes:
    """All that comes back for these bytes until the connection is closed or nothing more comes."""
    async with served(handler) as near:
        near.write(data)
        return await _read_all(near)


async def _read_all(near: Stream) -> bytes:
    """What has come when nobody has anything to do any more."""
    for _ in range(100):
        await anyio.sleep(0)
    received = b""
    try:
        while piece := await near.receive(0):
            received += piece
    except NetError:
        pass
    return received


def _status_and_body(answer: bytes) -> tuple[int, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def test_a_request_comes_to_the_handler_in_parts_and_its_document_goes_back() -> None:
    answer = await exchange(GET)
    assert _status_and_body(answer) == (
        200,
        {"path": ["v1", "status"], "query": {"a": "1", "b": "x y"}, "document": {}},
    )
    assert b"Content-Type: application/json\r\n" in answer


async def test_the_connection_serves_one_request_after_the_other() -> None:
    post = b'POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"wait":true}'
    answer = await exchange(GET + post + GET)
    assert answer.count(b"HTTP/1.1 200") == 3
    assert b'"document":{"wait":true}' in answer


@pytest.mark.parametrize(
    ("request_", "status", "word"),
    [
        (b"EHLO localhost\r\n\r\n", 400, "HTTP"),
        (b"\x00\xff\x16\x03\r\n\r\n", 400, "HTTP"),
        (b"GET /v1/status HTTP/1.1\r\n\r\n", 400, "Host"),
        (b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "cannot be read"),
        (b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n{bad", 400, "cannot be read"),
        (b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[]", 400, "no object"),
        (b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n\xff\xfe", 400, "cannot be read"),
        (b'POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{"a":"\\ud800"}', 400, "cannot be read"),
        (b"PUT /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", 405, "PUT"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nBig: " + b"x" * 70_000, 431, "HTTP"),
    ],
)
async def test_what_cannot_be_answered_gets_a_reason_as_json(request_: bytes, status: int, word: str) -> None:
    found, document = _status_and_body(await exchange(request_))
    assert found == status
    assert isinstance(document, dict) and word in document["error"]


async def test_nesting_without_end_is_refused_like_any_other_nonsense() -> None:
    body = b"[" * 200_000
    request = b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    status, _ = _status_and_body(await exchange(request))
    assert status == 400


async def test_a_request_that_is_too_big_is_refused_before_it_is_here() -> None:
    request = b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b" " * (
        httpserver.MAX_REQUEST_BYTES + 1
    )
    status, _ = _status_and_body(await exchange(request))
    assert status == 413


async def test_head_gets_no_body() -> None:
    answer = await exchange(b"HEAD /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405")
    assert answer.endswith(b"\r\n\r\n")


async def test_whoever_never_finishes_a_request_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpserver, "REQUEST_SECONDS", 0.01)
    status, document = _status_and_body(await _answer_to_silence(b"GET / HTTP/1.1\r\nHost:"))
    assert status == 408
    assert "was not here" in str(document)


async def test_whoever_has_nothing_more_to_ask_is_just_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpserver, "REQUEST_SECONDS", 0.01)
    assert (await _answer_to_silence(GET)).count(b"HTTP/1.1") == 1
    assert await _answer_to_silence(b"") == b""


async def _answer_to_silence(data: bytes) -> bytes:
    async with served(echo) as near:
        near.write(data)
        received = b""
        while piece := await near.receive(5):
            received += piece
        return received


async def test_a_refusal_of_the_handler_goes_out_with_its_status() -> None:
    async def refuse(request: Request) -> Response:
        raise HttpError(403, "message x is not yours")

    assert _status_and_body(await exchange(GET, refuse)) == (403, {"error": "message x is not yours"})


async def test_trouble_with_the_spool_is_worth_another_try() -> None:
    async def fail(request: Request) -> Response:
        raise SpoolFull("the disk is nearly full")

    assert _status_and_body(await exchange(GET, fail)) == (503, {"error": "the spool says: the disk is nearly full"})


async def test_a_fault_of_ours_is_answered_and_the_connection_goes_on() -> None:
    async def fail(request: Request) -> Response:
        raise ZeroDivisionError

    answer = await exchange(GET + GET, fail)
    assert answer.count(b"HTTP/1.1 500") == 2
    assert b"ZeroDivisionError" not in answer


async def _slices(*slices: list[object]) -> AsyncGenerator[list[object], None]:
    for entries in slices:
        yield entries


@pytest.mark.parametrize(
    ("slices", "document"),
    [((), []), (([],), []), (([1, 2], [], [{"a": "é"}]), [1, 2, {"a": "é"}])],
)
async def test_slices_make_one_json_list(slices: tuple[list[object], ...], document: object) -> None:
    text = b"".join([piece async for piece in json_list(_slices(*slices))])
    assert json.loads(text) == document


async def test_an_answer_in_pieces_is_chunked() -> None:
    async def many(request: Request) -> Response:
        return Response(content=json_list(_slices([1], [2])))

    answer = await exchange(GET + GET, many)
    assert answer.count(b"Transfer-Encoding: chunked") == 2
    assert answer.count(b"0\r\n\r\n") == 2


async def test_an_answer_that_cannot_be_finished_ends_without_its_last_chunk() -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        yield b"half"
        raise ZeroDivisionError

    async def handler(request: Request) -> Response:
        return Response(content=broken())

    answer = await exchange(GET + GET, handler)
    assert answer.endswith(b"4\r\nhalf\r\n")
    assert answer.count(b"HTTP/1.1") == 1


async def test_progress_that_fails_ends_with_its_reason() -> None:
    async def failing() -> AsyncGenerator[object, None]:
        yield {"waiting": 1}
        raise SpoolFull("no room")

    lines = [json.loads(line) async for line in json_lines(failing())]
    assert lines == [{"waiting": 1}, {"error": "the spool says: no room"}]


async def test_what_makes_an_answer_is_closed_when_the_peer_goes_away() -> None:
    closed = anyio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                await anyio.sleep(0)
                yield b"more"
        finally:
            closed.set()

    async def handler(request: Request) -> Response:
        return Response(content=endless())

    async with served(handler) as near:
        near.write(GET)
        await near.receive(1)
        near.abort()
        with anyio.fail_after(5):
            await closed.wait()
