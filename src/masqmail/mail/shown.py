"""What a person is shown of somebody else's header section: decoded, on one line, in bounds."""

import binascii

from masqmail.mail.dsntext import one_line
from masqmail.mail.header import split_fields, values

_MAX_SUBJECT = 120  # characters
_MAX_AUTHOR = 200
_MAX_READ_BYTES = 4000  # of a field: what is shown of it is shorter in any case


def subject_of(header: bytes) -> str:
    """The subject as people read it; empty without one."""
    return _shown(header, "subject", _MAX_SUBJECT)


def author_of(header: bytes) -> str:
    """Who wrote the message, as its From says; empty without one."""
    return _shown(header, "from", _MAX_AUTHOR)


def _shown(header: bytes, name: str, max_length: int) -> str:
    """The first field of a name, its encoded words decoded as far as they can be."""
    from email.errors import HeaderParseError  # half of the mail package, for the few reports there are
    from email.header import decode_header, make_header

    raw = next(values(split_fields(header), name), b"")[:_MAX_READ_BYTES].decode(errors="replace")
    try:
        text = str(make_header(decode_header(raw)))
    except (HeaderParseError, LookupError, UnicodeError, binascii.Error, ValueError):
        text = raw
    text = one_line(text)
    return text if len(text) <= max_length else text[:max_length] + "…"
