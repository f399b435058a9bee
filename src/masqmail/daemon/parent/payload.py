"""Jobs and outcomes as the daemon and its privileged parent write them to each other (`wire`): JSON.

The daemon is not trusted: what makes no sense is refused with `WireError`, and every text has a bound.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, assert_never

from masqmail.daemon.parent.wire import MAX_REASON_CHARACTERS, WireError
from masqmail.delivery.forward import Forward
from masqmail.delivery.job import LocalJob
from masqmail.delivery.local import local_error
from masqmail.delivery.variables import NAMES, Variables
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, NotTried, Outcome
from masqmail.mail.status import Status
from masqmail.spool.api import TargetKind

MAX_TEXT_CHARACTERS = 4096
_MAX_FORWARD_BYTES = 32000

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


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
            bool(values["asks_forward"]),
            int(values["size_bytes"]),
            bool(values["is_8bit"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"a delivery that cannot be read: {error!r}") from error


def encode_outcome(outcome: Outcome) -> bytes:
    match outcome:
        case Delivered(status, reason=reason):
            return _encode_verdict("delivered", status, reason, handover=outcome.handover.value)
        case Deferred(status, culprit, reason):
            return _encode_verdict("deferred", status, reason, culprit=culprit.value, in_doubt=outcome.in_doubt)
        case Failed(status, culprit, reason):
            return _encode_verdict("failed", status, reason, culprit=culprit.value)
        case NotTried(culprit, reason):
            return _encode({"outcome": "not tried", "culprit": culprit.value, "reason": _plain(reason)})
        case _:
            assert_never(outcome)


def encode_result(result: Outcome | Forward) -> bytes:
    """What came of a job; a .forward that would not fit into a packet is passed over."""
    if not isinstance(result, Forward):
        return encode_outcome(result)
    encoded = _encode({"texts": result.texts, "trouble": _plain(result.trouble)})
    if len(encoded) < _MAX_FORWARD_BYTES:
        return encoded
    return encode_outcome(local_error(f"{result.texts[0][0]} has too many odd characters"))


def decode_result(payload: bytes) -> Outcome | Forward:
    """The reverse of `encode_result`."""
    values = _decode(payload)
    if "texts" not in values:
        return decode_outcome(payload)
    try:
        texts = tuple((str(path), str(text)) for path, text in values["texts"])
        return Forward(texts, _text(values, "trouble"))
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"a .forward that cannot be read: {error!r}") from error


def decode_outcome(payload: bytes) -> Outcome:
    values = _decode(payload)
    try:
        word, reason = values["outcome"], _text(values, "reason")
        if word == "not tried":
            return NotTried(Culprit(values["culprit"]), reason)
        status = Status(int(values["code"]), _text(values, "enhanced"), _text(values, "text"))
        if word == "delivered":
            return Delivered(status, handover=Handover(values["handover"]), reason=reason)
        culprit = Culprit(values["culprit"])
        if word == "deferred":
            return Deferred(status, culprit, reason, in_doubt=bool(values["in_doubt"]))
        if word == "failed":
            return Failed(status, culprit, reason)
        raise ValueError(f"{word!r} is no outcome")
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"an outcome that cannot be read: {error!r}") from error


def _encode_verdict(word: str, status: Status, reason: str, **more: str | bool) -> bytes:
    return _encode(
        {
            "outcome": word,
            "code": status.code,
            "enhanced": status.enhanced,
            "text": _plain(status.text),
            "reason": _plain(reason),
            **more,
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
