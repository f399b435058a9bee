"""The values of old settings as ours; each reader is as tolerant as the old program was, and says when it helped."""

import re
from datetime import timedelta

from masqmail.config.values import format_duration
from masqmail.frozen import frozen

_NUMBER = re.compile(r"\s*([+-]?\d{1,18})")
_TIME = re.compile(r"(\d{1,9})([smhdw])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = timedelta(days=3650)


class BadOldValue(ValueError):
    """A value that the old program could not use either; the text says why."""


def truth(text: str) -> bool:
    """yes, on, true and no, off, false; only the beginning counts. Raises `BadOldValue`."""
    word = text.lower()
    if word.startswith(("yes", "on", "true")):
        return True
    if word.startswith(("no", "off", "false")):
        return False
    raise BadOldValue("neither yes nor no; the old program ended here")


def number(text: str) -> int:
    """The number that the text begins with; 0 when it begins with none, as C's atoi has it."""
    match = _NUMBER.match(text)
    return int(match[1]) if match else 0


def duration(text: str) -> str:
    """Digits and a unit as our duration. Raises `BadOldValue`."""
    match = _TIME.match(text.strip())
    if match is None:
        raise BadOldValue("no time; write a number and one of s, m, h, d, w")
    seconds = int(match[1]) * _UNIT_SECONDS[match[2]]
    if not 0 < seconds <= _LONGEST.total_seconds():
        raise BadOldValue("a time that is nothing, or longer than ten years")
    return format_duration(timedelta(seconds=seconds))


@frozen
class Listed:
    """The items of a list. `padded` are those that had blanks around them, which counted before 1.0."""

    items: tuple[str, ...]
    padded: tuple[str, ...]


def split_list(text: str) -> Listed:
    """The items between semicolons, without blanks around them and without empty ones."""
    raw = [item.strip("\n") for item in text.split(";")]
    padded = tuple(item.strip() for item in raw if item.strip() and item.strip() != item)
    return Listed(tuple(item.strip() for item in raw if item.strip()), padded)


def split_include(text: str) -> tuple[str, ...]:
    """The items of a list file: one to a line, without comments and empty lines."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def split_pair(item: str) -> tuple[str, str]:
    """`KEY: VALUE` of a map. Raises `BadOldValue`."""
    key, colon, value = item.partition(":")
    if not colon or not key.strip() or not value.strip():
        raise BadOldValue(f"{item!r} is no `key: value`")
    return key.strip(), value.strip()
