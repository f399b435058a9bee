"""Two network namespaces with a slow link between them: the sender's end and the server's.

Needs root, iproute2 and /dev/net/tun; `missing` says what is not there. Nothing else of the machine is touched, and
everything is taken away at the end.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness import echo, wire
from harness.line import Counts, LinkKind

NEAR_ADDRESS, FAR_ADDRESS = "10.77.0.1", "10.77.0.2"
_ICMP_BYTES = 28  # IP and ICMP header

#: Debian's, whatever this machine has. It is set with the route, since the kernel lets a namespace change its default
#: only to what everybody may use.
CONGESTION_CONTROL = "cubic"

#: IPv6 would chatter, and be counted.
_NO_IPV6 = "for file in /proc/sys/net/ipv6/conf/*/disable_ipv6; do test ! -e $file || echo 1 >$file; done"

_numbers = itertools.count()


class SlowLink:
    """A link that is there: where its ends are, and what passed."""

    def __init__(self, kind: LinkKind, near: str, far: str, process: "subprocess.Popen[str]") -> None:
        self.kind = kind
        self.near = near
        self.far = far
        self._process = process

    def in_near(self, command: Sequence[str]) -> list[str]:
        """A command as it must be started to run at the sender's end."""
        return ["ip", "netns", "exec", self.near, *command]

    def in_far(self, command: Sequence[str]) -> list[str]:
        """The same for the server's end."""
        return ["ip", "netns", "exec", self.far, *command]

    def reset(self) -> None:
        """Counts from zero again."""
        self._ask("reset")

    def counts(self) -> tuple[Counts, Counts]:
        """What went up and what came down since the last `reset`."""
        found = json.loads(self._ask("counts"))
        return Counts(**found["up"]), Counts(**found["down"])

    def _ask(self, command: str) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


def missing() -> str:
    """Why there can be no slow link here; empty when there can."""
    if os.geteuid() != 0:
        return "slow links need root, for network namespaces"
    if shutil.which("ip") is None:
        return "slow links need the command ip (Debian: iproute2)"
    try:
        os.close(os.open(wire.TUN, os.O_RDWR))
    except OSError as error:
        return f"slow links need {wire.TUN}: {error.strerror}"
    try:
        _run("ip", "netns", "add", name := f"b{os.getpid()}probe")
        _run("ip", "netns", "delete", name)
    except OSError as error:
        return f"slow links need network namespaces: {error}"
    return ""


@contextmanager
def slow_link(kind: LinkKind, *, seed: int = 0, packets: Path | None = None) -> Iterator[SlowLink]:
    """A link of this kind between two new namespaces. `packets` is a file for a line about each packet."""
    number = next(_numbers)
    near, far = (f"b{os.getpid()}n{number}{end}" for end in ("near", "far"))
    try:
        for name in (near, far):
            _make_namespace(name)
        process = _start_wire(kind, near, far, seed, packets)
        try:
            for name, address in ((near, NEAR_ADDRESS), (far, FAR_ADDRESS)):
                _plug_in(name, address)
            link = SlowLink(kind, near, far, process)
            link.reset()
            yield link
        finally:
            process.terminate()
            process.communicate()
    finally:
        for name in (near, far):
            if (wire.NAMESPACES / name).exists():
                _run("ip", "netns", "delete", name)


def _make_namespace(name: str) -> None:
    _run("ip", "netns", "add", name)
    _run("ip", "netns", "exec", name, "sh", "-c", _NO_IPV6)
    _run("ip", "-n", name, "link", "set", "lo", "up")


def _plug_in(name: str, address: str) -> None:
    """Gives an end its address on the wire, and the way to the other."""
    _run("ip", "-n", name, "address", "add", f"{address}/30", "dev", wire.DEVICE, "noprefixroute")
    _run("ip", "-n", name, "link", "set", wire.DEVICE, "up")
    way = ("10.77.0.0/30", "dev", wire.DEVICE, "src", address, "congctl", CONGESTION_CONTROL)
    _run("ip", "-n", name, "route", "add", *way)


def _start_wire(kind: LinkKind, near: str, far: str, seed: int, packets: Path | None) -> "subprocess.Popen[str]":
    """The wire as a process; its devices are there when this returns."""
    command = [sys.executable, wire.__file__, kind.name, near, far, "--seed", str(seed)]
    if packets is not None:
        command += ["--packets", str(packets)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if not process.stdout.readline():
        process.communicate()
        raise OSError("the wire could not be laid")
    return process


def _run(*command: str) -> str:
    """What a command prints. Raises OSError with what it says when it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def prove(kind: LinkKind) -> str:
    """What echo packets find on the link, beside what they should."""
    with slow_link(kind) as link:
        quiet = [seconds for _, seconds in _echo(link, count=20, interval=0.1, payload_bytes=56)]
        burst = [at for at, _ in _echo(link, count=20, interval=0.0, payload_bytes=1400)]
        up, down = link.counts()
    if not quiet or len(burst) < 2:
        return f"{kind.name}: no answers"
    expected = kind.round_trip_seconds + 2 * kind.seconds_for(56 + _ICMP_BYTES)
    rate_bits = (1400 + _ICMP_BYTES) * 8 * (len(burst) - 1) / (burst[-1] - burst[0])
    return (
        f"{kind.name}: round trip {1000 * min(quiet):.1f} ms, expected {1000 * expected:.1f}; "
        f"rate {rate_bits / 1000:.0f} kbit/s, expected {kind.rate_bits / 1000:.0f}; "
        f"up {up.packets} packets, {up.bytes} bytes; lost {up.lost + down.lost} of {up.packets + down.packets} "
        f"(share {kind.loss:g})"
    )


def _echo(link: SlowLink, *, count: int, interval: float, payload_bytes: int) -> list[tuple[float, float]]:
    command = [sys.executable, echo.__file__, FAR_ADDRESS, str(count), str(interval), str(payload_bytes)]
    lines = _run(*link.in_near(command)).splitlines()
    return [(float(at), float(seconds)) for at, seconds in (line.split() for line in lines)]
