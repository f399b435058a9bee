"""The built-in link `internet`: up while any interface leads out."""

from collections.abc import AsyncGenerator, Iterable
from typing import ClassVar

from masqmail.frozen import frozen
from masqmail.links.detector import Observation, down, up
from masqmail.links.rtnetlink import Changes, Interface, read_interfaces
from masqmail.system.clock import Clock


@frozen
class Options:
    """The internet is found without settings."""


class InternetDetector:
    """Looks for an interface with a carrier, an address and a default route, whichever it is."""

    options_type: ClassVar[type[Options]] = Options

    def __init__(self, link: str, options: Options, clock: Clock) -> None:
        pass

    async def watch(self) -> AsyncGenerator[Observation, None]:
        with Changes() as changes:
            while True:
                yield await self.ask()
                await changes.wait()

    async def ask(self) -> Observation:
        return judge(read_interfaces().values())


def judge(interfaces: Iterable[Interface]) -> Observation:
    """Up through the first interface that lacks nothing; otherwise what the most promising one lacks."""
    missing = ""
    for interface in interfaces:
        if interface.is_loopback or not interface.has_default_route:
            continue
        if not interface.missing:
            return up(f"a default route goes through {interface.name}")
        missing = missing or interface.missing
    return down(missing or "no interface has a default route")
