"""`detect = "file"`: up while a file names the link, as an ip-up script may write it."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import ClassVar

from masqmail.frozen import frozen
from masqmail.links.detector import Observation, down, unknown, up
from masqmail.settings import setting
from masqmail.system.clock import Clock
from masqmail.system.watch import Watcher

_MAX_BYTES = 1024


@frozen
class Options:
    """The file that names the link that is up."""

    path: Path = setting(
        "The link is up while this file exists and its first line is the link's name.", example='"/run/connection"'
    )


class FileDetector:
    """Reads the file whenever it changes. Blanks around the name do not matter."""

    options_type: ClassVar[type[Options]] = Options

    def __init__(self, link: str, options: Options, clock: Clock) -> None:
        self._link = link
        self._path = options.path

    async def watch(self) -> AsyncGenerator[Observation, None]:
        with Watcher([self._path]) as watcher:
            yield await self.ask()
            async for _ in watcher:
                yield await self.ask()

    async def ask(self) -> Observation:
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return down(f"{self._path} does not exist")
        except OSError as error:
            return unknown(f"{self._path} cannot be read: {(error.strerror or str(error)).lower()}")
        name = content.partition(b"\n")[0].decode("utf-8", "replace").strip()
        if name == self._link:
            return up(f"{self._path} names it")
        return down(f'{self._path} names "{name}"' if name else f"{self._path} is empty")
