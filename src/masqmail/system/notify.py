"""Talking to systemd: sd_notify(3). Nothing happens without it."""

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Tells the service manager how we are. A message that cannot be sent is dropped: nobody depends on it."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        #: How often to call `watchdog` (half the time that is allowed); None when nobody waits for it.
        self.watchdog_seconds = _watchdog_seconds(environment)

    def ready(self) -> None:
        """Every listener accepts; also the end of a reload."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again, until the next `ready`."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """A sign of life."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(message.encode(), self._address)
        except OSError:
            pass


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or pid not in ("", str(os.getpid())):
        return None
    return int(usec) / 1e6 / 2
