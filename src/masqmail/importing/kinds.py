"""Which program a file or folder belongs to, and how it is imported."""

import re
from dataclasses import replace
from enum import Enum
from pathlib import Path

from masqmail.frozen import frozen
from masqmail.importing.dialect import Dialect
from masqmail.importing.dma import import_dma
from masqmail.importing.files import OldFiles, read_regular
from masqmail.importing.migration import Outcome
from masqmail.importing.msmtp import import_msmtp
from masqmail.importing.nullmailer import import_nullmailer
from masqmail.importing.ssmtp import import_ssmtp
from masqmail.importing.tree import import_masqmail


class Kind(Enum):
    """A program whose configuration we can read, by the name of its main file."""

    MASQMAIL = "masqmail.conf"
    NULLMAILER = "remotes"
    DMA = "dma.conf"
    SSMTP = "ssmtp.conf"
    MSMTP = "msmtprc"


@frozen
class Found:
    """A main file, and whose it is."""

    kind: Kind
    file: Path


_OWN = ("masqmail", "nullmailer", "dma", "ssmtp")
_FOLDERS = ("", *_OWN, *(f"etc/{folder}" for folder in _OWN), "etc")
_NAMES = {**{kind.value: kind for kind in Kind}, ".msmtprc": Kind.MSMTP}
_SIGNS = (
    (Kind.SSMTP, re.compile(r"^\s*mailhub\s*=", re.MULTILINE | re.IGNORECASE)),
    (Kind.DMA, re.compile(r"^(?:SMARTHOST|AUTHPATH|MAILNAME|SPOOLDIR)(?:\s|$)", re.MULTILINE)),
    (Kind.MSMTP, re.compile(r"^\s*(?:account|defaults|host)(?:\s+[^=\s].*)?$", re.MULTILINE)),
)


def find_kind(path: Path) -> Found | None:
    """What stands at a path: a main file, or a folder with one in it or at its place in a copy of /. Else None."""
    if path.is_dir():
        places = (path / folder / name for folder in _FOLDERS for name in _NAMES)
        file = next((place for place in places if place.is_file()), None)
        return Found(_NAMES[file.name], file) if file else None
    data = read_regular(path)
    if data is None:
        return None
    if path.name in _NAMES:
        return Found(_NAMES[path.name], path)
    text = data.decode("utf-8", "replace")
    return Found(next((kind for kind, sign in _SIGNS if sign.search(text)), Kind.MASQMAIL), path)


def read_configuration(found: Found, dialect: Dialect | None = None) -> Outcome:
    """Imports it. Raises `FileNotFoundError` when the main file cannot be read."""
    file = found.file.absolute()
    files = OldFiles(file.parent)
    match found.kind:
        case Kind.MASQMAIL:
            outcome = import_masqmail(str(file), files, dialect)
            spool = files.find_folder(outcome.spool) if outcome.spool else None
            return replace(outcome, spool=str(spool)) if spool else outcome
        case Kind.NULLMAILER:
            return import_nullmailer(str(file.parent), files)
        case Kind.DMA:
            return import_dma(str(file), files)
        case Kind.SSMTP:
            return import_ssmtp(str(file), files)
        case Kind.MSMTP:
            return import_msmtp(str(file), files)
