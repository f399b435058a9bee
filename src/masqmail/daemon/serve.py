"""`masqmail serve`: one process for a user, a privileged parent with its daemon for root.

Whatever this module imports stays in the parent's memory; the daemon's modules are loaded in its own process.
"""

import os
import signal
from collections.abc import Callable

from masqmail.daemon.parent.settings import ParentSettings
from masqmail.daemon.parent.start import RunDaemon, report_stop, run_as_root

TYPE_CHECKING = False  # as in `typing`, which would stay in the memory of the parent
if TYPE_CHECKING:
    from masqmail.config.model import Configuration
    from masqmail.system.accounts import Account

#: Everybody may pass through the spool to the pickup folder, and leave files there that nobody else sees.
SPOOL_MODE, PICKUP_MODE, RUNTIME_MODE = 0o711, 0o1733, 0o755

#: Imported when first needed, which on most hosts is never or seldom; and those that only direct delivery needs.
LATE_MODULES = (
    "concurrent.futures.thread",
    "difflib",
    "email.header",
    "encodings.idna",
    "encodings.punycode",
    "encodings.raw_unicode_escape",  # of email.header, for encoded words
    "idna",
    "idna.uts46data",
    "masqmail.daemon.httpserver",
    *(f"masqmail.mail.words_{language}" for language in ("de", "en", "fr", "it")),
)
DIRECT_MODULES = (
    "dns.asyncbackend",
    "dns.asyncresolver",
    *(f"dns.rdtypes.{kind}" for kind in ("ANY.CNAME", "ANY.MX", "IN.A", "IN.AAAA")),
)

Load = Callable[[], "Configuration"]


def serve(load: Load) -> int:
    """Runs until SIGTERM or SIGINT and returns a sysexits code; `load` reads the configuration, anew for SIGHUP.

    `load` raises when the configuration has faults, with the `faults` as lines for a person; then an old one goes on.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # until somebody listens: else it would end us
    if os.geteuid() == 0:
        start = _Start(load)
        return run_as_root(start.load_daemon, start.load_settings, _find_account)
    configuration = load()
    _configure_log(configuration)
    try:
        _make_directories(configuration)
    except OSError as error:
        report_stop(f"cannot make {error.filename}: {error.strerror}")
        return os.EX_CANTCREAT
    from masqmail.daemon.running import run

    return run(configuration, load, None)


class _Start:
    """What the process that becomes the daemon does as long as it is root; `load_settings` comes first."""

    def __init__(self, load: Load) -> None:
        self._load = load

    def load_settings(self) -> ParentSettings:
        """Reads the configuration: here, and for each reload in a process that does nothing else."""
        self._configuration = self._load()
        _configure_log(self._configuration)
        return parent_settings_of(self._configuration)

    def load_daemon(self) -> RunDaemon:
        """Imports what the daemon needs: root's files may be out of its reach."""
        from importlib import import_module
        from logging import WARNING

        import anyio

        from masqmail.daemon.running import run
        from masqmail.spool.statements import schema_changes
        from masqmail.system import events

        configuration = self._configuration
        if configuration.host.user == "root":
            events.emit(events.DAEMON_STAYS_ROOT, level=WARNING, advice="make an account: useradd -r masqmail")
        elif _is_out_of_reach():
            is_direct = any(not route.smarthost for route in configuration.routes.values())
            for name in LATE_MODULES + DIRECT_MODULES * is_direct:
                import_module(name)
            for name in dir(anyio):
                getattr(anyio, name)  # since 4.15 it loads its modules when they are first used
            schema_changes()
            if configuration.fetch:
                from masqmail.daemon.fetch.accounts import load_modules

                load_modules(account.protocol for account in configuration.fetch.values())
        return lambda channel: run(configuration, self._load, channel)


def _is_out_of_reach() -> bool:
    """Whether the interpreter, this program or a library is in a folder that only root may pass through."""
    from pathlib import Path

    import anyio

    files = [os.path.realpath(file) for file in (os.__file__, __file__, anyio.__file__)]
    return any(not folder.stat().st_mode & 0o001 for file in files for folder in Path(file).parents)


def _configure_log(configuration: "Configuration") -> None:
    from masqmail.system import events

    events.configure(configuration.log.level.value, configuration.log.format.value)


def _find_account(name: str) -> "Account | None":
    from masqmail.system.accounts import SystemAccounts

    return SystemAccounts().find(name)


def parent_settings_of(configuration: "Configuration") -> ParentSettings:
    """What the privileged parent may be asked for."""
    from masqmail.delivery.program import TIMEOUT_SECONDS

    passwords = [route.password_file for route in configuration.routes.values()]
    passwords += [account.password_file for account in configuration.fetch.values()]
    smtp, local, log = configuration.smtp, configuration.local, configuration.log
    return ParentSettings(
        user=configuration.host.user,
        group=configuration.host.group,
        host_name=configuration.host.name,
        alias_user=local.alias_user,
        mailbox=_mailbox(configuration, ""),
        mailboxes={user: _mailbox(configuration, user) for user in local.users},
        pipe_timeout_seconds=TIMEOUT_SECONDS,
        alias_files=tuple(map(str, local.aliases)),
        glob_alias_files=tuple(map(str, local.glob_aliases)),
        listen={str(address): (address.host, address.port) for address in (*smtp.listen, *smtp.tls_listen)},
        secret_files=tuple(str(path) for path in (*passwords, smtp.certificate, smtp.private_key) if path),
        directories=tuple((str(path), mode) for path, mode in _directories(configuration)),
        log_level=log.level.value,
        log_format=log.format.value,
        recipient_delimiter=local.recipient_delimiter,
        programs=_programs(configuration),
    )


def _programs(configuration: "Configuration") -> dict[str, tuple[tuple[str, ...], bool, bool]]:
    """Those of the pipe routes."""
    from masqmail.daemon.localsettings import programs_of

    found = programs_of(configuration).items()
    return {route: (program.command, program.from_line, program.escape_from) for route, program in found}


def _mailbox(configuration: "Configuration", user: str) -> tuple[str, str, tuple[str, ...]]:
    store, where = configuration.local.mailbox_of(user)
    return (store.value, where, ()) if isinstance(where, str) else (store.value, "", tuple(where))


def _directories(configuration: "Configuration") -> list[tuple[os.PathLike[str], int]]:
    paths = configuration.paths
    return [(paths.spool, SPOOL_MODE), (paths.pickup, PICKUP_MODE), (paths.runtime, RUNTIME_MODE)]


def _make_directories(configuration: "Configuration") -> None:
    """Makes what is missing; what is there keeps its mode."""
    for path, mode in _directories(configuration):
        if not os.path.isdir(path):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, mode)
