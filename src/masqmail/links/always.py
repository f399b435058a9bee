"""`detect = "always"`: a permanent connection."""

from collections.abc import AsyncGenerator
from typing import ClassVar

import anyio

from masqmail.frozen import frozen
from masqmail.links.detector import Observation, up
from masqmail.system.clock import Clock


@frozen
class Options:
    """A permanent link has no settings."""


class AlwaysDetector:
    """Up, always."""

    options_type: ClassVar[type[Options]] = Options

    def __init__(self, link: str, options: Options, clock: Clock) -> None:
        pass

    async def watch(self) -> AsyncGenerator[Observation, None]:
        yield await self.ask()
        await anyio.sleep_forever()

    async def ask(self) -> Observation:
        return up("it is a permanent connection")
