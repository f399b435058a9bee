"""Finding the addresses of a host and connecting to the first that answers, RFC 8305 ("happy eyeballs")."""

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from pathlib import Path

import anyio

from masqmail.frozen import frozen
from masqmail.net.errors import ConnectFailure, NameFailure, NoAddress
from masqmail.settings import HostPort

ATTEMPT_DELAY_SECONDS = 0.25  # RFC 8305 §5
MAX_ADDRESSES = 16
_UNIX_RETRY_SECONDS = 0.05


@frozen
class Endpoint:
    """One address to connect to, as the socket module wants it."""

    family: int
    sockaddr: tuple[str, int] | tuple[str, int, int, int]

    @property
    def host(self) -> str:
        return self.sockaddr[0]


async def look_up(host: str, port: int = 0) -> list[Endpoint]:
    """The addresses of a host, best first (RFC 6724); a numeric one is itself.

    Raises `NoAddress`, or `NameFailure` for a later try.
    """
    try:
        found = _getaddrinfo(host, port, socket.AI_NUMERICHOST)
    except (socket.gaierror, ValueError):
        pass  # a name
    else:
        return found
    loop = asyncio.get_running_loop()
    try:
        return await loop.run_in_executor(None, _getaddrinfo, host, port, 0)
    except socket.gaierror as error:
        raise _name_trouble(host, error) from error
    except ValueError as error:  # bad labels, a NUL
        raise NameFailure(f"{host!r} cannot be the name of a host") from error


async def open_socket(
    address: HostPort, *, timeout_seconds: float, local_address: str = "", begun: Callable[[], None] | None = None
) -> socket.socket:
    """A connected TCP socket. Tries all addresses of the host; `local_address` is the one to come from.

    `begun` is called when they are known and the first attempt begins. Raises `NameFailure` or, with the trouble of
    each address, `ConnectFailure`.
    """
    endpoints: list[Endpoint] = []
    faults: dict[str, str] = {}
    with anyio.move_on_after(timeout_seconds):
        endpoints = await look_up(address.host, address.port)
        endpoints = _in_turns([end for end in endpoints if _fits(end, local_address)])[:MAX_ADDRESSES]
        if not endpoints:
            raise ConnectFailure(f"{address.host} has no address that can be reached from {local_address}")
        if begun is not None:
            begun()
        if winner := await _race(endpoints, local_address, faults):
            return winner
    if not endpoints:
        raise NameFailure(f"the name {address.host} could not be resolved within {timeout_seconds:g} s")
    for endpoint in endpoints:
        faults.setdefault(endpoint.host, f"timed out after {timeout_seconds:g} s")
    raise ConnectFailure(f"cannot connect to {address}: {_summary(address, faults)}")


async def open_unix_socket(path: Path, *, timeout_seconds: float) -> socket.socket:
    """A connected Unix socket; waits for room in the listener's backlog. Raises `ConnectFailure`."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with anyio.fail_after(timeout_seconds):
            while True:
                try:
                    sock.connect(str(path))
                except BlockingIOError:  # unix(7): EAGAIN says that the backlog is full
                    await anyio.sleep(_UNIX_RETRY_SECONDS)
                else:
                    return sock
    except TimeoutError as error:
        sock.close()
        raise ConnectFailure(f"cannot connect to {path}: timed out after {timeout_seconds:g} s") from error
    except OSError as error:
        sock.close()
        raise ConnectFailure(f"cannot connect to {path}: {explain(error)}") from error
    except BaseException:
        sock.close()
        raise


def explain(error: OSError) -> str:
    """What an error of the network means, in the usual lower-case words."""
    return _WORDS.get(error.errno or 0) or (os.strerror(error.errno) if error.errno else str(error)).lower()


_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset by the other side",
    errno.EPIPE: "connection closed by the other side",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network is unreachable",
    errno.ETIMEDOUT: "timed out",
    errno.EADDRNOTAVAIL: "this host has no such address",
}


def _getaddrinfo(host: str, port: int, flags: int) -> list[Endpoint]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [Endpoint(family, sockaddr) for family, _, _, _, sockaddr in found]  # type: ignore[arg-type]


def _name_trouble(host: str, error: socket.gaierror) -> NameFailure:
    if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
        return NoAddress(f"the name {host} has no address")
    if error.errno == socket.EAI_AGAIN:
        return NameFailure(f"the name {host} could not be resolved: no answer from a name server")
    return NameFailure(f"the name {host} could not be resolved: {(error.strerror or str(error)).lower()}")


def _fits(endpoint: Endpoint, local_address: str) -> bool:
    """Whether one can go from the local address to this one: both IPv4 or both IPv6."""
    if not local_address:
        return True
    version = ipaddress.ip_address(local_address).version
    return endpoint.family == (socket.AF_INET if version == 4 else socket.AF_INET6)


def _in_turns(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """IPv6 and IPv4 by turns, beginning with the kind that came first, RFC 8305 §4."""
    first = [end for end in endpoints if end.family == endpoints[0].family]
    other = [end for end in endpoints if end.family != endpoints[0].family]
    return [end for end in chain.from_iterable(zip_longest(first, other)) if end]


async def _race(endpoints: Sequence[Endpoint], local_address: str, faults: dict[str, str]) -> socket.socket | None:
    """The first connection to succeed; each attempt has a head start on the next. Collects what failed."""
    winners: list[socket.socket] = []

    async def attempt(endpoint: Endpoint, is_over: anyio.Event) -> None:
        try:
            winners.append(await _connect(endpoint, local_address))
            group.cancel_scope.cancel()
        except OSError as error:
            faults[endpoint.host] = explain(error)
        finally:
            is_over.set()

    try:
        async with anyio.create_task_group() as group:
            for endpoint in endpoints:
                is_over = anyio.Event()
                group.start_soon(attempt, endpoint, is_over)
                with anyio.move_on_after(ATTEMPT_DELAY_SECONDS):
                    await is_over.wait()
    except BaseException:
        for winner in winners:
            winner.close()
        raise
    for loser in winners[1:]:
        loser.close()
    return winners[0] if winners else None


async def _connect(endpoint: Endpoint, local_address: str) -> socket.socket:
    sock = socket.socket(endpoint.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if local_address:
            sock.bind((local_address, 0))
        await asyncio.get_running_loop().sock_connect(sock, endpoint.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def _summary(address: HostPort, faults: dict[str, str]) -> str:
    if len(faults) == 1:
        return next(iter(faults.values()))
    return "; ".join(f"{host}: {fault}" for host, fault in faults.items())
