"""How an event is written: as text for people, as JSON, or as text for journald.

One event is one line whatever its values hold: control characters are escaped, so nobody outside can forge
a line of the log.
"""

import json
import logging
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum

TRACE = 5  # below logging.DEBUG

_NAME_WIDTH = 20  # most event names fit, so that their fields stand in one column
_LEVEL_WORDS = {TRACE: "debug", logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning"}
#: Never written, should one get here by mistake.
_SECRET_FIELDS = frozenset({"password", "secret", "token", "credentials"})


def fields_of(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    """The fields that an event has a value for, in the order they were given."""
    fields: Mapping[str, object] = getattr(record, "fields", {})
    for name, value in fields.items():
        if value is not None:
            yield name, "***" if name in _SECRET_FIELDS else value


class TextFormatter(logging.Formatter):
    """`2026-11-21 00:01:57 info    message received     queue_id=1x5 size=1234`, times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        return f"{at:%Y-%m-%d %H:%M:%S} {_level_word(record):<7} " + "\n".join(_lines(record))


class JournalFormatter(logging.Formatter):
    """The same without time and level, behind a syslog priority as sd-daemon(3) describes it."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_priority(record.levelno)}>"
        return "\n".join(prefix + line for line in _lines(record))


class JsonFormatter(logging.Formatter):
    """One JSON object per event: `at`, `level`, `event`, its fields, and `traceback` after a fault of ours."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        document: dict[str, object] = {
            "at": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z",
            "level": _level_word(record),
            "event": record.getMessage(),
        }
        for name, value in fields_of(record):
            document.setdefault(name, value if isinstance(value, bool | int | float) else plain(value))
        if record.exc_info and record.exc_info[1]:
            document["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(document, ensure_ascii=False)


#: The values of `[log] format`.
FORMATTERS: dict[str, type[logging.Formatter]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
    "journal": JournalFormatter,
}


def plain(value: object) -> str:
    """A field's value as text, not yet escaped."""
    match value:
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


def _lines(record: logging.LogRecord) -> Iterator[str]:
    fields = " ".join(f"{name}={_quoted(plain(value))}" for name, value in fields_of(record))
    event = escape(record.getMessage())
    yield f"{event:<{_NAME_WIDTH}} {fields}" if fields else event
    if record.exc_info and record.exc_info[1]:
        for line in "".join(traceback.format_exception(record.exc_info[1])).splitlines():
            yield "  " + escape(line)


def _quoted(text: str) -> str:
    """A value as it stands behind `name=`: in quotes when a reader could not see its end otherwise."""
    if text and text.isprintable() and not any(character in ' "=\\' for character in text):
        return text
    doubled = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escape(doubled)}"'


def _level_word(record: logging.LogRecord) -> str:
    return _LEVEL_WORDS.get(record.levelno, "error")


def _priority(level: int) -> int:
    """The syslog priority of a level: debug 7, info 6, warning 4, error 3."""
    for limit, priority in ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= limit:
            return priority
    return 7
