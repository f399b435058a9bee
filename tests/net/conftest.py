"""Certificates, and pairs of streams over everything a stream can run on."""

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trustme

from masqmail.net import stream
from masqmail.net.fake import stream_pair
from masqmail.net.stream import Stream
from masqmail.net.tls import client_context, server_context

NAME = "mail.example.org"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for NAME and its key in one file."""
    path = tmp_path_factory.mktemp("server") / "both.pem"
    authority.issue_cert(NAME, "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    return server_context(certificate)


@pytest.fixture
def client_tls(ca_file: Path) -> ssl.SSLContext:
    return client_context(ca_file=ca_file)


Pair = tuple[Stream, Stream]


@pytest.fixture(params=["tcp", "unix", "memory"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """A client's stream and its server's, over TCP, a Unix socket and memory."""
    makers: dict[str, Callable[[], Awaitable[Pair]]] = {"tcp": tcp_pair, "unix": unix_pair, "memory": memory_pair}
    client, server = await makers[request.param]()
    yield client, server
    client.abort()
    server.abort()


async def tcp_pair() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for sock in (near, far):
        sock.setblocking(False)
    return await stream.attach(near), await stream.attach(far)


async def unix_pair() -> Pair:
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setblocking(False)
    return await stream.attach(near), await stream.attach(far)


async def memory_pair() -> Pair:
    return stream_pair()
