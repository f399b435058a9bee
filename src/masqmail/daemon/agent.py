"""Who carries out local deliveries for the daemon: threads of its own, or the privileged parent.

Both give one outcome for every job and never raise for what goes wrong with it. Which of the two there is was
decided when the program started: a `ParentAgent` when that was as root.
"""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from masqmail.daemon.parent import wire
from masqmail.daemon.parent.payload import decode_result, encode_job
from masqmail.delivery.files import NotUsable, write_all
from masqmail.delivery.forward import LOOK_SECONDS, Forward
from masqmail.delivery.job import Content, LocalJob
from masqmail.delivery.local import (
    FindAccount,
    LocalSettings,
    Plan,
    ask_forward,
    deliver,
    from_os_error,
    local_error,
    plan_for,
    with_trouble,
)
from masqmail.mail.outcome import Culprit, Deferred, Outcome
from masqmail.mail.status import LOCAL_ERROR
from masqmail.net.errors import ListenFailure
from masqmail.settings import HostPort
from masqmail.system import events

MAX_THREADS = 24  # as many as the lanes have places for
MAX_LOOKERS = 8

_Reply = asyncio.Future[tuple[bytes, list[int]]]


class ThreadAgent:
    """Delivers as the daemon itself, which is not root: to its own user's mailbox, and as its own user.

    `settings` may be replaced at any time; jobs under way keep the old ones.
    """

    def __init__(self, settings: LocalSettings, find_account: FindAccount) -> None:
        self.settings = settings
        self._find_account = find_account
        self._threads = anyio.CapacityLimiter(MAX_THREADS)
        self._lookers = anyio.CapacityLimiter(MAX_LOOKERS)

    async def deliver(self, job: LocalJob, content: Content) -> Outcome | Forward:
        """Carries out one job. When it is cancelled, a program or a wait for a lock is given up soon after."""
        stop = threading.Event()
        trouble = ""
        try:
            plan = plan_for(job, self.settings, self._find_account)
            _check_is_ours(plan)
            if job.asks_forward:
                found = await self._ask_forward(plan)
                if isinstance(found, Deferred) or found.texts:
                    return found
                trouble = found.trouble
            outcome = await anyio.to_thread.run_sync(
                deliver, plan, content.chunks(), stop, abandon_on_cancel=True, limiter=self._threads
            )
            return with_trouble(outcome, trouble)
        except NotUsable as error:
            return local_error(str(error))
        except OSError as error:
            return from_os_error(error)
        except Exception as error:
            return _fault_of_ours(error)
        finally:
            stop.set()

    async def _ask_forward(self, plan: Plan) -> Forward | Deferred:
        """In threads of its own: a home that does not answer holds up no other delivery."""
        with anyio.move_on_after(LOOK_SECONDS):
            return await anyio.to_thread.run_sync(ask_forward, plan, abandon_on_cancel=True, limiter=self._lookers)
        return local_error(f"{plan.account.home} does not answer, so its .forward cannot be read")


