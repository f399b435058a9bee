"""A sleep that goes on while the machine is suspended, so that it ends right after the machine wakes.

The event loop's own timers run on CLOCK_MONOTONIC, which stands still in the meantime; `os.timerfd_create`
exists from Python 3.13 only.
"""

import asyncio
import ctypes
import os
import time

from masqmail.system import libc

_CLOCK_BOOTTIME = 7
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK | TFD_CLOEXEC have the same values
_LONGEST_SECONDS = 10 * 365 * 86400.0
_LOOK_SECONDS = 1.0


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


async def sleep(seconds: float) -> None:
    """Sleeps for `seconds` of CLOCK_BOOTTIME; zero and less only let other tasks run."""
    if seconds <= 0:
        await asyncio.sleep(0)
        return
    try:
        fd = libc.call("timerfd_create", _CLOCK_BOOTTIME, _NONBLOCK_CLOEXEC)
    except OSError:  # too many open files
        await _look_at_clock(seconds)
        return
    try:
        _arm(fd, min(seconds, _LONGEST_SECONDS))
        loop = asyncio.get_running_loop()
        expired = loop.create_future()
        loop.add_reader(fd, _finish, expired)
        try:
            await expired
        finally:
            loop.remove_reader(fd)
    finally:
        os.close(fd)


async def _look_at_clock(seconds: float) -> None:
    """The same without a timer: looks now and then whether it is time."""
    end = time.clock_gettime(_CLOCK_BOOTTIME) + seconds
    while (left := end - time.clock_gettime(_CLOCK_BOOTTIME)) > 0:  # noqa: ASYNC110 - nothing else tells the time
        await asyncio.sleep(min(left, _LOOK_SECONDS))


def _arm(fd: int, seconds: float) -> None:
    whole = int(seconds)
    nanoseconds = max(1 if not whole else 0, int((seconds - whole) * 1e9))  # all zero would disarm it
    specification = _Itimerspec(_Timespec(0, 0), _Timespec(whole, nanoseconds))
    libc.call("timerfd_settime", fd, 0, ctypes.byref(specification), None)


def _finish(expired: "asyncio.Future[None]") -> None:
    if not expired.done():
        expired.set_result(None)
