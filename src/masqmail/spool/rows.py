"""How values are written into rows of the queue file and read out of them."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Body, Notify, Ret
from masqmail.mail.status import Status
from masqmail.routing.route import RouteClass
from masqmail.spool.api import (
    HistoryEntry,
    Kind,
    NewMessage,
    NewRecipient,
    StoredMessage,
    StoredRecipient,
    TargetKind,
)
from masqmail.spool.states import State

Row = tuple[Any, ...]

#: A recipient's ID is its message's key and, in these low bits, its position; the SQL knows the number as well.
POSITION_BITS = 20
MAX_RECIPIENTS = 1 << POSITION_BITS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_RET = {item.value: item for item in Ret}
_BODY = {item.value: item for item in Body}
_KIND = {item.value: item for item in Kind}
TARGET_KIND = {item.value: item for item in TargetKind}
STATE = {item.value: item for item in State}


def stamp(instant: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (instant - _EPOCH) // _MICROSECOND


def instant(stamp: int) -> datetime:
    """The reverse of `stamp`."""
    return _EPOCH + timedelta(microseconds=stamp)


def optional_stamp(when: datetime | None) -> int | None:
    return None if when is None else stamp(when)


def optional_instant(when: int | None) -> datetime | None:
    return None if when is None else instant(when)


def storable(text: str) -> str:
    """Text for people as UTF-8 can hold it: names of files and words of other hosts may be broken."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def message_key(recipient_id: int) -> int:
    """The key of the message that a recipient belongs to."""
    return recipient_id >> POSITION_BITS


def id_range(key: int) -> tuple[int, int]:
    """The first and last ID that recipients of a message can have."""
    first = key << POSITION_BITS
    return first, first + MAX_RECIPIENTS - 1


def id_list(ids: Iterable[int]) -> str:
    """Numbers for a statement that is about all of them: it reads them with `json_each`."""
    return json.dumps(list(ids))


def write_message(key: int, message: NewMessage, size_bytes: int, received_at: int) -> Row:
    """A row of `message`, in the order of its columns. `_value_` is what `value` looks up, in a fifth of the time."""
    sender = message.reverse_path
    return (
        key,
        message.queue_id,
        sender and sender.local_part,
        sender and sender.domain,
        size_bytes,
        received_at,
        storable(message.received_from),
        message.protocol,
        message.owner_uid,
        message.ret and message.ret.value,
        message.envid,
        message.declared_body._value_,
        message.smtputf8,
        message.kind._value_,
        message.priority,
    )


def read_message(row: Row, other_body: Callable[[int, str], bytes | Path]) -> StoredMessage:
    """The value of a row of `message` with header and body behind it; `other_body` finds a body of None."""
    (key, queue_id, local_part, domain, size_bytes, received_at, received_from, protocol, owner_uid) = row[:9]
    (ret, envid, declared_body, smtputf8, kind, priority, header, body) = row[9:]
    return StoredMessage(
        key,
        queue_id,
        None if local_part is None else Mailbox(local_part, domain),
        header,
        other_body(key, queue_id) if body is None else body,
        size_bytes,
        instant(received_at),
        received_from,
        protocol,
        owner_uid,
        None if ret is None else _RET[ret],
        envid,
        _BODY[declared_body],
        bool(smtputf8),
        _KIND[kind],
        priority,
    )


def write_recipient(id: int, class_number: int, touched: int, base: float, recipient: NewRecipient) -> Row:
    """The values for `add_recipient`."""
    return (
        id,
        class_number,
        recipient.state._value_,
        touched,
        base,
        recipient.target,
        recipient.original,
        recipient.kind._value_,
        recipient.domain,
        recipient.source,
        None if recipient.notify is None else recipient.notify.value,
        recipient.orcpt,
        recipient.reported,
        *write_status(recipient.status),
        recipient.reason and storable(recipient.reason),
    )


def read_recipient(
    row: Row, class_of: Callable[[int], RouteClass], usable_seconds: Callable[[int], float]
) -> StoredRecipient:
    """The value of a whole row of `recipient`."""
    (id, class_number, state, due, _, base, target, original, kind, domain, source, notify, orcpt, reported) = row[
        :14
    ]
    (attempts, warned, last_attempt_at, code, enhanced, text, last_route, reason) = row[14:]
    return StoredRecipient(
        id,
        target,
        original,
        TARGET_KIND[kind],
        class_of(class_number),
        domain,
        source,
        None if notify is None else Notify(notify),
        orcpt,
        bool(reported),
        STATE[state],
        attempts,
        timedelta(seconds=usable_seconds(class_number) - base),
        warned,
        optional_instant(due),
        optional_instant(last_attempt_at),
        None if code is None else Status(code, enhanced, text),
        last_route,
        reason,
    )


def write_status(status: Status | None) -> tuple[int | None, str | None, str | None]:
    """Three columns for a status."""
    return (None, None, None) if status is None else (status.code, status.enhanced, storable(status.text))


def write_class(route_class: RouteClass) -> str:
    """A class as JSON, always the same for the same value."""
    return json.dumps(
        {
            "routes": route_class.routes,
            "tried": sorted(route_class.tried),
            "mark": route_class.mark,
            "generation": route_class.generation,
        }
    )


def read_class(text: str) -> RouteClass:
    """The reverse of `write_class`."""
    value = json.loads(text)
    return RouteClass(tuple(value["routes"]), frozenset(value["tried"]), value["mark"], value["generation"])


def write_entry(number: int, entry: HistoryEntry) -> Row:
    """A row of `history`."""
    recipient, remote_host, status, text = entry.recipient, entry.remote_host, entry.status, entry.text
    if not (recipient + remote_host + status + text).isascii():
        recipient, remote_host, status, text = map(storable, (recipient, remote_host, status, text))
    return (
        number,
        stamp(entry.at),
        entry.queue_id,
        entry.event,
        recipient,
        entry.route,
        remote_host,
        status,
        text,
    )


def read_entry(row: Row) -> HistoryEntry:
    """The value of a row of `history` without its number."""
    return HistoryEntry(instant(row[0]), *row[1:])
