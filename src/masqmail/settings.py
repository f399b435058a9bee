"""How a configuration section describes itself: documented dataclass fields and the value types they use.

Every section of the configuration file is a frozen dataclass whose fields are made with `setting`. The
loader (`masqmail.config.load`) reads the type of each field to know how to read its TOML value, and the
reference page is made from the field's words. The types here are the ones TOML has no word for.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NewType

from masqmail.frozen import frozen

#: A size in bytes, written as "250KB" or "50MB" (powers of 1000) or a plain number.
Bytes = NewType("Bytes", int)

#: A program and its arguments; a string in the file is split like a shell line, without expansion.
Command = NewType("Command", tuple[str, ...])

#: A glob with `*` and `?` over addresses; see `masqmail.routing.pattern`.
Pattern = NewType("Pattern", str)

#: A host or mail domain, such as `gateway.home.example`, or an address literal.
Domain = NewType("Domain", str)

#: A glob with `*` and `?` over domains, without case; most are just a domain.
DomainPattern = NewType("DomainPattern", str)

#: A path that differs from user to user: absolute or below `~/`, with `${user}` and the like in it.
UserPath = NewType("UserPath", str)

#: Where an LMTP server listens: the path of a Unix socket or host:port, with `${user}` and the like in it.
LmtpAddress = NewType("LmtpAddress", str)

#: The SHA-256 of a certificate: 64 small hexadecimal digits. The file may put colons and `sha256:` into it.
Fingerprint = NewType("Fingerprint", str)


@frozen
class HostPort:
    """A host name or address with a port, written `host:port` or `[v6]:port`; the port may be left out (0)."""

    host: str
    port: int = 0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host


@frozen
class TemplateSource:
    """The text of a template, or the file that has it; see `masqmail.mail.template`."""

    text: str = ""
    path: Path | None = None


def setting(
    doc: str,
    *,
    default: Any = dataclasses.MISSING,
    otherwise: str = "",
    example: str = "",
    secret: bool = False,
    key: str = "",
) -> Any:
    """A dataclass field that documents one setting.

    `doc` is one sentence for people; `otherwise` says what holds without the setting where its default does
    not say it; `example` is TOML text for the reference page; `secret` hides the value in `masqmail check
    --show`; `key` is the name in the file where it differs from the field's (Python keywords such as `from`).
    """
    metadata: Mapping[str, object] = {
        "doc": doc,
        "otherwise": otherwise,
        "example": example,
        "secret": secret,
        "key": key,
    }
    if isinstance(default, dict | list | set):
        raise TypeError("a setting's default is immutable")
    return dataclasses.field(default=default, metadata=metadata)
