"""`detect = "manual"`: only a person or a script says whether the link is up."""

from collections.abc import AsyncGenerator
from typing import ClassVar

import anyio

from masqmail.frozen import frozen
from masqmail.links.detector import Observation, down
from masqmail.system.clock import Clock


@frozen
class Options:
    """A manual link has no settings."""


class ManualDetector:
    """Down until somebody declares the link up; what people declare is kept by the board."""

    options_type: ClassVar[type[Options]] = Options

    def __init__(self, link: str, options: Options, clock: Clock) -> None:
        self._link = link

    async def watch(self) -> AsyncGenerator[Observation, None]:
        yield await self.ask()
        await anyio.sleep_forever()

    async def ask(self) -> Observation:
        return down(f"nobody has declared it up (`masqmail link up {self._link}`)")
