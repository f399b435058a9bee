"""The loop of the privileged parent: signals, requests of the daemon, and replies.

Nothing here waits but one `poll`. A request that is no request, or asks for what the configuration does not
name, is refused; the loop goes on whatever the daemon sends. When as much is being done as is allowed at a time,
the daemon's next request stays in the socket.
"""

import logging
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import assert_never

from masqmail.daemon import parent_wire as wire
from masqmail.daemon.parent_open import open_listeners, open_secret
from masqmail.daemon.parent_pool import WorkerPool
from masqmail.daemon.parent_worker import work
from masqmail.delivery.local import FindAccount, LocalSettings, local_error
from masqmail.settings import HostPort
from masqmail.system import events

MARGIN_SECONDS = 120.0  # what a delivery may take besides the time of a pipe: locks, a slow disk

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class ParentSettings:
    """What the configuration lets the parent do. Nothing else can be asked of it.

    The daemon becomes `user` and `group` (empty: the user's own). `directories` are made for it, with these
    modes, when they are missing. `secret_files` are those it may read though they are root's.
    """

    user: str
    group: str
    local: LocalSettings
    alias_files: tuple[str, ...] = ()
    listen: tuple[HostPort, ...] = ()
    secret_files: tuple[str, ...] = ()
    directories: tuple[tuple[str, int], ...] = ()


class Parent:
    """Serves one daemon until it ends."""

    def __init__(
        self,
        channel: socket.socket,
        daemon: int,
        load_settings: Callable[[], ParentSettings],
        settings: ParentSettings,
        find_account: FindAccount,
    ) -> None:
        self._channel: socket.socket | None = channel
        self._daemon = daemon
        self._load_settings = load_settings
        self._settings = settings
        self._find_account = find_account
        self._replies: deque[tuple[bytes, list[int]]] = deque()
        self._status: int | None = None  # of the daemon, when it has ended
        self._selector = selectors.PollSelector()
        self._pool = WorkerPool(self._selector, self._finish)

    def serve(self) -> int:
        """Returns the daemon's exit status; 128 and the signal's number when one ended it."""
        wake, waker = socket.socketpair()
        waker.setblocking(False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)  # its number arrives at `wake`
        signal.set_wakeup_fd(waker.fileno())
        self._selector.register(wake, selectors.EVENT_READ, lambda: self._pass_on(wake.recv(64)))
        pidfd = os.pidfd_open(self._daemon)
        self._selector.register(pidfd, selectors.EVENT_READ, lambda: self._reap_daemon(pidfd))
        while self._status is None:
            self._watch_channel()
            deadline = self._pool.next_deadline
            for key, _ in self._selector.select(deadline and max(0.0, deadline - time.monotonic())):
                key.data()
            self._pool.press_late()
        self._hang_up()
        self._pool.end_all()
        return self._status

    # --- signals

    def _pass_on(self, numbers: bytes) -> None:
        """Tells the daemon what we were told: to end, or to read its configuration again, as we do ourselves."""
        for number in numbers:
            if number == signal.SIGHUP:
                self._reload()
            with suppress(ProcessLookupError):
                os.kill(self._daemon, signal.SIGHUP if number == signal.SIGHUP else signal.SIGTERM)

    def _reload(self) -> None:
        try:
            self._settings = self._load_settings()
        except Exception as error:
            events.emit(events.CONFIGURATION_REFUSED, level=logging.ERROR, reason=str(error))

    def _reap_daemon(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(self._daemon, 0)
        code = os.waitstatus_to_exitcode(status)
        self._status = code if code >= 0 else 128 - code

    # --- requests

    def _watch_channel(self) -> None:
        """Replies go out first; requests are read while there is room for one more."""
        if self._channel is None:
            return
        with suppress(KeyError):
            self._selector.unregister(self._channel)
        if self._replies:
            self._selector.register(self._channel, selectors.EVENT_WRITE, self._send)
        elif not self._pool.is_full:
            self._selector.register(self._channel, selectors.EVENT_READ, self._receive)

    def _receive(self) -> None:
        if self._channel is None:  # hung up a moment ago
            return
        try:
            packet, descriptors, flags, _ = socket.recv_fds(
                self._channel,
                wire.MAX_PACKET_BYTES,
                wire.MAX_DESCRIPTORS,
                socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC,
            )
        except BlockingIOError:
            return
        except OSError:
            self._hang_up()
            return
        try:
            if not packet:
                self._hang_up()
            elif flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                self._complain("a packet that is too big")
            else:
                self._answer(wire.unpack_request(packet), descriptors)
        except wire.WireError as error:
            self._complain(str(error))
        finally:
            _close_all(descriptors)

    def _answer(self, request: wire.Request, descriptors: Sequence[int]) -> None:
        match request.verb:
            case wire.Verb.DELIVER:
                self._start_worker(request, descriptors)
            case wire.Verb.LISTEN:
                self._open(request, self._listen)
            case wire.Verb.OPEN:
                self._open(request, self._open_secret)
            case _:
                assert_never(request.verb)

    def _complain(self, reason: str) -> None:
        events.emit(events.INTERNAL_ERROR, level=logging.ERROR, reason=f"the daemon sent its parent {reason}")

    def _start_worker(self, request: wire.Request, descriptors: Sequence[int]) -> None:
        settings = self._settings
        carry_out = partial(
            work,
            request.payload,
            descriptors,
            settings=settings.local,
            alias_files=settings.alias_files,
            find_account=self._find_account,
        )
        try:
            self._pool.start(request.number, carry_out, settings.local.pipe_timeout_seconds + MARGIN_SECONDS)
        except OSError as error:
            outcome = local_error(f"no process for the delivery can be started: {error.strerror}")
            self._reply(request.number, wire.encode_outcome(outcome))

    def _finish(self, number: int, result: bytes) -> None:
        self._reply(number, result or wire.encode_outcome(local_error("the delivery was cut off")))

    def _open(self, request: wire.Request, opener: Callable[[str], list[int]]) -> None:
        """Replies with what the request names, or with what is wrong with it."""
        name = request.payload.decode("utf-8", "replace")
        descriptors: list[int] = []
        fault = ""
        try:
            descriptors = opener(name)
        except OSError as error:
            fault = f"{name}: {error.strerror or error}"
        except wire.WireError as error:
            fault = str(error)
            self._complain(f"a wish for something else: {fault}")
        self._reply(request.number, wire.encode_fault(fault), descriptors)

    def _listen(self, name: str) -> list[int]:
        for address in self._settings.listen:
            if str(address) == name:
                return [listener.detach() for listener in open_listeners(address)]
        raise wire.WireError(f"{name} is no address of the configuration")

    def _open_secret(self, name: str) -> list[int]:
        if name not in self._settings.secret_files:
            raise wire.WireError(f"{name} is no secret file of the configuration")
        return [open_secret(name)]

    # --- replies

    def _reply(self, number: int, payload: bytes, descriptors: Sequence[int] = ()) -> None:
        self._replies.append((wire.pack_reply(number, payload), list(descriptors)))
        self._send()

    def _send(self) -> None:
        """Sends what the daemon takes now; without a daemon nobody wants it any more."""
        while self._replies:
            packet, descriptors = self._replies[0]
            try:
                if self._channel is not None:
                    socket.send_fds(self._channel, [packet], descriptors, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                self._hang_up()
            self._replies.popleft()
            _close_all(descriptors)

    def _hang_up(self) -> None:
        """The daemon closed its end, or has ended: it can ask for nothing more."""
        if self._channel is not None:
            with suppress(KeyError):
                self._selector.unregister(self._channel)
            self._channel.close()
            self._channel = None


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
