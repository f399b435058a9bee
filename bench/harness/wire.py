"""A slow link in user space: `python bench/harness/wire.py LINK NAMESPACE NAMESPACE`.

Holds one TUN device in each of two network namespaces and carries packets between them as `line` says. It is a
process of its own, so that nothing else delays it, and is told what to do by lines on its standard input: `counts`
asks for a line of JSON, `reset` sets everything to zero, the end of input ends it. `namespace` starts it; `--prove`
shows with echo packets that a link is what its name says.
"""

import argparse
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

if __name__ == "__main__":  # as a script its own folder is the path, and not `bench`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from harness.line import LINKS, Line, LinkKind, describe

DEVICE = "wire"
TUN = Path("/dev/net/tun")
NAMESPACES = Path("/run/netns")

_PACKET_BYTES = 65536
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_PRIORITY = -15  # a late packet would be a fault of the measurement


class Wire:
    """Two lines and the packets on them. The near end is index 0; what it sends goes up."""

    def __init__(self, kind: LinkKind, devices: tuple[int, int], *, seed: int, log: TextIO | None = None) -> None:
        self._kind = kind
        self._devices = devices
        self._chance = random.Random(seed)
        self._log = log
        self._due: list[tuple[float, int, int, bytes]] = []  # when, in which order, to which end, what
        self._order = 0
        self.reset()

    def reset(self) -> None:
        """Empty lines, and nothing counted."""
        self._lines = tuple(Line(self._kind, self._chance) for _ in self._devices)
        self._due.clear()

    def counts(self) -> dict[str, dict[str, int]]:
        return dict(zip(("up", "down"), (asdict(line.counts) for line in self._lines), strict=True))

    def run(self, commands: int) -> None:
        """Carries packets until the commands end."""
        while True:
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            ready, _, _ = select.select([*self._devices, commands], [], [], wait)
            for end, device in enumerate(self._devices):
                if device in ready:
                    self._take(end)
            self._deliver()
            if commands in ready and not self._obey(os.read(commands, 4096)):
                return

    def _take(self, end: int) -> None:
        """Everything that one end has to send."""
        while True:
            try:
                packet = os.read(self._devices[end], _PACKET_BYTES)
            except BlockingIOError:
                return
            now = time.monotonic()
            due = self._lines[end].admit(packet, now)
            if self._log is not None:
                fate = "lost" if due is None else f"due {due:.4f}"
                waiting = self._lines[end].waiting_bytes(now)
                arrow = "down" if end else "up"
                self._log.write(f"{now:.4f} {arrow:4} {describe(packet)} ({fate}, {waiting:.0f} bytes queued)\n")
            if due is not None:
                self._order += 1
                heapq.heappush(self._due, (due, self._order, 1 - end, packet))

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, end, packet = heapq.heappop(self._due)
            os.write(self._devices[end], packet)

    def _obey(self, text: bytes) -> bool:
        """Does what was asked; False at the end."""
        for command in text.decode().split():
            if command == "counts":
                print(json.dumps(self.counts()), flush=True)
            elif command == "reset":
                self.reset()
                print("{}", flush=True)
        if self._log is not None:
            self._log.flush()
        return bool(text)


def open_device(namespace: str) -> int:
    """A new TUN device in a namespace, which this process enters and stays in."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (NAMESPACES / namespace).open("rb") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"namespace {namespace} cannot be entered")
    device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    return device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("link", choices=LINKS)
    parser.add_argument("namespaces", nargs="*", help="the near end and the far end")
    parser.add_argument("--seed", type=int, default=0, help="for the losses")
    parser.add_argument("--packets", type=Path, help="writes a line for each packet to this file")
    parser.add_argument(
        "--prove", action="store_true", help="measures the link with echo packets and says what it is"
    )
    arguments = parser.parse_args()
    if arguments.prove:
        from harness.namespace import prove

        print(prove(LINKS[arguments.link]))
        return
    near, far = arguments.namespaces
    os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    devices = (open_device(near), open_device(far))
    log = arguments.packets.open("w") if arguments.packets else None
    wire = Wire(LINKS[arguments.link], devices, seed=arguments.seed, log=log)
    print("{}", flush=True)  # both devices are there
    wire.run(sys.stdin.fileno())


if __name__ == "__main__":
    main()
