"""What a verb means, whatever stores it: shared by `sqlite` and `memory`.

Pure: the lines of history that a change leaves, the state that a record leads to, what a selection selects.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from masqmail.mail.address import AddressError, Mailbox, parse_mailbox, show_path
from masqmail.routing.pattern import matches
from masqmail.settings import Pattern
from masqmail.spool.api import (
    HistoryEntry,
    NewMessage,
    NewRecipient,
    QueuedMessage,
    Record,
    Selection,
    StoredMessage,
    StoredRecipient,
    TargetKind,
)
from masqmail.spool.states import MOVES, State

#: The reason of a recipient whose transaction may have been completed without our knowing, RFC 1047.
IN_DOUBT = "may arrive twice: we were cut off while sending"

_EVENTS = {
    State.DELIVERED: "delivered",
    State.FAILED: "failed",
    State.DEFERRED: "deferred",
    State.QUEUED: "returned",
    State.HELD: "held",
}


def message_size(message: NewMessage) -> int:
    """The octets of the message as sent: header, CRLF, body."""
    body = message.body
    return len(message.header) + 2 + (len(body) if isinstance(body, bytes) else body.size_bytes)


def stored_message(key: int, message: NewMessage, body: bytes) -> StoredMessage:
    """A message as it is when it was accepted."""
    return StoredMessage(
        key=key,
        queue_id=message.queue_id,
        reverse_path=message.reverse_path,
        header=message.header,
        body=body,
        size_bytes=message_size(message),
        received_at=message.received_at,
        received_from=message.received_from,
        protocol=message.protocol,
        owner_uid=message.owner_uid,
        ret=message.ret,
        envid=message.envid,
        declared_body=message.declared_body,
        smtputf8=message.smtputf8,
        kind=message.kind,
        priority=message.priority,
    )


def stored_recipient(id: int, recipient: NewRecipient) -> StoredRecipient:
    """A recipient as it is when it was accepted."""
    return StoredRecipient(
        id=id,
        target=recipient.target,
        original=recipient.original,
        kind=recipient.kind,
        route_class=recipient.route_class,
        domain=recipient.domain,
        source=recipient.source,
        notify=recipient.notify,
        orcpt=recipient.orcpt,
        reported=recipient.reported,
        state=recipient.state,
        attempts=0,
        age=timedelta(0),
        warned=0,
        due=None,
        last_attempt_at=None,
        last_status=recipient.status,
        last_route="",
        reason=recipient.reason,
    )


def received_text(message: NewMessage, size_bytes: int) -> str:
    """What the history says when a message is accepted: its line "received"."""
    return f"{size_bytes} bytes from {show_path(message.reverse_path)}, handed in by {message.received_from}"


def unqueued_entries(message: NewMessage) -> Iterator[HistoryEntry]:
    """The history of recipients that do not simply wait when their message is accepted; behind "received"."""
    for recipient in message.recipients:
        if recipient.state is not State.QUEUED:
            yield HistoryEntry(
                message.received_at,
                message.queue_id,
                _EVENTS[recipient.state],
                recipient.target,
                status=str(recipient.status or ""),
                text=recipient.reason,
            )


def new_children(
    children: Sequence[NewRecipient], there: Iterable[tuple[TargetKind, str]], held: str | None
) -> list[NewRecipient]:
    """Those children that the message has no copy for yet; held ones when the recipient they stand for was."""
    seen = {_copy_key(kind, target) for kind, target in there}
    new = []
    for child in children:
        key = _copy_key(child.kind, child.target)
        if key not in seen:
            seen.add(key)
            is_held = held is not None and child.state is State.QUEUED
            new.append(child._replace(state=State.HELD, reason=held or "") if is_held else child)
    return new


def _copy_key(kind: TargetKind, target: str) -> tuple[TargetKind, str]:
    """The same for a user and his mailbox: one copy is enough."""
    return (TargetKind.MAILBOX if kind is TargetKind.USER else kind, target)


def forwarded_entries(
    queue_id: str, target: str, text: str, children: Sequence[NewRecipient], now: datetime
) -> list[HistoryEntry]:
    """The history of a recipient in whose stead others get the message."""
    failed = [child for child in children if child.state is State.FAILED]
    return [
        HistoryEntry(now, queue_id, "forwarded", target, text=text),
        *(
            HistoryEntry(now, queue_id, "failed", child.target, status=str(child.status or ""), text=child.reason)
            for child in failed
        ),
    ]


def is_allowed(old: State, new: State) -> bool:
    """Whether a record may do this: end a lease, or a hold. One that comes too late is passed over."""
    return old in (State.LEASED, State.HELD) and new in MOVES[old]


def settled(record: Record, held: str | None) -> tuple[State, str]:
    """State and reason after a record, when the recipient was held (with that reason) while it was leased."""
    if held is not None and record.state.is_waiting:
        return State.HELD, held
    return record.state, record.reason


def recorded_entry(record: Record, queue_id: str, target: str, old_reason: str, now: datetime) -> HistoryEntry | None:
    """The history of a record; one that only gives a recipient back leaves a line when its reason is new."""
    if record.state is State.QUEUED and record.reason == old_reason:
        return None
    attempt = record.attempt
    return HistoryEntry(
        attempt.at if attempt else now,
        queue_id,
        _EVENTS[record.state],
        target,
        attempt.route if attempt else "",
        attempt.remote_host if attempt else "",
        str(record.status or ""),
        record.reason,
    )


def is_selected(selection: Selection, item: QueuedMessage) -> bool:
    """Whether a message is meant by everything but the queue IDs of a selection."""
    message = item.message
    if selection.owner_uid is not None and message.owner_uid != selection.owner_uid:
        return False
    if selection.received_before is not None and message.received_at >= selection.received_before:
        return False
    if selection.sender and not matches(Pattern(selection.sender), message.reverse_path):
        return False
    if not selection.recipient and not selection.route:
        return True
    return any(_is_meant(selection, recipient) for recipient in item.recipients)


def _is_meant(selection: Selection, recipient: StoredRecipient) -> bool:
    """Whether one recipient, that has not ended, fits both the address and the route."""
    if recipient.state.is_ended or (selection.route and selection.route not in recipient.route_class.routes):
        return False
    pattern = Pattern(selection.recipient)
    return not pattern or any(
        mailbox is not None and matches(pattern, mailbox)
        for mailbox in (_mailbox(recipient.target), _mailbox(recipient.original))
    )


def _mailbox(text: str) -> Mailbox | None:
    try:
        return parse_mailbox(text)
    except AddressError:
        return None
