"""The message that a report is about."""

from datetime import datetime

from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox
from masqmail.mail.dsn import Action
from masqmail.mail.envelope import Envelope, Ret
from masqmail.mail.trace import read_client
from masqmail.spool.api import Kind, StoredMessage
from masqmail.spool.intake import HeaderFacts

#: A failed message up to this size goes back whole unless its sender asked for the header alone.
MAX_RETURNED_BYTES = 50_000
#: With RET=FULL it may be that big.
MAX_RETURNED_ON_REQUEST_BYTES = 2_000_000

#: What no report returns a body for: asks for the subject of one that must not have it.
WITHOUT_BODY = Action.DELAYED


@frozen
class Subject:
    """The message a report is about. `body` is there when it is short enough to be returned."""

    queue_id: str
    reverse_path: Mailbox | None
    envid: str
    ret: Ret | None
    smtputf8: bool
    kind: Kind
    arrived_at: datetime
    header: bytes
    body: bytes | None = None
    received_host: str = ""
    ident: str = ""
    received_from: str = ""

    @classmethod
    def of_new(cls, envelope: Envelope, facts: HeaderFacts, action: Action) -> "Subject":
        """A message that is being accepted, with its body where the report returns it."""
        return cls(
            facts.queue_id,
            envelope.reverse_path,
            envelope.envid,
            envelope.ret,
            envelope.smtputf8,
            facts.kind,
            facts.received_at,
            facts.header,
            facts.read_body() if _returns_all(action, facts.kind, envelope.ret, facts.size_bytes) else None,
            *read_client(facts.origin.protocol, facts.origin.description),
            facts.origin.description,
        )

    @classmethod
    def of_stored(cls, message: StoredMessage, action: Action) -> "Subject":
        """A message in the queue, with its body where the report returns it."""
        return cls(
            message.queue_id,
            message.reverse_path,
            message.envid,
            message.ret,
            message.smtputf8,
            message.kind,
            message.received_at,
            message.header,
            b"".join(message.body_chunks())
            if _returns_all(action, message.kind, message.ret, message.size_bytes)
            else None,
            *read_client(message.protocol, message.received_from),
            message.received_from,
        )


def _returns_all(action: Action, kind: Kind, ret: Ret | None, size_bytes: int) -> bool:
    """RFC 3461 §4.3: RET is about failures; without it the choice is ours. Of fetched mail nobody else has a copy."""
    if action is Action.FAILED and kind is Kind.FETCHED:
        return True
    if action is not Action.FAILED or ret is Ret.HDRS:
        return False
    return size_bytes <= (MAX_RETURNED_BYTES if ret is None else MAX_RETURNED_ON_REQUEST_BYTES)
