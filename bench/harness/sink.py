"""A fast receiving SMTP server for benchmarks: `python bench/harness/sink.py HOST:PORT`.

Writes a line of JSON to its standard output when it listens (`{"port": …}`), and one for each message it has
accepted: when (the monotonic clock, which all processes share), its Message-ID, its size and the number of the
connection. It ends with its standard input.
"""

import argparse
import asyncio
import json
import os
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import cast

if __name__ == "__main__":  # as a script its own folder is the path, and not `bench`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from harness.sinksession import Offer, SinkSession

_READ_BYTES = 1 << 16
_GOODBYE_SECONDS = 30.0


class Protection:
    """TLS on one connection. Closing works in both directions apart, as TLS 1.3 has it (RFC 8446 §6.1)."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._is_established = False
        self.is_ended = False  # the client said that nothing more comes

    def receive(self, data: bytes) -> bytes:
        self._incoming.write(data)
        parts = []
        try:
            if not self._is_established:
                self._object.do_handshake()
                self._is_established = True
            while part := self._object.read(_READ_BYTES):
                parts.append(part)
            self.is_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.is_ended = True
        return b"".join(parts)

    @property
    def is_established(self) -> bool:
        return self._is_established

    def send(self, data: bytes) -> None:
        if data:
            self._object.write(data)

    def close(self) -> None:
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # the client's goodbye is still to come

    def take_output(self) -> bytes:
        return self._outgoing.read()


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: "Sink") -> None:
        self._server = server
        self._number = server.next_number()
        self._session = SinkSession(server.offer, tls_is_on=server.is_implicit)
        self._tls: Protection | None = None
        self._transport: asyncio.Transport
        self._input_ended = False
        self._is_closing = False
        self._work: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._server.is_implicit:
            self._tls = Protection(self._server.context)
        else:
            self._go_on()

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        if self._tls is not None:
            try:
                data = self._tls.receive(data)
            except ssl.SSLError as error:
                print(json.dumps({"trouble": str(error)}), flush=True)
                self._transport.abort()
                return
            self._input_ended |= self._tls.is_ended
            if not self._tls.is_established:
                self._flush()
                return
        self._session.receive(data)
        self._go_on()

    def eof_received(self) -> bool:
        self._input_ended = True
        if not self._is_closing:
            self._go_on()
        return not self._is_closing  # there may still be replies to send

    def _go_on(self) -> None:
        session = self._session
        replies = session.take_replies()
        self._server.report(session, self._number)
        if self._tls is not None:
            self._tls.send(replies)
            self._flush()
        elif replies:
            self._transport.write(replies)
        if session.wants_tls:
            session.tls_started()
            self._tls = Protection(self._server.context)
        elif session.is_working:
            if self._work is None:
                self._work = asyncio.get_running_loop().call_later(self._server.work_seconds, self._work_is_done)
        elif session.is_over or self._input_ended:
            self._close()

    def _work_is_done(self) -> None:
        self._work = None
        self._session.done_working()
        if not (self._is_closing or self._transport.is_closing()):
            self._go_on()

    def _flush(self) -> None:
        if self._tls is not None and (output := self._tls.take_output()):
            self._transport.write(output)

    def _close(self) -> None:
        """Says goodbye, and waits for the client's.

        Otherwise what it sent behind its QUIT would meet a closed socket, and the reset destroy replies it has not
        read yet.
        """
        self._is_closing = True
        if self._tls is not None:
            self._tls.close()
            self._flush()
        self._transport.write_eof()
        asyncio.get_running_loop().call_later(_GOODBYE_SECONDS, self._transport.close)


class Sink:
    """What all connections share."""

    def __init__(
        self, offer: Offer, context: ssl.SSLContext | None, *, is_implicit: bool, work_seconds: float
    ) -> None:
        self.offer = offer
        self.is_implicit = is_implicit
        self.work_seconds = work_seconds
        self._context = context
        self._connections = 0

    @property
    def context(self) -> ssl.SSLContext:
        assert self._context is not None
        return self._context

    def next_number(self) -> int:
        self._connections += 1
        return self._connections

    def report(self, session: SinkSession, number: int) -> None:
        if accepted := session.take_accepted():
            now = time.monotonic()
            for message in accepted:
                facts = {"at": now, "id": message.message_id, "bytes": message.size_bytes, "connection": number}
                print(json.dumps(facts))
            sys.stdout.flush()


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("address", help="HOST:PORT; port 0 is any free one")
    parser.add_argument("--tls", choices=("none", "starttls", "implicit"), default="none")
    parser.add_argument("--certificate", type=Path, help="chain and key in one PEM file")
    parser.add_argument("--login", help="USER:PASSWORD that everybody must have")
    parser.add_argument("--no-chunking", action="store_true")
    parser.add_argument("--no-pipelining", action="store_true", help="and clients that do not wait are hung up on")
    parser.add_argument("--work", type=float, default=0.0, help="seconds that each message takes")
    return parser.parse_args()


async def serve(arguments: argparse.Namespace) -> None:
    offer = Offer(
        chunking=not arguments.no_chunking,
        pipelining=not arguments.no_pipelining,
        starttls=arguments.tls == "starttls",
        login=tuple(arguments.login.split(":", 1)) if arguments.login else None,
        works=arguments.work > 0,
    )
    context = None
    if arguments.tls != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(arguments.certificate)
    sink = Sink(offer, context, is_implicit=arguments.tls == "implicit", work_seconds=arguments.work)
    host, _, port = arguments.address.rpartition(":")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(sink), host, int(port), backlog=500)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    is_over = asyncio.Event()

    def read_input() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            is_over.set()

    loop.add_reader(sys.stdin.fileno(), read_input)
    await is_over.wait()


if __name__ == "__main__":
    asyncio.run(serve(read_arguments()))
