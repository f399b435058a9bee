"""How a next hop is spoken to, and the way to it: connection and TLS, before the first word of SMTP."""

import ssl
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from masqmail.mail.address import address_literal
from masqmail.net import stream as net_stream
from masqmail.net.dns import name_of, to_ascii
from masqmail.net.errors import NameFailure, NetError, TlsFailure
from masqmail.net.stream import Stream
from masqmail.net.tls import SessionCache, client_context
from masqmail.proto.sasl import CLIENT_MECHANISMS, Credentials
from masqmail.proto.smtp.clientsession import ClientOptions, StartTls
from masqmail.settings import HostPort

CONNECT_TIME = timedelta(seconds=60)
TLS_TIME = timedelta(seconds=60)
NAME_TIME = timedelta(seconds=10)
MAX_CAREFUL_HOSTS = 1000
MAX_CUT_OFF = 1000


class TlsMode(Enum):
    """What protects the connection. The first two are verified."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"  # from the first byte, RFC 8314 §3.3
    OPPORTUNISTIC = "opportunistic"  # STARTTLS if offered, any certificate: RFC 7435
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Options:
    """How to speak to the next hops of a route.

    A `helo_name` of None is found by the address that we have on the connection: see `our_name`.
    `mechanisms` may be used to log in, in this order. `clear_password` lets a password travel without TLS:
    only for a `tls = "none"` that somebody wrote. With `pipelining` off every command waits for its reply.
    `time_scale` stretches every time-out for slow links; `linger` is how long an idle connection waits for more
    work. `max_messages` of 0 is no limit.
    """

    helo_name: str | None
    tls: TlsMode = TlsMode.STARTTLS
    tls_ca: Path | None = None
    tls_fingerprint: str = ""
    credentials: Credentials | None = None
    mechanisms: tuple[str, ...] = tuple(CLIENT_MECHANISMS)
    clear_password: bool = False
    pipelining: bool = True
    max_messages: int = 0
    time_scale: float = 1.0
    linger: timedelta = timedelta(seconds=1)
    window_bytes: int = 64 * 1024
    window_messages: int = 64
    local_address: str = ""

    def seconds(self, time: timedelta) -> float:
        """A time-out as this link needs it."""
        return time.total_seconds() * self.time_scale


_STARTTLS = {
    TlsMode.STARTTLS: StartTls.REQUIRED,
    TlsMode.OPPORTUNISTIC: StartTls.IF_OFFERED,
    TlsMode.IMPLICIT: StartTls.NEVER,
    TlsMode.NONE: StartTls.NEVER,
}


class Memory:
    """What we know of next hops from one connection to the next: TLS, and who must be treated with care.

    One for all next hops, until the configuration changes.
    """

    def __init__(self, sessions: SessionCache | None = None) -> None:
        self.sessions = sessions or SessionCache()
        self._contexts: dict[tuple[bool, Path | None, str], ssl.SSLContext] = {}
        self._careful: dict[str, bool] = {}  # next hop: whether for good
        self._cut_off: dict[tuple[str, str], None] = {}  # next hop and queue ID

    async def context(self, options: Options) -> ssl.SSLContext:
        """The TLS context for a next hop. Raises `TlsFailure` for an unusable CA file or fingerprint."""
        verify = options.tls is not TlsMode.OPPORTUNISTIC
        key = (verify, options.tls_ca, options.tls_fingerprint)
        if key not in self._contexts:  # reading the system's store takes a while
            make = partial(client_context, verify=verify, ca_file=options.tls_ca, fingerprint=options.tls_fingerprint)
            self._contexts[key] = await anyio.to_thread.run_sync(make)
        return self._contexts[key]

    def needs_care(self, next_hop: str) -> bool:
        """Whether this host gets one command at a time, whatever it offers."""
        return next_hop in self._careful

    def note_trouble(self, next_hop: str, *, for_good: bool) -> None:
        """Pipelining confused this host (`for_good`), or it stalled or hung up in the middle of a window."""
        self._careful[next_hop] = for_good or self._careful.get(next_hop, False)
        while len(self._careful) > MAX_CAREFUL_HOSTS:
            del self._careful[next(iter(self._careful))]

    def note_success(self, next_hop: str) -> None:
        """A session went well: a single stall is forgiven."""
        if self._careful.get(next_hop) is False:
            del self._careful[next_hop]

    def note_cut_off(self, next_hop: str, queue_id: str) -> bool:
        """The connection broke in the middle of this message's content; whether the last time it did so, too."""
        is_repeated = (next_hop, queue_id) in self._cut_off
        self._cut_off[next_hop, queue_id] = None
        while len(self._cut_off) > MAX_CUT_OFF:
            del self._cut_off[next(iter(self._cut_off))]
        return is_repeated

    def note_answered(self, next_hop: str, queue_id: str) -> None:
        """The message got through to the host, whatever that made of it."""
        self._cut_off.pop((next_hop, queue_id), None)


def client_options(options: Options, helo_name: str, *, may_pipeline: bool) -> ClientOptions:
    """The same for the protocol machine."""
    return ClientOptions(
        helo_name=helo_name,
        starttls=_STARTTLS[options.tls],
        tls_is_on=options.tls is TlsMode.IMPLICIT,
        credentials=options.credentials,
        mechanisms=options.mechanisms,
        clear_password=options.clear_password,
        pipelining=options.pipelining and may_pipeline,
        window_bytes=options.window_bytes,
        window_transactions=options.window_messages,
        to_a_labels=_to_a_labels,
    )


def _to_a_labels(domain: str) -> str:
    try:
        return to_ascii(domain)
    except NameFailure as error:
        raise ValueError(error.reason) from error


async def open_stream(address: HostPort, options: Options) -> Stream:
    """Connects. Raises `NameFailure` or `ConnectFailure`."""
    return await net_stream.connect(
        address, timeout_seconds=options.seconds(CONNECT_TIME), local_address=options.local_address
    )


async def our_name(stream: Stream, options: Options) -> str:
    """The name to greet with: the one given, or that of our own address on this connection.

    An address whose name does not lead back to it, or cannot be found in time, stands for itself as a literal:
    RFC 5321 §4.1.4.
    """
    if options.helo_name is not None:
        return options.helo_name
    assert stream.local is not None, "a TCP connection has an address at both ends"
    try:
        with anyio.fail_after(options.seconds(NAME_TIME)):
            return await name_of(stream.local.host)
    except (NameFailure, TimeoutError):
        return address_literal(stream.local.host)


async def protect(stream: Stream, next_hop: HostPort, options: Options, memory: Memory) -> None:
    """Starts TLS; where it is verified the certificate must be the next hop's. Raises `TlsFailure`."""
    context = await memory.context(options)
    try:
        await stream.start_tls(
            context,
            server_side=False,
            server_name=next_hop.host,
            session=memory.sessions.find(str(next_hop), context),
            timeout_seconds=options.seconds(TLS_TIME),
        )
    except NetError as error:
        memory.sessions.forget(str(next_hop))
        raise TlsFailure(error.reason) from error


async def keep_session(stream: Stream, next_hop: HostPort, options: Options, memory: Memory) -> None:
    """Keeps the TLS session for the next connection; to be called when this one ends."""
    if stream.tls_session is not None:
        memory.sessions.store(str(next_hop), await memory.context(options), stream.tls_session)
