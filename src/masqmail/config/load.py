"""Reads the configuration file. Start here: `load` gives the whole configuration, or every fault in it."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from masqmail.config.faults import ConfigError, Fault, Faults
from masqmail.config.model import Configuration
from masqmail.config.reader import Reader
from masqmail.config.rules import check_rules
from masqmail.config.sections import assemble, header_of
from masqmail.config.surroundings import Surroundings
from masqmail.config.unsupported import refuse_unsupported

__all__ = ["ConfigError", "Surroundings", "load", "parse"]

MAX_FILE_BYTES = 1_000_000

_POSITION = re.compile(r" \((?:at line (\d+), column \d+|at end of document)\)")
#: What to write for a fault of syntax: by what `tomllib` says, and by the line. The first that fits both counts.
_ADVICE = tuple(
    (re.compile(said, re.IGNORECASE), re.compile(line, re.IGNORECASE), advice)
    for said, line, advice in (
        ("twice|overwrite|already|redefine|Duplicate", "", "write each section and setting once"),
        ("Invalid value", r"=\s*(yes|no|on|off|true|false)\b", "write true or false"),
        (
            "",  # in place of straight ones, or of the last of two; within them they are text
            r"""=([^"'#]|"[^"]*"|'[^']*')*[“”„‟‘’‚]|=[^#]*[“”„‟‘’‚]\s*$""",
            'write straight quotation marks: name = "value"',
        ),
        (r"Illegal character '\\n'|Expected \"'\"", "", "close the quotation mark in the same line"),
        ("after a statement", r"^\s*\[", "begin a new line behind the ]"),
        (
            "after a statement|Unclosed array",
            r"""=\s*("[^"]*"|'[^']*'|\[.*\]|true|false)\s*[^\s"']""",
            "write nothing but a comment, which begins with #, behind the value",
        ),
        ("Unclosed array", "", "put each text in quotes, a comma between two and a ] at the end"),
        ("key part", "{", "write all of { … } in one line, without a comma at its end"),
        (r"Unescaped|hex value", r"\\", r"write \\ for each \, or put the text in '…'"),
        ("Invalid value|Unterminated|Illegal|after a statement", "", 'put text in quotes: name = "value"'),
        ("", "", "write [section] or name = value"),
    )
)


def load(path: Path | None, surroundings: Surroundings) -> Configuration:
    """The configuration from `path`, the file the environment names, or the default file.

    A default file that is missing or unreadable means the defaults: a host without routes. Raises `ConfigError`
    with every fault otherwise.
    """
    named = path or surroundings.named_file
    file = named or surroundings.default_file
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        if named is None:
            return replace(parse(b"", file, surroundings), path=None)
        _refuse(file, error.strerror)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        _refuse(file, getattr(error, "strerror", None) or str(error))
    return parse(data, file, surroundings)


def parse(data: bytes, file: Path, surroundings: Surroundings) -> Configuration:
    """The configuration from the content of a file. Raises `ConfigError` with every fault in it."""
    if len(data) > MAX_FILE_BYTES:
        wrong = f"the file is bigger than {MAX_FILE_BYTES // 1000} KB"
        raise ConfigError([Fault(str(file), 0, "", wrong, "write less, or name another file")])
    source = _decode(data, file)
    document = _document(source, file)
    faults = Faults(str(file), source)
    refuse_unsupported(document, faults)
    folder = file.absolute().parent
    reader = Reader(faults, folder, surroundings.home, header_of)
    configuration = assemble(document, reader, surroundings, folder=folder, path=file.absolute())
    check_rules(configuration, faults, surroundings)
    faults.raise_any()
    return configuration


def _refuse(file: Path, reason: str | None) -> NoReturn:
    wrong = f"the configuration cannot be read: {reason}"
    raise ConfigError([Fault(str(file), 0, "", wrong, "name a file that can, with --config FILE")])


def _decode(data: bytes, file: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wrong = "this is not UTF-8 text"
        raise ConfigError([Fault(str(file), line, "", wrong, "save the file as UTF-8")]) from None


def _document(source: str, file: Path) -> dict[str, Any]:
    """What `tomllib` makes of it. It stops at the first fault of syntax."""
    try:
        return tomllib.loads(source)
    except RecursionError:
        fault = Fault(str(file), 0, "", "brackets are nested too deeply", "no setting needs more than three levels")
    except ValueError as error:  # TOMLDecodeError is one; so are numbers and dates that are out of range
        fault = _syntax_fault(str(error), source, file)
    raise ConfigError([fault])


def _syntax_fault(message: str, source: str, file: Path) -> Fault:
    position = _POSITION.search(message)
    last_line = source.rstrip().count("\n") + 1
    line = (int(position[1]) if position[1] else last_line) if position else 0
    text = source.split("\n")[line - 1] if line else ""
    words = _POSITION.sub("", message).strip()
    advice = next(advice for said, there, advice in _ADVICE if said.search(words) and there.search(text))
    return Fault(str(file), line, "", f"this is not TOML: {words}", advice)
