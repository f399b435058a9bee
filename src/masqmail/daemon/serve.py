"""`masqmail serve`: one process for a user, a privileged parent with its daemon for root."""

import logging
import os
from collections.abc import Callable

from masqmail.config.model import Configuration
from masqmail.daemon.localsettings import local_settings_of
from masqmail.daemon.parent import CannotStart, RunDaemon, run_as_root
from masqmail.daemon.parent_loop import ParentSettings
from masqmail.system import events
from masqmail.system.accounts import SystemAccounts

#: Everybody may pass through the spool to the pickup folder, and leave files there that nobody else sees.
SPOOL_MODE, PICKUP_MODE, RUNTIME_MODE = 0o711, 0o1733, 0o755

Load = Callable[[], Configuration]


def serve(configuration: Configuration, load: Load) -> int:
    """Runs until SIGTERM or SIGINT and returns a sysexits code; `load` reads the configuration anew for SIGHUP.

    `load` raises when the configuration has faults; then the old one goes on.
    """
    events.configure(configuration.log.level.value, configuration.log.format.value)

    def load_daemon() -> RunDaemon:
        from masqmail.daemon.running import run  # only in the process that becomes the daemon

        return lambda channel: run(configuration, load, channel)

    try:
        if os.geteuid() == 0:
            if configuration.host.user == "root":
                events.emit(
                    events.DAEMON_STAYS_ROOT, level=logging.WARNING, advice="make an account: useradd -r masqmail"
                )
            return run_as_root(load_daemon, lambda: parent_settings_of(load()), SystemAccounts().find)
        _make_directories(configuration)
    except CannotStart as error:
        return _cannot_start(str(error), os.EX_CONFIG)
    except OSError as error:
        return _cannot_start(f"cannot make {error.filename}: {error.strerror}", os.EX_CANTCREAT)
    from masqmail.daemon.running import run

    return run(configuration, load, None)


def _cannot_start(reason: str, status: int) -> int:
    events.emit(events.DAEMON_STOPPED, level=logging.CRITICAL, reason=reason)
    return status


def parent_settings_of(configuration: Configuration) -> ParentSettings:
    """What the privileged parent may be asked for."""
    passwords = [route.password_file for route in configuration.routes.values()]
    smtp = configuration.smtp
    return ParentSettings(
        user=configuration.host.user,
        group=configuration.host.group,
        local=local_settings_of(configuration),
        alias_files=tuple(map(str, configuration.local.aliases)),
        listen=(*smtp.listen, *smtp.tls_listen),
        secret_files=tuple(str(path) for path in (*passwords, smtp.certificate, smtp.private_key) if path),
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
