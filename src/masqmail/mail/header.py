"""The header section as bytes: found, cut and put together again without touching what does not change.

RFC 5322 §2.2. A field keeps its exact bytes, folding included; only fields we have a reason to change are made
anew. What follows the header section is none of this module's business.
"""

import re
from collections.abc import Iterable, Iterator

from masqmail.frozen import frozen

_NAME = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:")
_NAMES = re.compile(rb"\n([!-9;-~]++)[ \t]*+:")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")


@frozen
class Field:
    """One field: its name in lower case and all its bytes, the CRLF at the end included."""

    name: str
    raw: bytes

    @property
    def value(self) -> bytes:
        """What stands behind the colon, unfolded and without white space around it."""
        _, _, value = self.raw.partition(b":")
        return _FOLD.sub(b"", value).strip()

    @property
    def value_start(self) -> int:
        """Where in `raw` the value begins: just behind the colon."""
        return self.raw.index(b":") + 1


def split_fields(header: bytes) -> list[Field]:
    """The fields of a header section in order. Joining their `raw` gives back every byte.

    A line that is no field (no name and colon, or a continuation with nothing before it) becomes a Field
    with an empty name.
    """
    fields: list[Field] = []
    start = 0
    while start < len(header):
        end = _field_end(header, start)
        match = _NAME.match(header, start, end)
        fields.append(Field(match[1].decode("ascii").lower() if match else "", header[start:end]))
        start = end
    return fields


def field_names(header: bytes) -> list[bytes]:
    """The names of the fields in order, in lower case: quicker than `split_fields` where only they matter."""
    return _NAMES.findall(b"\n" + header.lower())


def join_fields(fields: Iterable[Field]) -> bytes:
    """The header section again."""
    return b"".join(field.raw for field in fields)


def make_field(name: str, value: str) -> Field:
    """A new field with one CRLF at its end; `value` may contain folds, its text is written as UTF-8."""
    return Field(name.lower(), f"{name}: {value}\r\n".encode())


def values(fields: Iterable[Field], name: str) -> Iterator[bytes]:
    """The values of every field of that name (in lower case), in order."""
    return (field.value for field in fields if field.name == name)


def _field_end(header: bytes, start: int) -> int:
    """The index behind the field that begins at `start`: behind its last continuation line."""
    while True:
        newline = header.find(b"\n", start)
        if newline < 0:
            return len(header)
        start = newline + 1
        if header[start : start + 1] not in (b" ", b"\t"):
            return start
