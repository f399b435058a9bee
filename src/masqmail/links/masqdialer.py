"""`detect = "masqdialer"`: a masqdialer server (mserver), which shares a modem, names the link that is up."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import timedelta
from typing import ClassVar
from weakref import WeakValueDictionary

import anyio

from masqmail.frozen import frozen
from masqmail.links.detector import Observation, down, unknown, up
from masqmail.net import dial
from masqmail.net.errors import NetError
from masqmail.proto.masqdialer import LINE_SECONDS, PORT, Inquiry
from masqmail.settings import HostPort, setting
from masqmail.system.clock import Clock

_READ_BYTES = 1024


@frozen
class Options:
    """The server to ask, and how often."""

    server: HostPort = setting(
        "The masqdialer server, which names the connection that is up; without a port it is 224.",
        default=HostPort("localhost", PORT),
    )
    interval: timedelta = setting("How long to wait between two questions.", default=timedelta(seconds=5))


class MasqdialerDetector:
    """Asks the server again and again. Links of the same server share what it answers."""

    options_type: ClassVar[type[Options]] = Options

    def __init__(self, link: str, options: Options, clock: Clock) -> None:
        self._link = link
        address = HostPort(options.server.host, options.server.port or PORT)
        self._server = _servers.setdefault(address, _Server(address))
        self._interval_seconds = options.interval.total_seconds()
        self._clock = clock

    async def watch(self) -> AsyncGenerator[Observation, None]:
        while True:
            yield await self.ask()
            await self._clock.sleep(self._interval_seconds)

    async def ask(self) -> Observation:
        """Up when the connection has the link's name; unknown, never up, when the answer is missing or odd."""
        address = self._server.address
        try:
            found = await self._server.ask()
        except NetError as error:
            return unknown(error.reason)
        except OSError as error:
            return unknown(f"the connection to {address} broke: {dial.explain(error)}")
        if found.fault:
            return unknown(f"{address} {found.fault}")
        if found.dialling:
            return down(f'{address} is still dialling "{found.dialling}"')
        if found.online == self._link:
            return up(f"{address} names it")
        return down(f'{address} names "{found.online}"' if found.online else f"{address} says that no line is up")


class _Server:
    """One server, asked once at a time: who comes meanwhile gets the same answer."""

    def __init__(self, address: HostPort) -> None:
        self.address = address
        self._turn = anyio.Lock()
        self._answers = 0
        self._last = Inquiry()

    async def ask(self) -> Inquiry:
        """The inquiry when it is over. Raises `NetError` or `OSError` for a connection that fails."""
        known = self._answers
        async with self._turn:
            if self._answers == known:
                self._last = await _inquire(self.address)
                self._answers += 1
            return self._last


#: The servers of all detectors there are.
_servers: WeakValueDictionary[HostPort, _Server] = WeakValueDictionary()


async def _inquire(address: HostPort) -> Inquiry:
    sock = await dial.open_socket(address, timeout_seconds=LINE_SECONDS)
    inquiry = Inquiry()
    with sock:
        while not inquiry.is_over:
            with anyio.move_on_after(LINE_SECONDS) as deadline:
                await _hear_line(sock, inquiry)
            if deadline.cancelled_caught:
                inquiry.expire()
    return inquiry


async def _hear_line(sock: socket.socket, inquiry: Inquiry) -> None:
    """Takes the server's next line, or its end, and answers."""
    loop = asyncio.get_running_loop()
    lines = inquiry.lines
    while inquiry.lines == lines and not inquiry.is_over:
        reply = inquiry.receive(await loop.sock_recv(sock, _READ_BYTES))
        with suppress(OSError):  # reading tells of a broken connection; a last QUIT does not matter
            sock.send(reply)
