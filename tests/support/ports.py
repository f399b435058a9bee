"""Ports on loopback for servers that a test starts."""

import os
import secrets
import socket
import time

#: Those of this process, of several that run tests side by side: a port is given before its server has it.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))

#: Below those that the kernel gives to outgoing connections, which could take one before its server is up.
_RANGE = range(20_000 + _WORKER, 32_000, _WORKERS)

_given: set[int] = set()


def free_port() -> int:
    """A port nobody listens on now; never the same twice, nor one of another worker's."""
    while True:
        port = secrets.choice(_RANGE)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def wait_for_port(port: int, seconds: float = 20) -> None:
    """Returns when somebody listens there."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise AssertionError(f"nobody listens on port {port}") from None
            time.sleep(0.02)
