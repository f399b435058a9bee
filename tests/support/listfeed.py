"""A feed that gives out a list of transactions and keeps what became of them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from masqmail.delivery.job import Content, Transaction
from masqmail.delivery.parallel import Speed
from masqmail.mail.address import parse_mailbox
from masqmail.mail.envelope import Envelope, Recipient
from masqmail.mail.outcome import Outcome


def transaction(
    name: str, *recipients: str, text: bytes = b"Hello\r\n", sender: str = "ann@home.test", body: Path | None = None
) -> Transaction:
    """A small message, known by its name."""
    header = f"Subject: {name}\r\n".encode()
    envelope = Envelope(
        parse_mailbox(sender), tuple(Recipient(parse_mailbox(who)) for who in recipients or ("bob@far.test",))
    )
    size = len(header) + 2 + (body.stat().st_size if body else len(text))
    return Transaction(name, envelope, Content(header, body or text), size)


class ListFeed:
    """Gives out its list, then `more` when somebody waits; checks the order of the calls."""

    def __init__(self, *transactions: Transaction, more: Sequence[Transaction] = ()) -> None:
        self.waiting = list(transactions)
        self.more = list(more)
        self.begun: list[str] = []
        self.taken: list[str] = []
        self.outcomes: dict[str, tuple[Outcome, ...]] = {}
        self.speeds: list[Speed] = []
        self.round_trips: list[float] = []
        self.is_dismissed = False
        self.known_speed: Speed | None = None
        self.settled = anyio.Event()  # by the first outcome

    async def take(self, *, max_transactions: int, max_bytes: int) -> Sequence[Transaction]:
        assert max_transactions > 0 and max_bytes > 0
        given, self.waiting = self.waiting[:max_transactions], self.waiting[max_transactions:]
        self.taken += [one.queue_id for one in given]
        return given

    async def wait(self, timeout_seconds: float) -> bool:
        self.waiting, self.more = self.waiting + self.more, []
        return bool(self.waiting)

    async def begin(self, transactions: Sequence[Transaction]) -> None:
        await anyio.sleep(0)
        assert not {one.queue_id for one in transactions} & self.outcomes.keys(), "begun after it was settled"
        self.begun += [one.queue_id for one in transactions]

    def settle(self, transaction: Transaction, outcomes: Sequence[Outcome]) -> None:
        assert transaction.queue_id in self.taken and transaction.queue_id not in self.outcomes
        assert len(outcomes) == len(transaction.envelope.recipients)
        self.outcomes[transaction.queue_id] = tuple(outcomes)
        self.settled.set()

    def watch(self, hear: Callable[[], None] | None) -> None:
        pass

    def note_speed(self, speed: Speed) -> None:
        self.speeds.append(speed)

    def note_round_trip(self, seconds: float) -> None:
        self.round_trips.append(seconds)

    async def is_wanted(self) -> bool:
        return not self.is_dismissed

    def the_outcome(self, queue_id: str = "one") -> Outcome:
        (outcome,) = self.outcomes[queue_id]
        return outcome
