"""The values of settings: how each type is read from TOML, written as TOML, and named in a message."""

import re
import shlex
from collections.abc import Callable
from datetime import timedelta
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from masqmail.config.faults import one_of, quote, write_one_of
from masqmail.config.fetch import Interval, Keep, Trigger
from masqmail.config.letters import a_labels
from masqmail.config.model import Delimiter, Network
from masqmail.frozen import frozen
from masqmail.mail.address import AddressError, Mailbox, parse_mailbox
from masqmail.mail.template import TemplateError, parse_template
from masqmail.routing.pattern import check_pattern
from masqmail.routing.route import AddressMap
from masqmail.settings import (
    Bytes,
    Command,
    Domain,
    DomainPattern,
    Fingerprint,
    HostPort,
    LmtpAddress,
    Pattern,
    TemplateSource,
    UserPath,
)

#: What may stand in `${…}`.
VARIABLES = (
    "user",
    "recipient",
    "recipient_local",
    "recipient_domain",
    "sender",
    "sender_local",
    "sender_domain",
    "received_host",
    "ident",
    "queue_id",
)

_LONGEST_DURATION = timedelta(days=3650)
_LARGEST_NUMBER = 2**62
_UNIT_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:\d{1,9}[dhms]){1,6}", re.ASCII)
_UNIT_BYTES = {"GB": 10**9, "MB": 10**6, "KB": 10**3, "B": 1}
_SIZE = re.compile(r"(\d{1,15})(?:\.(\d{1,3}))? ?([KMG]?B)", re.ASCII)
# RFC 1123 §2.1, and beyond ASCII RFC 5890 §2.3; said by what is left out, which compiles in a tenth of the time
_LETTER_OR_DIGIT = r"[^\x00-/:-@\[-`{-\x7f]"
_LABEL = rf"{_LETTER_OR_DIGIT}(?:(?:{_LETTER_OR_DIGIT}|[-_]){{0,61}}{_LETTER_OR_DIGIT})?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-fIPv.:]+\]")
_HOST_PORT = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^\[\]:]+))(?::(?P<port>\d{1,5}))?", re.ASCII)
_DELIMITER = re.compile(r"[!#$%&*+/=?^_{|}~.-]{0,8}")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")


