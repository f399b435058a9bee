"""Noticing that a file or the content of a folder changed, through inotify(7).

What is watched is always a folder: a file is replaced by renaming as often as it is written, and may not
exist yet. Where even its folder is missing, the nearest folder above it is watched until it appears.
"""

import asyncio
import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from masqmail.system import libc

_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x8, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_ONLYDIR = 0x01000000
_Q_OVERFLOW = 0x4000
_MASK = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR

_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_READ_BYTES = 64 * 1024
_MAX_LINKS = 8


class Watcher:
    """Tells which of some paths changed since it was last asked; make it before you first look at them.

    ```python
    with Watcher([path]) as watcher:
        read(path)
        async for changed in watcher:
            read(path)
    ```
    A path that is a folder changes with its entries. Several changes may come as one.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = [path.absolute() for path in paths]
        self._watches: dict[int, set[tuple[str | None, Path]]] = {}  # what a watched folder's names mean to us
        self._changed: set[Path] = set()
        self._has_changes = asyncio.Event()
        self._fd = libc.call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
        self._watch_all()
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Watches no more; harmless when repeated."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def __aiter__(self) -> "Watcher":
        return self

    async def __anext__(self) -> set[Path]:
        """The paths that changed, as they were given; waits until one does."""
        await self._has_changes.wait()
        self._has_changes.clear()
        changed, self._changed = self._changed, set()
        return changed

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            self._note(watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0")))
            at += length
        self._watch_all()  # folders on the way may have come or gone
        if self._changed:
            self._has_changes.set()

    def _note(self, watch: int, mask: int, name: str) -> None:
        if mask & _Q_OVERFLOW:
            self._changed.update(self._paths)
            return
        for wanted, path in self._watches.get(watch, ()):
            if wanted is None or wanted == name or not name:  # without a name: the folder itself has gone
                self._changed.add(path)

    def _watch_all(self) -> None:
        """Adds a watch for every folder whose entries decide about one of the paths."""
        watches: dict[int, set[tuple[str | None, Path]]] = {}
        for path in self._paths:
            for folder, name in _deciding(path):
                try:
                    watch = libc.call("inotify_add_watch", self._fd, os.fsencode(folder), ctypes.c_uint32(_MASK))
                except OSError:
                    continue  # it went this moment, or is not ours to read: a folder above it tells more
                watches.setdefault(watch, set()).add((name, path))
        for watch in self._watches.keys() - watches.keys():
            try:
                libc.call("inotify_rm_watch", self._fd, watch)
            except OSError:
                pass  # it went with its folder
        self._watches = watches


def _deciding(path: Path) -> Iterable[tuple[Path, str | None]]:
    """The folders to watch for a path, each with the entry that matters (None: all of them).

    Follows symbolic links, as the file behind one may change without the link.
    """
    for _ in range(_MAX_LINKS):
        if os.path.isdir(path):
            yield path, None
        child, folder = path, path.parent
        while not os.path.isdir(folder) and folder != folder.parent:
            child, folder = folder, folder.parent
        yield folder, child.name
        try:
            path = folder / path.readlink()
        except OSError:
            return  # no link
