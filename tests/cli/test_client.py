"""The client's side of the control socket, against servers that answer well, badly, or not at all."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from masqmail.cli.client import BrokenOff, Daemon, NotRunning, Refused

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """A daemon that gives one answer, whatever it is asked, and hangs up. Yields what it was asked."""
    asked: list[bytes] = []

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            data = client.recv(65536)
            while data.split()[0] == b"POST" and not data.endswith(b"}"):
                data += client.recv(65536)
            asked.append(data)
            client.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join()


def _length(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


def test_a_document_is_asked_for_and_read(path: Path) -> None:
    with answering(path, _length(b'{"a": 1}')) as asked:
        assert Daemon(str(path)).get("queue", "../x y", limit="5", after="") == {"a": 1}
    assert asked[0].startswith(b"GET /v1/queue/..%2Fx%20y?limit=5 HTTP/1.1\r\n")


def test_an_action_carries_its_document(path: Path) -> None:
    with answering(path, _length(b'{"messages": 2}')) as asked:
        assert Daemon(str(path)).post("queue", "hold", ids=["1"], all=True) == {"messages": 2}
    assert asked[0].endswith(b'{"ids": ["1"], "all": true}')


def test_progress_comes_document_by_document(path: Path) -> None:
    with answering(path, CHUNKED + b'6\r\n{"a":1\r\n2\r\n}\n\r\n8\r\n{"a":2}\n\r\n0\r\n\r\n'):
        assert list(Daemon(str(path)).follow("flush")) == [{"a": 1}, {"a": 2}]


def test_progress_that_ends_in_an_error_raises_it(path: Path) -> None:
    with (
        answering(path, CHUNKED + b'14\r\n{"error":"no room"}\n\r\n0\r\n\r\n'),
        pytest.raises(Refused, match="no room"),
    ):
        list(Daemon(str(path)).follow("flush"))


def test_a_refusal_has_its_status_and_reason(path: Path) -> None:
    with answering(path, _length(b'{"error": "not yours"}', b"403 Forbidden")), pytest.raises(Refused) as refused:
        Daemon(str(path)).get("queue", "1")
    assert (refused.value.status, str(refused.value)) == (403, "not yours")


def test_a_refusal_that_is_no_json_keeps_its_phrase(path: Path) -> None:
    with answering(path, _length(b"<html>", b"502 Bad Gateway")), pytest.raises(Refused, match="Bad Gateway"):
        Daemon(str(path)).get("status")


def test_nothing_at_the_socket_means_that_it_does_not_run(path: Path) -> None:
    with pytest.raises(NotRunning, match=r"MasqMail is not running: nobody answers at .*control\.sock"):
        Daemon(str(path)).get("status")


def test_a_socket_that_was_left_behind_means_the_same(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(NotRunning):
        Daemon(str(path)).get("status")


def _get(daemon: Daemon) -> object:
    return daemon.get("queue")


def _follow(daemon: Daemon) -> object:
    return list(daemon.follow("flush"))


@pytest.mark.parametrize("ask", [_get, _follow])
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"421 4.3.2 too many connections\r\n",
        HEAD,
        HEAD + b"Content-Length: 100\r\n\r\n[1, 2",
        CHUNKED,
        CHUNKED + b"5\r\n[1, 2",
        CHUNKED + b"2\r\n[1\r\n",
        _length(b"no json"),
    ],
)
def test_half_an_answer_is_never_taken_for_a_whole_one(
    path: Path, answer: bytes, ask: Callable[[Daemon], object]
) -> None:
    with answering(path, answer), pytest.raises(BrokenOff):
        ask(Daemon(str(path)))
