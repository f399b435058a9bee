"""`detect = "interface"`: up while a network interface has a carrier, an address and a default route."""

from collections.abc import AsyncGenerator
from typing import ClassVar

from masqmail.frozen import frozen
from masqmail.links.detector import Observation, down, up
from masqmail.links.rtnetlink import Changes, read_interfaces
from masqmail.settings import setting
from masqmail.system.clock import Clock


@frozen
class Options:
    """The interface to look at."""

    interface: str = setting("The network interface that makes the link.", example='"ppp0"')


class InterfaceDetector:
    """Looks at the interface whenever the kernel says that something about the network changed."""

    options_type: ClassVar[type[Options]] = Options

    def __init__(self, link: str, options: Options, clock: Clock) -> None:
        self._name = options.interface

    async def watch(self) -> AsyncGenerator[Observation, None]:
        with Changes() as changes:
            while True:
                yield await self.ask()
                await changes.wait()

    async def ask(self) -> Observation:
        interface = read_interfaces().get(self._name)
        if interface is None:
            return down(f"there is no interface {self._name}")
        if interface.missing:
            return down(interface.missing)
        return up(f"{self._name} has a carrier, an address and a default route")
