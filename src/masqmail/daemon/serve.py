"""`masqmail serve`: one process for a user, a privileged parent with its daemon for root."""

import logging
import os
import signal
import socket
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup, TaskStatus

from masqmail import __version__
from masqmail.config.model import Configuration
from masqmail.daemon.parent import CannotStart, run_as_root
from masqmail.daemon.parent_loop import ParentSettings
from masqmail.daemon.wiring import Daemon, local_settings_of
from masqmail.net.errors import ListenFailure
from masqmail.spool.api import SpoolError
from masqmail.system import events
from masqmail.system.accounts import SystemAccounts
from masqmail.system.notify import Notifier

#: Everybody may pass through the spool to the pickup folder, and leave files there that nobody else sees.
SPOOL_MODE, PICKUP_MODE, RUNTIME_MODE = 0o711, 0o1733, 0o755

Load = Callable[[], Configuration]


def serve(configuration: Configuration, load: Load) -> int:
    """Runs until SIGTERM or SIGINT and returns a sysexits code; `load` reads the configuration anew for SIGHUP.

    `load` raises when the configuration has faults; then the old one goes on.
    """
    events.configure(configuration.log.level.value, configuration.log.format.value)
    try:
        if os.geteuid() == 0:
            return run_as_root(
                lambda channel: _run(configuration, load, channel),
                lambda: parent_settings_of(load()),
                SystemAccounts().find,
            )
        _make_directories(configuration)
        return _run(configuration, load, None)
    except (CannotStart, ListenFailure, SpoolError, OSError) as error:
        events.emit(events.DAEMON_STOPPED, level=logging.CRITICAL, reason=str(error))
        return os.EX_CONFIG if isinstance(error, CannotStart) else os.EX_UNAVAILABLE


def parent_settings_of(configuration: Configuration) -> ParentSettings:
    """What the privileged parent may be asked for."""
    routes = configuration.routes.values()
    return ParentSettings(
        user=configuration.host.user,
        group=configuration.host.group,
        local=local_settings_of(configuration),
        alias_files=tuple(map(str, configuration.local.aliases)),
        listen=(*configuration.smtp.listen, *configuration.smtp.tls_listen),
        secret_files=tuple(str(route.password_file) for route in routes if route.password_file),
        directories=tuple((str(path), mode) for path, mode in _directories(configuration)),
    )


def _directories(configuration: Configuration) -> list[tuple[os.PathLike[str], int]]:
    paths = configuration.paths
    return [(paths.spool, SPOOL_MODE), (paths.pickup, PICKUP_MODE), (paths.runtime, RUNTIME_MODE)]


def _make_directories(configuration: Configuration) -> None:
    """Makes what is missing; what is there keeps its mode."""
    for path, mode in _directories(configuration):
        if not os.path.isdir(path):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, mode)


def _run(configuration: Configuration, load: Load, channel: socket.socket | None) -> int:
    """The daemon itself, in its event loop."""
    try:
        return anyio.run(_main, configuration, load, channel)
    except BaseExceptionGroup as group:
        expected, unexpected = group.split((ListenFailure, SpoolError, OSError))
        if unexpected is not None:
            raise
        assert expected is not None
        for error in _leaves(expected):
            events.emit(events.DAEMON_STOPPED, level=logging.CRITICAL, reason=str(error))
        return os.EX_UNAVAILABLE


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


async def _main(configuration: Configuration, load: Load, channel: socket.socket | None) -> int:
    notifier = Notifier()
    daemon = Daemon(configuration, channel)
    events.emit(events.DAEMON_STARTED, version=__version__, host=configuration.host.name)

    def ready() -> None:
        notifier.ready()
        events.emit(events.DAEMON_READY)

    async with anyio.create_task_group() as tasks:
        await tasks.start(_watch_signals, daemon, load, notifier)
        _start_watchdog(tasks, notifier)
        status = await daemon.run(ready)
        tasks.cancel_scope.cancel()
    events.emit(events.DAEMON_STOPPED)
    return status


async def _watch_signals(daemon: Daemon, load: Load, notifier: Notifier, *, task_status: TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                notifier.reloading()
                await _reload(daemon, load)
                notifier.ready()
            else:
                notifier.stopping()
                events.emit(events.DAEMON_STOPPING, signal=signal.Signals(number).name)
                daemon.stop()


async def _reload(daemon: Daemon, load: Load) -> None:
    """Takes the new configuration whole or not at all."""
    try:
        configuration = load()
        await daemon.reconfigure(configuration)
    except Exception as error:
        faults = getattr(error, "faults", None) or [error]
        for fault in faults:
            events.emit(events.CONFIGURATION_REFUSED, level=logging.ERROR, reason=str(fault))
        return
    events.configure(configuration.log.level.value, configuration.log.format.value)
    events.emit(events.CONFIGURATION_LOADED, file=str(configuration.path or "the defaults"))


def _start_watchdog(tasks: TaskGroup, notifier: Notifier) -> None:
    async def bark(seconds: float) -> None:
        while True:
            notifier.watchdog()
            await anyio.sleep(seconds)

    if notifier.watchdog_seconds is not None:
        tasks.start_soon(bark, notifier.watchdog_seconds)