class BadValue(Exception):
    """A value that cannot be read: what is wrong with it, and what to write instead.

    Without words of its own it is just not of its kind, whose example says what to write.
    """

    def __init__(self, problem: str = "", instead: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.instead = instead


@frozen
class Kind:
    """One type of value. `name` and `example` are for people; `write` gives what TOML knows."""

    name: str
    example: str
    read: Callable[[Any], object]
    write: Callable[[Any], object] = str
    alternatives: tuple[str, ...] = ()


def kind_of(hint: object) -> Kind:
    """How values of a field's type are read and written."""
    if hint in KINDS:
        return KINDS[hint]
    if get_origin(hint) is Literal:
        return _choice({word: word for word in get_args(hint)})
    assert isinstance(hint, type) and issubclass(hint, Enum), hint
    return _choice({member.value: member for member in hint})


def without_none(hint: object) -> object:
    """`X` for the type `X | None`, and everything else as it is."""
    if hint in KINDS or get_origin(hint) not in (Union, UnionType):
        return hint
    return next(part for part in get_args(hint) if part is not NoneType)


def item_of(hint: object) -> object | None:
    """`X` for a list `tuple[X, ...]`, None for everything else."""
    if hint in KINDS or get_origin(hint) is not tuple:
        return None
    return get_args(hint)[0]  # type: ignore[no-any-return]


def describe(value: object) -> str:
    """A TOML value in a message."""
    match value:
        case str():
            return quote(value) if value else "empty"
        case bool():
            return str(value).lower()
        case int() if abs(value) >= _LARGEST_NUMBER:
            return "a number with too many digits"
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def complaint(place: str, value: object, kind: Kind, bad: BadValue) -> tuple[str, str]:
    """What is wrong with the value at a place, and what to write instead."""
    instead = bad.instead or f"write it like {kind.example}"
    if value == "":
        return f"{place} is empty", f"{instead}, or leave it out"
    return f"{place} is {describe(value)}, {bad.problem or f'not {kind.name}'}", instead


# readers, in the order of KINDS


def _text(value: object) -> str:
    """Any text without control characters, and not empty."""
    if not isinstance(value, str) or not value:
        raise BadValue
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise BadValue("which has a control character in it", "write it without")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST_NUMBER:
        raise BadValue
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise BadValue("", "write true or false")
    return value


def _path(value: object) -> Path:
    text = _text(value)
    if text.startswith("~") and not text.startswith("~/") and text != "~":
        raise BadValue("which names somebody's home", "write the whole path")
    return Path(text)


def _user_path(value: object) -> UserPath:
    text = _text(value)
    if not text.startswith(("/", "~/")):
        raise BadValue("which does not say whose", 'begin it with "/" or "~/"')
    check_variables(text)
    return UserPath(text)


def check_variables(text: str) -> None:
    """Raises `BadValue` for a `${…}` that stands for nothing."""
    for name in _VARIABLE.findall(text):
        if name not in VARIABLES:
            raise BadValue(f"and there is no variable {quote(name)}", write_one_of(name, VARIABLES))


def _lmtp_address(value: object) -> LmtpAddress:
    text = _text(value)
    if not text.startswith("/") and not _host_port(_VARIABLE.sub("x", text)).port:
        raise BadValue("without a port", f"write {quote(text + ':24')}, or the path of a Unix socket")
    check_variables(text)
    return LmtpAddress(text)


def parse_duration(text: str) -> timedelta:
    """Reads `90s`, `15m`, `4h`, `5d` or several of them in a row. Raises `ValueError` for anything else."""
    if not _DURATION.fullmatch(text):
        raise ValueError("not a duration")
    seconds = sum(int(amount) * _UNIT_SECONDS[unit] for amount, unit in re.findall(r"(\d+)(\w)", text))
    if seconds > _LONGEST_DURATION.total_seconds():
        raise ValueError("longer than ten years")
    return timedelta(seconds=seconds)


def _duration(value: object) -> timedelta:
    try:
        return parse_duration(_text(value))
    except ValueError as error:
        raise BadValue(str(error)) from None


def format_duration(duration: timedelta) -> str:
    """A duration as the file writes it, in the largest unit that is exact."""
    seconds = int(duration.total_seconds())
    unit = next(unit for unit, size in _UNIT_SECONDS.items() if seconds % size == 0 and (seconds or unit == "s"))
    return f"{seconds // _UNIT_SECONDS[unit]}{unit}"


def _interval(value: object) -> Interval:
    words = {trigger.value: trigger for trigger in Trigger}
    if isinstance(value, str) and value in words:
        return words[value]
    try:
        return _duration(value)
    except BadValue:
        raise BadValue from None


def _write_interval(interval: Interval) -> str:
    return interval.value if isinstance(interval, Trigger) else format_duration(interval)


def _keep(value: object) -> Keep:
    if isinstance(value, bool):
        return value
    try:
        return _duration(value)
    except BadValue:
        raise BadValue from None


def _write_keep(keep: Keep) -> object:
    return keep if isinstance(keep, bool) else format_duration(keep)


def _size(value: object) -> Bytes:
    if isinstance(value, int):
        return Bytes(_number(value))
    match = _SIZE.fullmatch(_text(value))
    if match is None:
        raise BadValue
    thousandths = int(match[1]) * 1000 + int((match[2] or "").ljust(3, "0"))
    return Bytes(_number(thousandths * _UNIT_BYTES[match[3]] // 1000))


def format_size(size: int) -> str:
    """A size as the file writes it, in the largest unit that is exact."""
    unit = next(unit for unit, amount in _UNIT_BYTES.items() if size % amount == 0 and (size or unit == "B"))
    return f"{size // _UNIT_BYTES[unit]}{unit}"


def _command(value: object) -> Command:
    if isinstance(value, list):
        words = value
    else:
        try:
            words = shlex.split(_text(value))
        except ValueError:
            raise BadValue("which has a quotation mark too few", 'write a list: ["program", "argument"]') from None
    if not words or not words[0] or not all(isinstance(word, str) and "\0" not in word for word in words):
        raise BadValue
    return Command(tuple(words))


def _pattern(value: object) -> Pattern:
    text = _text(value)
    if "," in text:
        raise BadValue
    try:
        return check_pattern(text)
    except ValueError:
        raise BadValue from None


def _domain(value: object) -> Domain:
    text = _text(value)
    if not _DOMAIN.fullmatch(text) or len(text.encode()) > 255:
        raise BadValue
    return Domain(text)


def _domain_pattern(value: object) -> DomainPattern:
    text = _text(value)
    _domain(text.replace("*", "x").replace("?", "x"))
    return DomainPattern(text)


def _host_port(value: object) -> HostPort:
    text = _text(value)
    if text.count(":") > 1 and not text.startswith("["):
        address, _, digits = text.rpartition(":")
        if _is_v6(address) and digits.isdecimal():
            raise BadValue("an IPv6 address without brackets", f'write "[{address}]:{digits}"')
        raise BadValue
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise BadValue
    port = int(match["port"]) if match["port"] else 0
    if match["port"] and not 0 < port < 65536:
        raise BadValue("whose port is not between 1 and 65535")
    if match["v6"] is not None:
        if not _is_v6(match["v6"]):
            raise BadValue
        return HostPort(match["v6"], port)
    return HostPort(_host(match["host"]), port)


def _host(text: str) -> str:
    """A name or an IPv4 address. A number alone was meant as a port, and no name is all digits (RFC 1123 §2.1)."""
    if text.isdecimal():
        raise BadValue("a port without its host")
    if text.replace(".", "").isdecimal() and not _is_v4(text):
        raise BadValue("no IPv4 address")
    return _domain(text)


def _is_v4(text: str) -> bool:
    try:
        return bool(IPv4Address(text))
    except ValueError:
        return False


def _is_v6(text: str) -> bool:
    try:
        return bool(IPv6Address(text))
    except ValueError:
        return False


def _network(value: object) -> object:
    text = _text(value)
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise BadValue from None
    if "/" in text and ip_network(text.partition("/")[0]).network_address != network.network_address:
        raise BadValue("an address within a network", f'write "{network}" for the network')
    return network


def _mailbox(value: object) -> Mailbox:
    try:
        return parse_mailbox(_text(value))
    except AddressError as error:
        raise BadValue(f"not an address: {error}") from None


def _fingerprint(value: object) -> Fingerprint:
    digits = _text(value).lower().removeprefix("sha256:").replace(":", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise BadValue
    return Fingerprint(digits)


def _delimiter(value: object) -> Delimiter:
    if not isinstance(value, str) or not _DELIMITER.fullmatch(value):
        raise BadValue
    return Delimiter(value)


def _address_map(value: object) -> AddressMap:
    if not isinstance(value, dict):
        raise BadValue
    for glob, address in value.items():
        if not glob or "@" in glob or any(char.isspace() for char in glob):
            local_part = "?".join(glob.partition("@")[0].split()) or "*"
            raise BadValue(f"whose key {quote(glob)} is no local part", f"write {quote(local_part)}")
        _check_rewritten(_text(address) if isinstance(address, str) and address else address)
    return tuple(value.items())


def _check_rewritten(address: object) -> None:
    """The new address of a rewriting: `local@domain`, `*@domain` or `A Name <local@domain>`."""
    if not isinstance(address, str):
        raise BadValue(f"in which {describe(address)} stands for an address")
    text = address.rpartition("<")[2].removesuffix(">") if address.endswith(">") else address
    try:
        mailbox = parse_mailbox(text)
    except AddressError as error:
        raise BadValue(f"in which {quote(address)} is no address: {error}") from None
    if not mailbox.domain:
        raise BadValue(f"in which {quote(address)} has no domain", f"write {quote(text + '@isp.example')}")
    if not mailbox.domain.isascii():
        instead = f"write {quote(address.replace(mailbox.domain, a_labels(mailbox.domain)))}"
        raise BadValue(f"in which the domain of {quote(address)} has letters that not every server reads", instead)
    if "*" in mailbox.local_part and mailbox.local_part != "*":
        raise BadValue(f"in which {quote(address)} has a * beside other letters", f'write "*@{mailbox.domain}"')


def _template(value: object) -> TemplateSource:
    """One word, or what begins like a path, is the path of a file; everything else is the text itself."""
    if not isinstance(value, str) or not value.strip():
        raise BadValue
    is_path = value.startswith(("/", "~/", "./", "../")) or not re.search(r"\s|\$\{", value)
    if is_path and "\n" not in value:
        return TemplateSource(path=_path(value))
    if any((ord(char) < 32 and char not in "\t\r\n") or ord(char) == 127 for char in value):
        raise BadValue("which has a control character in it", "write it without")
    try:
        return TemplateSource(parse_template(value).text)
    except TemplateError as error:
        raise BadValue(f"whose {error}, which stands for nothing", f"write {error.instead}") from None


def _write_template(source: TemplateSource) -> str:
    return str(source.path or source.text)


def _choice(words: dict[str, object]) -> Kind:
    """One of some words: an `Enum` by its values, or a `Literal`."""
    by_meaning = {meaning: word for word, meaning in words.items()}

    def read(value: object) -> object:
        if not isinstance(value, str) or value not in words:
            raise BadValue("", write_one_of(value, tuple(words)))
        return words[value]

    return Kind(one_of(tuple(words)), f'"{next(iter(words))}"', read, by_meaning.__getitem__, tuple(words))


KINDS: dict[object, Kind] = {
    str: Kind("a text", '"word"', _text),
    int: Kind("a whole number", "10", _number, int),
    bool: Kind("true or false", "true", _truth, bool),
    Path: Kind("a path", '"/etc/masqmail/file"', _path),
    UserPath: Kind("a path of a user", '"/var/mail/${user}" or "~/Maildir"', _user_path),
    LmtpAddress: Kind("an LMTP server", '"/run/dovecot/lmtp" or "127.0.0.1:24"', _lmtp_address),
    timedelta: Kind("a duration", '"90s", "15m", "4h" or "5d"', _duration, format_duration),
    Bytes: Kind("a size", '"250KB" or "50MB"', _size, format_size),
    Command: Kind("a command", '["/usr/bin/program", "argument"]', _command, list),
    Pattern: Kind("an address pattern", '"*@example.org"', _pattern),
    Domain: Kind("a domain", '"mail.example.org"', _domain),
    DomainPattern: Kind("a domain", '"home.example" or "*.home.example"', _domain_pattern),
    HostPort: Kind("a host with its port", '"mail.example.org:587" or "[::1]:25"', _host_port),
    Network: Kind("a network", '"192.168.1.0/24"', _network),
    Mailbox: Kind("an address", '"ann@example.org"', _mailbox),
    Fingerprint: Kind("64 hexadecimal digits", '"sha256:94:5C:…"', _fingerprint),
    Delimiter: Kind("a delimiter", '"+"', _delimiter),
    TemplateSource: Kind("a text with variables", '"/etc/masqmail/bounce.txt"', _template, _write_template),
    Interval: Kind("a duration, manual or idle", '"5m", "manual" or "idle"', _interval, _write_interval),
    Keep: Kind("true, false or a duration", 'true, false or "7d"', _keep, _write_keep),
    AddressMap: Kind("a table of addresses", '{ "john" = "john@isp.example" }', _address_map, dict),
}
