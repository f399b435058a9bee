"""The daemon in its event loop: started, reloaded and ended by signals."""

import gc
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio._backends._asyncio
from anyio.abc import ObjectReceiveStream, TaskGroup, TaskStatus

from masqmail import __version__
from masqmail.config.model import Configuration
from masqmail.daemon.wiring import Daemon
from masqmail.net.errors import NetError
from masqmail.spool.api import SpoolError
from masqmail.system import events, libc
from masqmail.system.notify import Notifier

Load = Callable[[], Configuration]


def run(configuration: Configuration, load: Load, channel: socket.socket | None) -> int:
    """Runs until SIGTERM or SIGINT and returns a sysexits code. `channel` leads to the privileged parent, if any."""
    try:
        return anyio.run(_main, configuration, load, channel)
    except BaseExceptionGroup as group:
        expected, unexpected = group.split((NetError, SpoolError, OSError))
        if unexpected is not None:
            raise
        assert expected is not None
        errors = _leaves(expected)
        for error in errors:
            events.emit(events.DAEMON_STOPPED, level=logging.CRITICAL, reason=_reason(error))
        is_denied = any(isinstance(error, PermissionError) for error in errors)
        return os.EX_CANTCREAT if is_denied else os.EX_UNAVAILABLE


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _reason(error: BaseException) -> str:
    """An error in one line for people, without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


async def _main(configuration: Configuration, load: Load, channel: socket.socket | None) -> int:
    notifier = Notifier()
    daemon = Daemon(configuration, channel)
    events.emit(events.DAEMON_STARTED, version=__version__, host=configuration.host.name)

    def ready() -> None:
        notifier.ready()
        events.emit(events.DAEMON_READY)
        gc.collect()
        gc.freeze()  # what the program consists of stays: no collection need look at it again
        libc.give_memory_back()

    async with anyio.create_task_group() as tasks:
        await tasks.start(_watch_signals, daemon, load, notifier)
        _start_watchdog(tasks, notifier)
        status = await daemon.run(ready)
        tasks.cancel_scope.cancel()
    events.emit(events.DAEMON_STOPPED)
    return status


async def _watch_signals(daemon: Daemon, load: Load, notifier: Notifier, *, task_status: TaskStatus[None]) -> None:
    wish, wishes = anyio.create_memory_object_stream[None](1)
    reloads = anyio.CancelScope()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals, wish, wishes:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_reload_as_wished, wishes, reloads, daemon, load, notifier)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # which `serve` holds back
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    with suppress(anyio.WouldBlock):  # one that has not begun is enough for all
                        wish.send_nowait(None)
                else:
                    reloads.cancel()  # one that is under way would open what is being closed
                    notifier.stopping()
                    events.emit(events.DAEMON_STOPPING, signal=signal.Signals(number).name)
                    daemon.stop()


async def _reload_as_wished(
    wishes: ObjectReceiveStream[None], reloads: anyio.CancelScope, daemon: Daemon, load: Load, notifier: Notifier
) -> None:
    """What is wished before the daemon is ready is done then."""
    with reloads:
        await daemon.is_ready.wait()
        async for _ in wishes:
            notifier.reloading()
            await _reload(daemon, load)
            notifier.ready()


async def _reload(daemon: Daemon, load: Load) -> None:
    """Takes the new configuration whole or not at all."""
    try:
        configuration = load()
        _check_fixed(daemon.configuration, configuration)
        await daemon.reconfigure(configuration)
    except Exception as error:
        faults = getattr(error, "faults", None) or [_reason(error)]
        for fault in faults:
            events.emit(events.CONFIGURATION_REFUSED, level=logging.ERROR, reason=str(fault))
        return
    events.configure(configuration.log.level.value, configuration.log.format.value)
    events.emit(events.CONFIGURATION_LOADED, file=str(configuration.path or "the defaults"))


def _check_fixed(old: Configuration, new: Configuration) -> None:
    """Raises `ValueError` for a change that only a new start can make."""
    if (old.paths, old.host.user, old.host.group) != (new.paths, new.host.user, new.host.group):
        raise ValueError("[paths] and user and group of [host] count from the start of the daemon: restart it")


def _start_watchdog(tasks: TaskGroup, notifier: Notifier) -> None:
    async def bark(seconds: float) -> None:
        while True:
            notifier.watchdog()
            await anyio.sleep(seconds)

    if notifier.watchdog_seconds is not None:
        tasks.start_soon(bark, notifier.watchdog_seconds)
