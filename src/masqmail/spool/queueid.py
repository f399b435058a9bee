"""Names for messages: short, unique, sortable by time, easy to read out and to type.

Fourteen characters of a base 32 alphabet without look-alikes (no i, l, o, u): nine for the milliseconds since
1970, five that are random or counted on.
"""

import hashlib
from datetime import datetime
from random import Random

LENGTH = 14
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TAIL_BITS = 25
_TIME_BITS = 45  # milliseconds until the year 3084
_ALL = (1 << (_TIME_BITS + _TAIL_BITS)) - 1
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)  # ten bits at a time


class QueueIds:
    """Makes queue IDs that grow within one process, also when the clock steps back."""

    def __init__(self) -> None:
        self._last = 0
        self._random = Random()  # noqa: S311 - begins with the system's own; a name need not be a secret

    def new(self, now: datetime) -> str:
        """An ID greater than all before it.

        In a new millisecond its tail is random, so that other hosts and our own earlier lives never made the
        same one; within a millisecond it counts on.
        """
        fresh = int(now.timestamp() * 1000) << _TAIL_BITS
        if fresh >> _TAIL_BITS > self._last >> _TAIL_BITS:
            # half of the range, so that counting on from it never reaches the next millisecond
            self._last = fresh | self._random.getrandbits(_TAIL_BITS - 1)
        else:
            self._last += 1
        return _format(self._last)


def derived_id(when: datetime, seed: bytes) -> str:
    """The same ID for the same instant and seed, however often it is asked for."""
    tail = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest()) >> (64 - _TAIL_BITS)
    return _format(max(0, int(when.timestamp() * 1000)) << _TAIL_BITS | tail)


def _format(value: int) -> str:
    high, low = divmod(value & _ALL, 1 << 40)
    return (
        f"{_PAIRS[high >> 20]}{_PAIRS[high >> 10 & 1023]}{_PAIRS[high & 1023]}"
        f"{_PAIRS[low >> 30]}{_PAIRS[low >> 20 & 1023]}{_PAIRS[low >> 10 & 1023]}{_PAIRS[low & 1023]}"
    )