class ParentAgent:
    """Asks the privileged parent; many requests may be under way, and each reply finds its own.

    `gone` is called once when the parent has died: every request then ends in a deferral, and the daemon should
    end too. To be made inside the running event loop.
    """

    def __init__(self, channel: socket.socket, gone: Callable[[], None]) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._gone = gone
        self._is_closed = False
        self._last_number = 0
        self._replies: dict[int, _Reply] = {}
        self._sending = anyio.Lock()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(channel, self._receive)

    async def deliver(self, job: LocalJob, content: Content) -> Outcome | Forward:
        """Has one job carried out. When it is cancelled, the parent goes on and its reply is dropped."""
        try:
            payload, _ = await self._ask(wire.Verb.DELIVER, encode_job(job), _descriptors(content))
            return decode_result(payload)
        except OSError as error:
            return from_os_error(error)
        except Exception as error:
            return _fault_of_ours(error)

    async def listen(self, address: HostPort) -> list[socket.socket]:
        """Listening sockets for an address of the configuration. Raises `ListenFailure`."""
        try:
            numbers = await self._open(wire.Verb.LISTEN, str(address))
        except OSError as error:
            raise ListenFailure(f"cannot listen on {error.strerror or error}") from error
        sockets = [socket.socket(fileno=number) for number in numbers]
        for sock in sockets:
            sock.setblocking(False)  # the way there does not keep it
        return sockets

    async def open_secret(self, path: str) -> int:
        """A descriptor for reading a secret file of the configuration. Raises `OSError`."""
        return (await self._open(wire.Verb.OPEN, path))[0]

    async def read_configuration(self) -> None:
        """Has the parent read it anew: what that names can be asked for. Raises `OSError`."""
        await self._order(wire.Verb.READ)

    async def adopt_configuration(self) -> None:
        """Has the parent go by what it has read. Raises `OSError`."""
        await self._order(wire.Verb.ADOPT)

    def close(self) -> None:
        """Lets go of the parent; what is under way ends in a deferral."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._channel)
        self._channel.close()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(_parent_has_ended())

    async def _open(self, verb: wire.Verb, name: str) -> list[int]:
        fault, descriptors = await self._ask(verb, name.encode(), [])
        if fault or not descriptors:
            raise OSError(None, fault.decode("utf-8", "replace") or f"{name}: nothing was opened")
        return descriptors

    async def _order(self, verb: wire.Verb) -> None:
        fault, _ = await self._ask(verb, b"", [])
        if fault:
            raise OSError(None, fault.decode("utf-8", "replace"))

    async def _ask(self, verb: wire.Verb, payload: bytes, descriptors: list[int]) -> tuple[bytes, list[int]]:
        """Sends a request and waits for its reply. The descriptors are closed as soon as they are sent."""
        self._last_number += 1
        number = self._last_number
        reply: _Reply = self._loop.create_future()
        self._replies[number] = reply
        try:
            try:
                await self._send(wire.pack_request(wire.Request(number, verb, payload)), descriptors)
            finally:
                _close_all(descriptors)
            return await reply
        except asyncio.CancelledError:
            if reply.done() and not reply.cancelled() and not reply.exception():
                _close_all(reply.result()[1])
            raise
        finally:
            del self._replies[number]

    async def _send(self, packet: bytes, descriptors: Sequence[int]) -> None:
        if len(packet) > wire.MAX_PACKET_BYTES:
            raise wire.WireError("the delivery's addresses are too long for the privileged parent")
        async with self._sending:
            while not self._is_closed:
                try:
                    socket.send_fds(self._channel, [packet], descriptors)
                    return
                except BlockingIOError:
                    await anyio.wait_writable(self._channel)
        raise _parent_has_ended()

    def _receive(self) -> None:
        """Hands one reply to whoever waits for it."""
        try:
            packet, descriptors, _, _ = socket.recv_fds(
                self._channel, wire.MAX_PACKET_BYTES, wire.MAX_REPLY_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            packet, descriptors = b"", []
        if not packet:
            self.close()
            self._gone()
            return
        number, payload = wire.unpack_reply(packet)
        reply = self._replies.get(number)
        if reply is None or reply.done():  # cancelled meanwhile
            _close_all(descriptors)
        else:
            reply.set_result((payload, descriptors))


def _check_is_ours(plan: Plan) -> None:
    if plan.account.uid != os.geteuid():
        raise NotUsable(f"the daemon was not started as root, so it cannot deliver as {plan.account.name}")


def _descriptors(content: Content) -> list[int]:
    """The content as files: the header section, with a body that is in memory, and a body that is a file."""
    descriptors = [os.memfd_create("message")]
    try:
        start = (content.header, b"\r\n", content.body if isinstance(content.body, bytes) else b"")
        write_all(descriptors[0], start)
        if isinstance(content.body, Path):
            descriptors.append(os.open(content.body, os.O_RDONLY | os.O_CLOEXEC))
    except BaseException:
        _close_all(descriptors)
        raise
    return descriptors


def _close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _parent_has_ended() -> OSError:
    return ConnectionError(None, "the privileged parent has ended")


def _fault_of_ours(error: Exception) -> Deferred:
    events.emit(events.INTERNAL_ERROR, level=logging.ERROR, exception=error)
    reason = f"internal error: {error!r}"
    return Deferred(LOCAL_ERROR.with_text(reason), Culprit.US, reason)
