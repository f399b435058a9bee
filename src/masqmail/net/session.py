"""How a server is reached: the connection and TLS, before the first word of any protocol.

What SMTP, POP3 and the others share. Each has options of its own that are also a `Way`.
"""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from masqmail.net import dial
from masqmail.net import stream as net_stream
from masqmail.net.errors import NetError, TlsFailure
from masqmail.net.stream import Stream
from masqmail.net.tls import SessionCache, client_context
from masqmail.settings import HostPort

CONNECT_TIME = timedelta(seconds=60)
TLS_TIME = timedelta(seconds=60)


class TlsMode(Enum):
    """What protects the connection. The first two are verified."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"  # from the first byte, RFC 8314 §3.3
    OPPORTUNISTIC = "opportunistic"  # STARTTLS if offered, any certificate: RFC 7435
    NONE = "none"


class Way(Protocol):
    """What must be known to reach a server. `time_scale` stretches every time-out for slow links."""

    @property
    def tls(self) -> TlsMode: ...
    @property
    def tls_ca(self) -> Path | None: ...
    @property
    def tls_fingerprint(self) -> str: ...
    @property
    def local_address(self) -> str: ...
    @property
    def time_scale(self) -> float: ...


class TlsMemory:
    """What we know of servers' TLS from one connection to the next. Servers go by `str(HostPort)`."""

    def __init__(self, sessions: SessionCache | None = None) -> None:
        self.sessions = sessions or SessionCache()
        self._contexts: dict[tuple[bool, Path | None, str], ssl.SSLContext] = {}
        self._resumable: dict[str, anyio.Event] = {}  # servers somebody waits to resume a TLS session with

    async def context(self, way: Way) -> ssl.SSLContext:
        """The TLS context for a server. Raises `TlsFailure` for an unusable CA file or fingerprint."""
        verify = way.tls is not TlsMode.OPPORTUNISTIC
        key = (verify, way.tls_ca, way.tls_fingerprint)
        if key not in self._contexts:  # reading the system's store takes a while
            make = partial(client_context, verify=verify, ca_file=way.tls_ca, fingerprint=way.tls_fingerprint)
            self._contexts[key] = await anyio.to_thread.run_sync(make)
        return self._contexts[key]

    async def prepare(self, way: Way) -> None:
        """Makes the context that will be wanted; what is wrong with it shows when it is."""
        if way.tls is not TlsMode.NONE:
            with suppress(TlsFailure):
                await self.context(way)

    async def wait_for_session(self, server: str, context: ssl.SSLContext) -> None:
        """Returns when there is a TLS session with this server that can be resumed."""
        if self.sessions.find(server, context) is None:
            event = self._resumable.setdefault(server, anyio.Event())
            try:
                await event.wait()
            finally:
                if self._resumable.get(server) is event and not event.statistics().tasks_waiting:
                    del self._resumable[server]  # nobody waits any more, and perhaps nothing will ever come

    async def keep_session(self, server: str, way: Way, session: ssl.SSLSession) -> None:
        """Keeps a TLS session, for the next connection and for those in reserve."""
        context = await self.context(way)
        self.sessions.store(server, context, session)
        if self.sessions.find(server, context) is not None and server in self._resumable:
            self._resumable.pop(server).set()


async def open_stream(
    address: HostPort, way: Way, memory: TlsMemory, dialling: Callable[[], None] | None = None
) -> tuple[Stream, socket.socket]:
    """Connects; meanwhile TLS is prepared. The socket belongs to the stream and is there to be asked.

    `dialling` is called when the first packet leaves. Raises `NameFailure` or `ConnectFailure`.
    """
    timeout, failure = CONNECT_TIME.total_seconds() * way.time_scale, None
    async with anyio.create_task_group() as group:
        group.start_soon(memory.prepare, way)
        try:
            sock = await dial.open_socket(
                address, timeout_seconds=timeout, local_address=way.local_address, begun=dialling
            )
        except NetError as error:
            failure = error
    if failure is not None:
        raise failure
    return await net_stream.attach(sock), sock


async def protect(stream: Stream, server: HostPort, way: Way, memory: TlsMemory) -> None:
    """Starts TLS; where it is verified the certificate must be the server's. Raises `TlsFailure`."""
    context = await memory.context(way)
    known = memory.sessions.find(str(server), context)
    try:
        await stream.start_tls(
            context,
            server_side=False,
            server_name=server.host,
            session=known,
            is_first=way.tls is TlsMode.IMPLICIT,
            timeout_seconds=TLS_TIME.total_seconds() * way.time_scale,
        )
    except NetError as error:
        memory.sessions.forget(str(server))
        raise TlsFailure(error.reason) from error
    if known is not None and stream.tls is not None and not stream.tls.is_resumed:
        memory.sessions.forget(str(server))  # it has expired; that of this connection takes its place


async def keep_session(stream: Stream, server: HostPort, way: Way, memory: TlsMemory) -> None:
    """Keeps the TLS session for the next connection where there is none yet; harmless when repeated.

    Pythons up to 3.13.0, Debian 12's too, lose 5 KB for good each time they are asked for a session (gh-116810).
    So they are asked as seldom as can be, and never for the many hosts of direct delivery.
    """
    if stream.tls is None or way.tls is TlsMode.OPPORTUNISTIC:
        return
    context = await memory.context(way)
    if memory.sessions.find(str(server), context) is None and (session := stream.tls_session) is not None:
        await memory.keep_session(str(server), way, session)
