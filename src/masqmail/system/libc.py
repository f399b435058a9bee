"""The few kernel calls that Python 3.11 has no name for, through the C library."""

import ctypes
import errno
import os

_libc = ctypes.CDLL(None, use_errno=True)


def give_memory_back() -> None:
    """Returns memory that was used for a while and is free now to the kernel, as far as this C library can."""
    if trim := getattr(_libc, "malloc_trim", None):  # glibc's alone
        trim(0)


def call(name: str, *arguments: object) -> int:
    """Calls a C function that returns an int, and -1 for trouble; raises the `OSError` of its errno then.

    An interrupted call is repeated (PEP 475).
    """
    while True:
        result: int = getattr(_libc, name)(*arguments)
        if result != -1:
            return result
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, f"{name}: {os.strerror(number)}")
