"""The sockets others connect to: the LAN's, the submission socket and the control socket."""

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path

from anyio.abc import TaskGroup

from masqmail.config.model import Configuration, Paths
from masqmail.daemon.ownhost import OwnAddresses
from masqmail.net.bind import is_without_ipv6
from masqmail.net.errors import ListenFailure
from masqmail.net.handover import HandedOverListener
from masqmail.net.listen import Handler, Listener, bind_unix
from masqmail.reception.smtp import Service
from masqmail.settings import HostPort
from masqmail.system.events import INTERNAL_ERROR, LISTENER_READY, LISTENER_TROUBLED, emit

#: Binds the sockets of one address. Raises `ListenFailure` or `OSError`.
Bind = Callable[[HostPort], Awaitable[Sequence[socket.socket]]]
#: Has others agree to a configuration. Raises whatever they have against it.
Agree = Callable[[], Awaitable[None]]

MAX_LOCAL_CONNECTIONS = 500
_ANYBODY = 0o666
_OWNER = 0o600


class Listeners:
    """Opens and closes listeners. Addresses that stay the same over a reload are not touched."""

    def __init__(self, bind: Bind, network: Service, local: Service, control: Handler) -> None:
        self._bind = bind
        self._network = network
        self._local = local
        self._control = control
        self._open: dict[tuple[HostPort, bool], Listener] = {}
        self._unix: list[tuple[Path, Listener]] = []
        self._handed_over: list[Listener] = []
        self._tasks: TaskGroup | None = None

    async def open(self, configuration: Configuration, tasks: TaskGroup) -> None:
        """Everything the configuration asks for; what cannot be opened ends the start."""
        self._tasks = tasks
        await self._open_network(configuration)
        paths = configuration.paths
        self._open_unix(paths, paths.control_socket, self._control)
        self._open_unix(paths, paths.submit_socket, self._local.handle)
        self._open_handover(paths.handover_socket, configuration.smtp.max_connections)

    async def change(self, configuration: Configuration, agree: Agree) -> None:
        """Opens what is new, then closes what is gone. Raises, with nothing changed, when one cannot be opened.

        `agree` is called when everything new is open, and nothing can go wrong behind it.
        """
        await self._open_network(configuration, agree)
        wanted = _addresses(configuration)
        for key in [key for key in self._open if key not in wanted]:
            self._open.pop(key).close()
        for listener in (*self._open.values(), *self._handed_over):
            listener.max_connections = configuration.smtp.max_connections

    def problems(self) -> list[str]:
        """The addresses at which nobody can connect now, because no interface has them."""
        return _problems_at(address for address, _ in self._open)

    async def close(self, grace_seconds: float) -> None:
        """Accepts no more and lets those who are connected finish."""
        for listener in [*self._open.values(), *(listener for _, listener in self._unix)]:
            listener.close()
        for path, _ in self._unix:
            path.unlink(missing_ok=True)
        await self._network.stop(grace_seconds)
        await self._local.stop(grace_seconds)

    async def _open_network(self, configuration: Configuration, agree: Agree | None = None) -> None:
        missing = [key for key in _addresses(configuration) if key not in self._open]
        bound: list[tuple[tuple[HostPort, bool], Sequence[socket.socket]]] = []
        try:
            for key in missing:
                bound.append((key, await self._bind(key[0])))
            if agree is not None:
                await agree()
        except BaseException:
            for _, sockets in bound:
                for sock in sockets:
                    sock.close()
            raise
        for key, sockets in bound:
            listener = self._network.listener(
                sockets,
                max_connections=configuration.smtp.max_connections,
                report=_report,
                implicit_tls=key[1],
            )
            self._open[key] = listener
            self._start(listener, str(key[0]))
        for problem in _problems_at(address for (address, _), _ in bound):
            emit(LISTENER_TROUBLED, level=logging.WARNING, reason=problem)

    def _open_unix(self, paths: Paths, path: Path, handler: Handler) -> None:
        sockets = [bind_unix(path, _ANYBODY)]
        listener = Listener(
            sockets, handler, max_connections=MAX_LOCAL_CONNECTIONS, refuse=self._local.refuse, report=_report
        )
        self._unix.append((path, listener))
        self._start(listener, str(path))

    def _open_handover(self, path: Path, max_connections: int) -> None:
        """For connections that inetd accepted: they are served as those we accept on the network ourselves."""
        listener = HandedOverListener(
            [bind_unix(path, _OWNER)],
            self._network.handle,
            max_connections=max_connections,
            refuse=self._network.refuse,
            report=_report,
        )
        listener.givers = {0, os.geteuid()}
        self._handed_over.append(listener)
        self._unix.append((path, listener))
        self._start(listener, str(path))

    def _start(self, listener: Listener, name: str) -> None:
        assert self._tasks is not None
        self._tasks.start_soon(listener.serve, name=f"listener {name}")
        emit(LISTENER_READY, address=name)


def _addresses(configuration: Configuration) -> dict[tuple[HostPort, bool], None]:
    """Each address with whether TLS begins at once there. `[::1]` is none without IPv6, unless it is the only one."""
    smtp = configuration.smtp
    wanted = [*((address, False) for address in smtp.listen), *((address, True) for address in smtp.tls_listen)]
    found = [key for key in wanted if not is_without_ipv6(key[0].host)]
    return dict.fromkeys(found or wanted)


def _problems_at(addresses: Iterable[HostPort]) -> list[str]:
    hosts = dict.fromkeys(address.host for address in addresses if _is_ip_address(address.host))
    own = OwnAddresses()
    return [
        f"we are to listen at {host}, and no interface of this host has it now" for host in hosts if host not in own
    ]


def _is_ip_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False


def _report(what: str, error: Exception) -> None:
    """What `net.listen` cannot tell anybody else: a shortage of ours, or a fault of ours."""
    if isinstance(error, ListenFailure):
        emit(LISTENER_TROUBLED, level=logging.ERROR, reason=f"{what}: {error}")
    else:
        emit(INTERNAL_ERROR, level=logging.ERROR, reason=what, exception=error)
