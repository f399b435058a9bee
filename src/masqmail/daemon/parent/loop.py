"""The loop of the privileged parent: signals, requests of the daemon, and replies.

Nothing here waits but one `poll`. A request that is no request, or asks for what the configuration does not
name, is refused; the loop goes on whatever the daemon sends. When as much is being done as is allowed at a time,
the daemon's next request stays in the socket.
"""

import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from masqmail.daemon.parent import wire
from masqmail.daemon.parent.opening import open_secret
from masqmail.daemon.parent.pool import WorkerPool
from masqmail.daemon.parent.settings import ParentSettings, read_in_child
from masqmail.net.bind import open_listeners

TYPE_CHECKING = False  # as in `typing`, which would stay in the memory of the parent
if TYPE_CHECKING:
    from masqmail.delivery.local import FindAccount

MARGIN_SECONDS = 120.0  # what a delivery may take besides the time of a pipe: locks, a slow disk


class Parent:
    """Serves one daemon until it ends."""

    def __init__(
        self,
        channel: socket.socket,
        wake: socket.socket,
        daemon: int,
        settings: ParentSettings,
        load_settings: Callable[[], ParentSettings],
        find_account: "FindAccount",
    ) -> None:
        self._channel: socket.socket | None = channel
        self._wake = wake
        self._daemon = daemon
        self._settings = settings
        self._new_settings: ParentSettings | None = None  # read for a reload, which the daemon may still refuse
        self._load_settings = load_settings
        self._find_account = find_account
        self._replies: deque[tuple[bytes, list[int]]] = deque()
        self._status: int | None = None  # of the daemon, when it has ended
        self._selector = selectors.PollSelector()
        self._pool = WorkerPool(self._selector, self._finish)

    def serve(self) -> int:
        """Returns the daemon's exit status; 128 and the signal's number when one ended it."""
        wake = self._wake
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
        """Tells the daemon what we were told: to end, or to read its configuration again, for which it needs us."""
        for number in numbers:
            with suppress(ProcessLookupError):
                os.kill(self._daemon, signal.SIGHUP if number == signal.SIGHUP else signal.SIGTERM)

    def _reap_daemon(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        self._status = wait_for(self._daemon)

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
            case wire.Verb.READ:
                self._reply(request.number, wire.encode_fault(self._read_settings()))
            case wire.Verb.ADOPT:
                self._reply(request.number, wire.encode_fault(self._adopt_settings()))

    def _complain(self, reason: str) -> None:
        self._report("INTERNAL_ERROR", f"the daemon sent its parent {reason}")

    def _report(self, event: str, reason: str) -> None:
        """Reports an error; as long as there is none to report, nothing that can is in memory."""
        from logging import ERROR

        from masqmail.system import events

        events.configure(self._settings.log_level, self._settings.log_format)
        events.emit(getattr(events, event), level=ERROR, reason=reason)

    def _start_worker(self, request: wire.Request, descriptors: Sequence[int]) -> None:
        from masqmail.daemon.parent.worker import local_settings, work  # many hosts never deliver to a mailbox

        settings = self._settings
        carry_out = partial(
            work,
            request.payload,
            descriptors,
            settings=local_settings(settings),
            alias_files=settings.alias_files,
            glob_files=settings.glob_alias_files,
            find_account=self._find_account,
        )
        try:
            self._pool.start(request.number, carry_out, settings.pipe_timeout_seconds + MARGIN_SECONDS)
        except OSError as error:
            self._put_off(request.number, f"no process for the delivery can be started: {error.strerror}")

    def _finish(self, number: int, result: bytes) -> None:
        if result:
            self._reply(number, result)
        else:
            self._put_off(number, "the delivery was cut off")

    def _put_off(self, number: int, reason: str) -> None:
        from masqmail.daemon.parent.payload import encode_outcome
        from masqmail.delivery.local import local_error

        self._reply(number, encode_outcome(local_error(reason)))

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
        for settings in self._known_settings():
            if name in settings.listen:
                return [listener.detach() for listener in open_listeners(*settings.listen[name])]
        raise wire.WireError(f"{name}: it is no address of the configuration")

    def _open_secret(self, name: str) -> list[int]:
        if not any(name in settings.secret_files for settings in self._known_settings()):
            raise wire.WireError(f"{name}: it is no secret file of the configuration")
        return [open_secret(name)]

    # --- a reload: the daemon opens what is new before it can tell whether all of it can be used

    def _known_settings(self) -> list[ParentSettings]:
        """Those in force, and behind them those that may follow."""
        return [self._settings, self._new_settings] if self._new_settings else [self._settings]

    def _read_settings(self) -> str:
        """Reads the configuration anew; what went wrong with that, or nothing."""
        try:
            self._new_settings = read_in_child(self._load_settings, self._refuse)
        except OSError as error:
            return f"no process that reads it can be started: {error.strerror}"
        return "" if self._new_settings else "the privileged parent cannot use it"  # the child has said why

    def _refuse(self, error: Exception) -> None:
        self._report("CONFIGURATION_REFUSED", str(error))

    def _adopt_settings(self) -> str:
        if self._new_settings is None:
            return "the privileged parent has not read it"
        self._settings, self._new_settings = self._new_settings, None
        return ""

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


def wait_for(daemon: int) -> int:
    """The exit status of a process that has ended or soon will; 128 and the signal's number when one ended it."""
    code = os.waitstatus_to_exitcode(os.waitpid(daemon, 0)[1])
    return code if code >= 0 else 128 - code


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
