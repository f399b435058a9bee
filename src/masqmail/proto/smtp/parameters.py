"""The parameters of MAIL and RCPT: RFC 1870, 3461, 4954, 6152, 6531."""

import re
from collections.abc import Mapping

from masqmail.mail.envelope import Body, Notify, Ret
from masqmail.mail.status import BAD_ARGUMENTS, Status
from masqmail.proto.errors import PeerError

MAX_ENVID_BYTES = 100  # RFC 3461 §4.4, as it stands in the command
MAX_ORCPT_BYTES = 500  # RFC 3461 §4.2
UNKNOWN_PARAMETER = Status(555, "5.5.4", "Unknown parameter")  # RFC 5321 §4.1.1.11
NO_BINARYMIME = Status(555, "5.5.4", "BINARYMIME is not offered here, encode the message")

# RFC 5321 §4.1.2; RFC 6531 §3.3 adds UTF-8 to the value
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00-\x20=\x7f]+))?")
_SIZE = re.compile(r"\d{1,20}", re.ASCII)  # RFC 1870 §3
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")  # RFC 3461 §4
_HEX = re.compile(r"\+([0-9A-F]{2})")
_PRINTABLE = re.compile(r"[ -~]*")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")  # RFC 6533 §3
_UNICODE = re.compile(r"[ -~\u00a0-\ud7ff\ue000-\U0010ffff]*")

_BODIES = {"7BIT": Body.SEVEN_BIT, "8BITMIME": Body.EIGHT_BIT}
_NOTIFY = {"SUCCESS": Notify.SUCCESS, "FAILURE": Notify.FAILURE, "DELAY": Notify.DELAY}


def parse_parameters(text: str) -> dict[str, str | None]:
    """`KEY=value` words to a dict with keys in upper case; None where a key has no value.

    Raises `PeerError` for what is no parameter and for a key that is given twice.
    """
    parameters: dict[str, str | None] = {}
    for word in text.split(" "):
        if not word:
            continue
        match = _PARAMETER.fullmatch(word)
        if match is None or (key := match[1].upper()) in parameters:
            raise PeerError(BAD_ARGUMENTS)
        parameters[key] = match[2]
    return parameters


def refuse_others(parameters: Mapping[str, object], known: frozenset[str]) -> None:
    """Raises `PeerError` when there is a parameter that nobody knows here."""
    if not known.issuperset(parameters):
        raise PeerError(UNKNOWN_PARAMETER)


def read_size(value: str | None) -> int:
    """SIZE, RFC 1870 §3: the sender's estimate in bytes."""
    if value is None or not _SIZE.fullmatch(value):
        raise _bad("SIZE needs a number of bytes")
    return int(value)


def read_body(value: str | None) -> Body:
    """BODY, RFC 6152 §3."""
    name = (value or "").upper()
    if name == "BINARYMIME":
        raise PeerError(NO_BINARYMIME)
    if name not in _BODIES:
        raise _bad("BODY is 7BIT or 8BITMIME")
    return _BODIES[name]


def read_ret(value: str | None) -> Ret:
    """RET, RFC 3461 §4.3."""
    try:
        return Ret((value or "").upper())
    except ValueError:
        raise _bad("RET is FULL or HDRS") from None


def read_envid(value: str | None) -> str:
    """ENVID, RFC 3461 §4.4, decoded."""
    if not value or len(value) > MAX_ENVID_BYTES:
        raise _bad(f"ENVID needs a value of at most {MAX_ENVID_BYTES} bytes")
    return decode_xtext(value)


def read_notify(value: str | None) -> Notify:
    """NOTIFY, RFC 3461 §4.1: NEVER, or some of the others."""
    words = (value or "").upper().split(",")
    if words == ["NEVER"]:
        return Notify.NEVER
    notify = Notify.NEVER
    for word in words:
        if word not in _NOTIFY:
            raise _bad("NOTIFY is NEVER, or any of SUCCESS, FAILURE and DELAY")
        notify |= _NOTIFY[word]
    return notify


def read_orcpt(value: str | None) -> str:
    """ORCPT, RFC 3461 §4.2: the address type as it came, a semicolon and the address decoded.

    The type `utf-8` has an encoding of its own, RFC 6533 §3.
    """
    if not value or len(value.encode()) > MAX_ORCPT_BYTES:
        raise _bad(f"ORCPT needs a value of at most {MAX_ORCPT_BYTES} bytes")
    address_type, semicolon, address = value.partition(";")
    if not semicolon or not address or not _ADDRESS_TYPE.fullmatch(address_type):
        raise _bad("ORCPT is an address type, a semicolon and an address")
    decode = _decode_utf8_address if address_type.lower() == "utf-8" else decode_xtext
    return f"{address_type};{decode(address)}"


def decode_xtext(text: str) -> str:
    """The text behind xtext. Only printable ASCII may come out: it will stand in headers (RFC 3461 §4)."""
    decoded = _octets(text)
    if not _PRINTABLE.fullmatch(decoded):
        raise _bad("The value hides characters that may not be there")
    return decoded


def decode_utf8_xtext(text: str) -> str:
    """The text behind xtext whose octets are UTF-8, as our own XFULLNAME has it; without control characters."""
    try:
        decoded = _octets(text).encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise _bad("The value is not UTF-8") from None
    if not _UNICODE.fullmatch(decoded):
        raise _bad("The value hides characters that may not be there")
    return decoded


def _octets(text: str) -> str:
    """The octets behind xtext, each as the character of that number."""
    if not _XTEXT.fullmatch(text):
        raise _bad("The value is not valid xtext")
    return _HEX.sub(lambda match: chr(int(match[1], 16)), text) if "+" in text else text


def _decode_utf8_address(text: str) -> str:
    """An address of type utf-8: characters as they are, or as `\\x{HEX}`."""
    try:
        decoded = _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), text)
    except ValueError:
        raise _bad("The value names a character that does not exist") from None
    if not _UNICODE.fullmatch(decoded):
        raise _bad("The value hides characters that may not be there")
    return decoded


def _bad(text: str) -> PeerError:
    return PeerError(BAD_ARGUMENTS.with_text(text))
