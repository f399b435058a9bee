"""The messages between the daemon and its privileged parent: one packet each, over a socket pair.

A request is a number, a verb and a payload, with file descriptors beside it; a reply is the request's number
and a payload. The daemon is not trusted: whatever it sends is read here or refused with `WireError`, and every
part has a bound.
"""

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from masqmail.delivery.job import LocalJob
from masqmail.delivery.variables import NAMES, Variables
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, Outcome
from masqmail.mail.status import Status
from masqmail.spool.api import TargetKind

MAX_PACKET_BYTES = 32768
MAX_DESCRIPTORS = 2  # of a request: header section and small body, big body
MAX_REPLY_DESCRIPTORS = 16  # one name may have many addresses to listen at
MAX_TEXT_CHARACTERS = 4096
MAX_REASON_CHARACTERS = 1000

_REQUEST = struct.Struct("!QB")
_REPLY = struct.Struct("!Q")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


class WireError(Exception):
    """The other side sent what it never should; the message says what."""


class Verb(IntEnum):
    """What the daemon may ask for."""

    DELIVER = 1  # a job, and its content as descriptors
    LISTEN = 2  # an address of the configuration; answered with sockets
    OPEN = 3  # a secret file of the configuration; answered with a descriptor


@dataclass(frozen=True, slots=True)
class Request:
    """One packet of the daemon."""

    number: int
    verb: Verb
    payload: bytes


def pack_request(request: Request) -> bytes:
    return _REQUEST.pack(request.number, request.verb) + request.payload


def unpack_request(packet: bytes) -> Request:
    try:
        number, verb = _REQUEST.unpack_from(packet)
        return Request(number, Verb(verb), packet[_REQUEST.size :])
    except (struct.error, ValueError) as error:
        raise WireError("a packet that is no request") from error


def pack_reply(number: int, payload: bytes) -> bytes:
    return _REPLY.pack(number) + payload


def unpack_reply(packet: bytes) -> tuple[int, bytes]:
    try:
        return _REPLY.unpack_from(packet)[0], packet[_REPLY.size :]
    except struct.error as error:
        raise WireError("a packet that is no reply") from error


def encode_job(job: LocalJob) -> bytes:
    return _encode({**asdict(job), "kind": job.kind.value})


def decode_job(payload: bytes) -> LocalJob:
    """The job that the daemon asks for. It has the right form; whether it may be done is another question."""
    values = _decode(payload)
    try:
        given = values["variables"]
        variables = Variables(**{name: _text(given, name) for name in NAMES})
        return LocalJob(
            TargetKind(values["kind"]),
            _text(values, "target"),
            _text(values, "identity"),
            variables,
            _text(values, "source"),
            bool(values["is_first"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"a delivery that cannot be read: {error!r}") from error


def encode_outcome(outcome: Outcome) -> bytes:
    match outcome:
        case Delivered(status, reason=reason):
            return _encode_verdict("delivered", status, reason)
        case Deferred(status, culprit, reason):
            return _encode_verdict("deferred", status, reason, culprit)
        case Failed(status, culprit, reason):
            return _encode_verdict("failed", status, reason, culprit)
        case _:
            raise TypeError(f"{outcome!r} is no outcome of a local delivery")


def decode_outcome(payload: bytes) -> Outcome:
    values = _decode(payload)
    try:
        status = Status(int(values["code"]), _text(values, "enhanced"), _text(values, "text"))
        reason = _text(values, "reason")
        if values["outcome"] == "delivered":
            return Delivered(status, handover=Handover.MAILBOX, reason=reason)
        verdict: type[Deferred | Failed] = {"deferred": Deferred, "failed": Failed}[values["outcome"]]
        return verdict(status, Culprit(values["culprit"]), reason)
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"an outcome that cannot be read: {error!r}") from error


def encode_fault(text: str) -> bytes:
    """The payload of a reply to LISTEN or OPEN: what went wrong, or nothing."""
    return text.encode("utf-8", "replace")[:MAX_REASON_CHARACTERS]


def _encode_verdict(word: str, status: Status, reason: str, culprit: Culprit | None = None) -> bytes:
    return _encode(
        {
            "outcome": word,
            "code": status.code,
            "enhanced": status.enhanced,
            "text": _plain(status.text),
            "reason": _plain(reason),
            "culprit": culprit.value if culprit else "",
        }
    )


def _plain(text: str) -> str:
    return _CONTROL.sub(" ", text)[:MAX_REASON_CHARACTERS]


def _encode(values: Mapping[str, object]) -> bytes:
    return json.dumps(values).encode()


def _decode(payload: bytes) -> dict[str, Any]:
    try:
        values = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise WireError("a payload that cannot be read") from error
    if not isinstance(values, dict):
        raise WireError("a payload that is no object")
    return values


def _text(values: Mapping[str, object], key: str) -> str:
    value = values[key]
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARACTERS or _CONTROL.search(value):
        raise ValueError(f"{key} is no short plain text")
    return value
