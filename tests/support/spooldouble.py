"""A spool that only receives: what the intake and the pickup folder need of one, in memory."""

import asyncio
from collections.abc import Sequence
from typing import Any

from masqmail.mail.envelope import Envelope
from masqmail.routing.route import LOCAL_ROUTE, RouteClass
from masqmail.spool.api import NewMessage, NewRecipient, SpoolFull, TargetKind, Tell
from masqmail.spool.intake import HeaderFacts, Resolution


class Body:
    """A body in memory; full after `capacity` bytes."""

    def __init__(self, capacity: int) -> None:
        self.content = bytearray()
        self.is_discarded = False
        self._capacity = capacity

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def write(self, data: bytes) -> None:
        if len(self.content) + len(data) > self._capacity:
            raise SpoolFull
        self.content += data

    def read(self) -> bytes:
        return bytes(self.content)

    def discard(self) -> None:
        self.is_discarded = True


class SpoolDouble:
    """Keeps what it accepts in `messages`. `failure` is what the next `accept_and_tell` tells."""

    def __init__(self, capacity: int = 1 << 40) -> None:
        self.messages: list[NewMessage] = []
        self.bodies: list[Body] = []
        self.forgotten: set[str] = set()  # queue IDs that have only a history left
        self.failure: Exception | None = None
        self._capacity = capacity

    def new_body(self) -> Body:
        self.bodies.append(Body(self._capacity))
        return self.bodies[-1]

    def has_room(self, size_bytes: int) -> bool:
        return size_bytes <= self._capacity

    def accept_and_tell(self, messages: Sequence[NewMessage], tell: Tell) -> None:
        if self.failure is None:
            self.messages += messages
        asyncio.get_running_loop().call_soon(tell, self.failure)

    async def find(self, queue_id: str, *, with_body: bool = True) -> NewMessage | None:
        return next((message for message in self.messages if message.queue_id == queue_id), None)

    async def history(self, queue_id: str = "", *, limit: int = 200) -> Sequence[Any]:
        return ["received"] if queue_id in self.forgotten else []


def content_of(message: NewMessage) -> bytes:
    """The message as it would be sent."""
    body = message.body
    return message.header + b"\r\n" + (bytes(body.content) if isinstance(body, Body) else bytes(body))


def resolve_all(envelope: Envelope, facts: HeaderFacts) -> Resolution:
    """Every recipient is a local mailbox."""
    return Resolution(
        [
            NewRecipient(
                target=str(recipient.mailbox),
                original=str(recipient.mailbox),
                kind=TargetKind.MAILBOX,
                route_class=RouteClass((LOCAL_ROUTE,)),
                notify=recipient.notify,
            )
            for recipient in envelope.recipients
        ]
    )
