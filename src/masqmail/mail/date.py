"""Dates as mail writes them, RFC 5322 §3.3, in English whatever the locale says."""

from datetime import datetime, timedelta
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def format_date(when: datetime) -> str:
    """An aware instant with the offset of its own time zone: "Fri, 21 Nov 2025 10:05:03 +0100".

    The zone's name is left out: it says nothing that the offset does not. Raises `ValueError` for a naive
    datetime.
    """
    offset = when.utcoffset()
    if offset is None:
        raise ValueError("a date in a message needs a time zone")
    return _written(when, offset)


@lru_cache(16)
def _written(when: datetime, offset: timedelta) -> str:
    """The text of an instant, often asked for twice. Instants of two zones may be equal, hence the offset."""
    sign = "-" if offset < timedelta(0) else "+"
    hours, minutes = divmod(abs(offset) // timedelta(minutes=1), 60)
    return (
        f"{_DAYS[when.weekday()]}, {when.day:02} {_MONTHS[when.month - 1]} {when.year:04}"
        f" {when.hour:02}:{when.minute:02}:{when.second:02} {sign}{hours:02}{minutes:02}"
    )
