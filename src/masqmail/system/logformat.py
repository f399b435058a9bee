"""How an event is written: as text for people, as JSON, or as text for journald.

One event is one line whatever its values hold: control characters are escaped, so nobody outside can forge
a line of the log.
"""

import json
import logging
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import lru_cache

TRACE = 5  # below logging.DEBUG

_NAME_WIDTH = 20  # most event names fit, so that their fields stand in one column
_LEVEL_WORDS = {TRACE: "debug", logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning"}
#: Never written, should one get here by mistake.
_SECRET_FIELDS = frozenset({"password", "secret", "token", "credentials"})
_AMBIGUOUS = re.compile(r'[ "=\\]')
#: A value that stands as it is: the quick way to what `_quoted` says of most.
_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")


@dataclass(slots=True)
class Event:
    """One event: `at` in seconds since 1970, a level of `logging`, its name and fields, and what went wrong."""

    at: float
    level: int
    name: str
    fields: Mapping[str, object]
    exception: BaseException | None = None


def as_text(event: Event) -> str:
    """`2026-11-21 00:01:57 info    message received     queue_id=1x5 size=1234`, times in UTC."""
    return _time_and_level(int(event.at), event.level) + _lines(event, "\n")


def as_journal(event: Event) -> str:
    """The same without time and level, behind a syslog priority as sd-daemon(3) describes it."""
    prefix = f"<{_priority(event.level)}>"
    return prefix + _lines(event, "\n" + prefix)


def as_json(event: Event) -> str:
    """One JSON object: `at`, `level`, `event`, its fields, and `traceback` after a fault of ours."""
    at = datetime.fromtimestamp(event.at, UTC)
    document: dict[str, object] = {
        "at": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z",
        "level": _level_word(event.level),
        "event": event.name,
    }
    for name, value in event.fields.items():
        if value is None:
            continue
        value = "***" if name in _SECRET_FIELDS else value
        document.setdefault(name, value if isinstance(value, bool | int | float) else plain(value))
    if event.exception:
        document["traceback"] = _traceback(event.exception)
    return json.dumps(document, ensure_ascii=False)


#: The values of `[log] format`.
FORMATS: dict[str, Callable[[Event], str]] = {"text": as_text, "json": as_json, "journal": as_journal}


def plain(value: object) -> str:
    """A field's value as text, not yet escaped."""
    match value:
        case str():
            return value
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        case timedelta():
            return f"{value.total_seconds():g}s"
        case Enum():
            return str(value.value)
        case _:
            return str(value)


def escape(text: str) -> str:
    """Makes one printable line of any text; backslashes are doubled only where it is quoted."""
    return text if text.isprintable() else "".join(map(_escape_character, text))


def _escape_character(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def _lines(event: Event, separator: str) -> str:
    """The event's line, with those of its traceback behind it."""
    fields = event.fields
    if not _SECRET_FIELDS.isdisjoint(fields):
        fields = {name: "***" if name in _SECRET_FIELDS else value for name, value in fields.items()}
    words = [
        f"{name}={value if type(value) is int else _quoted(value if type(value) is str else plain(value))}"
        for name, value in fields.items()
        if value is not None
    ]
    line = f"{_padded(event.name)} {' '.join(words)}" if words else _padded(event.name).rstrip()
    if event.exception is None:
        return line
    traceback_lines = _traceback(event.exception).splitlines()
    return separator.join((line, *("  " + escape(text) for text in traceback_lines)))


@lru_cache(64)
def _padded(event_name: str) -> str:
    return f"{escape(event_name):<{_NAME_WIDTH}}"


@lru_cache(256)  # queue IDs pass through it, words that come again stay
def _quoted(text: str) -> str:
    """A value as it stands behind `name=`: in quotes when a reader could not see its end otherwise."""
    if _PLAIN.fullmatch(text):
        return text
    if text and text.isprintable() and not _AMBIGUOUS.search(text):
        return text
    doubled = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escape(doubled)}"'


def _traceback(exception: BaseException) -> str:
    return "".join(traceback.format_exception(exception))


@lru_cache(4)
def _time_and_level(timestamp: int, level: int) -> str:
    """What a text line begins with; many events share a second."""
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S} {_level_word(level):<7} "


def _level_word(level: int) -> str:
    return _LEVEL_WORDS.get(level, "error")


def _priority(level: int) -> int:
    """The syslog priority of a level: debug 7, info 6, warning 4, error 3."""
    for limit, priority in ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= limit:
            return priority
    return 7
