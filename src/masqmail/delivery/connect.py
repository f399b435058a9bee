"""How a next hop is spoken to, and what is remembered of it. How it is reached is `net.session`."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio

from masqmail.frozen import frozen
from masqmail.mail.address import address_literal
from masqmail.net.dns import name_of, to_ascii
from masqmail.net.errors import NameFailure
from masqmail.net.session import TlsMemory, TlsMode
from masqmail.net.stream import Stream
from masqmail.net.tls import SessionCache
from masqmail.proto.sasl import CLIENT_MECHANISMS, Credentials
from masqmail.proto.smtp.clientsession import ClientOptions, StartTls
from masqmail.proto.smtp.login import USUAL_MECHANISMS

NAME_TIME = timedelta(seconds=10)
MAX_CAREFUL_HOSTS = 1000
MAX_CUT_OFF = 1000

#: How long a host that pipelining troubled again is spoken to with care; four times as long each time after that.
CARE_TIME = timedelta(hours=1)
LONGEST_CARE = timedelta(days=1)


@frozen
class Options:
    """How to speak to the next hops of a route.

    A `helo_name` of None is found by the address that we have on the connection: see `our_name`.
    `mechanisms` may be used to log in, in this order. `clear_password` lets a password travel without TLS:
    only for a `tls = "none"` that somebody wrote. With `pipelining` off every command waits for its reply.
    `time_scale` stretches every time-out for slow links; `linger` is how long an idle connection waits for more
    work. `max_messages` of 0 is no limit. `connections` is how many may be open to the next hop at a time.
    With a `wrapper` we speak to that program in place of a connection of our own, and must have a `helo_name`.
    `send_first` does not wait for the greeting, which a wrapper may have swallowed.
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
    connections: int = 1
    wrapper: tuple[str, ...] = ()
    send_first: bool = False

    def seconds(self, time: timedelta) -> float:
        """A time-out as this link needs it."""
        return time.total_seconds() * self.time_scale


_STARTTLS = {
    TlsMode.STARTTLS: StartTls.REQUIRED,
    TlsMode.OPPORTUNISTIC: StartTls.IF_OFFERED,
    TlsMode.IMPLICIT: StartTls.NEVER,
    TlsMode.NONE: StartTls.NEVER,
}


@frozen
class _Trouble:
    """How often a host had trouble with pipelining, and until when (monotonic) it is spoken to with care.

    Without such a time that is until a session goes well: the line may have been to blame.
    """

    count: int
    at: float
    ends: float | None


class Memory(TlsMemory):
    """What we know of next hops from one connection to the next: TLS, and who must be treated with care.

    One for all next hops, until the configuration changes.
    """

    def __init__(
        self, sessions: SessionCache | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(sessions)
        self._monotonic = monotonic
        self._troubles: dict[str, _Trouble] = {}
        self._cut_off: dict[tuple[str, str], None] = {}  # next hop and queue ID

    def needs_care(self, next_hop: str) -> bool:
        """Whether this host gets one command at a time, whatever it offers."""
        trouble = self._troubles.get(next_hop)
        return trouble is not None and (trouble.ends is None or self._monotonic() < trouble.ends)

    def note_trouble(self, next_hop: str, *, is_certain: bool) -> None:
        """Pipelining confused this host (`is_certain`), or it stalled or hung up in the middle of a window.

        The second may have been the line's fault, unless it happens again within a day.
        """
        now, longest = self._monotonic(), LONGEST_CARE.total_seconds()
        before = self._troubles.pop(next_hop, None)
        count = 1 + (before.count if before is not None and now - before.at < longest else 0)
        ends: float | None = None
        if is_certain:
            ends = now + longest
        elif count > 1:
            ends = now + min(CARE_TIME.total_seconds() * 4 ** (count - 2), longest)
        if before is not None and before.ends is not None and before.ends > now:
            ends = max(before.ends, ends or 0.0)
        self._troubles[next_hop] = _Trouble(count, now, ends)
        while len(self._troubles) > MAX_CAREFUL_HOSTS:
            del self._troubles[next(iter(self._troubles))]

    def note_success(self, next_hop: str) -> None:
        """A session went well: a single stall is forgiven, but not forgotten."""
        trouble = self._troubles.get(next_hop)
        if trouble is not None and trouble.ends is None:
            self._troubles[next_hop] = replace(trouble, ends=trouble.at)

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
        mechanisms=tuple(name for name in options.mechanisms if name in USUAL_MECHANISMS),
        clear_password=options.clear_password,
        send_first=options.send_first,
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
