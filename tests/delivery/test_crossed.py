"""Twenty thousand transactions over pipelined connections to a moody server: nobody gets another's reply.

The server refuses senders, recipients and contents at random, says 421 or hangs up in the middle of a window, and
cuts its replies in pieces. Each reply names its sender or recipient, so that a crossed one shows.
"""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from masqmail.delivery.connect import Memory, Options
from masqmail.delivery.job import Transaction
from masqmail.delivery.smtp import send
from masqmail.mail.outcome import Deferred, Delivered, NotTried, Outcome
from masqmail.net.session import TlsMode
from masqmail.settings import HostPort
from support.listfeed import ListFeed, transaction

TRANSACTIONS = 10_000  # for each of the two ways of sending content
OPTIONS = Options("laptop.test", tls=TlsMode.NONE, linger=timedelta(0))
REFUSALS = ("450 4.2.0", "451 4.3.0", "550 5.1.1", "554 5.6.0", "452 4.2.2", "550")


@dataclass
class Ledger:
    """What the servers know: what they said last to each sender and recipient, and what they took."""

    chance: random.Random
    transactions: int = 0
    said: dict[str, str] = field(default_factory=dict)
    taken: dict[str, set[str]] = field(default_factory=dict)


class MoodyServer(asyncio.Protocol):
    """A server in one go: as fast as we need it. Its replies to MAIL, RCPT and content name whom they are about."""

    def __init__(self, ledger: Ledger, *, chunking: bool) -> None:
        self._ledger, self._chunking = ledger, chunking
        self._inbox = b""
        self._output: list[str] = []
        self._sender = ""
        self._recipients: list[str] = []
        self._missing = -1  # octets of a chunk
        self._in_data = False
        self._is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"220 moody.test\r\n")

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        while not self._is_over and self._step():
            pass
        self._flush()

    def _step(self) -> bool:
        if self._missing >= 0:
            if len(self._inbox) < self._missing:
                return False
            content, self._inbox, self._missing = self._inbox[: self._missing], self._inbox[self._missing :], -1
            self._finish(content)
            return True
        end, length = (b"\r\n.\r\n", 5) if self._in_data else (b"\r\n", 2)
        if (at := self._inbox.find(end)) < 0:
            return False
        line, self._inbox = self._inbox[:at], self._inbox[at + length :]
        if self._in_data:
            self._in_data = False
            self._finish(line)
        else:
            self._obey(line.decode())
        return True

    def _obey(self, line: str) -> None:
        if self._ledger.chance.random() < 0.001:
            if self._ledger.chance.random() < 0.5:
                self._output.append("421 4.3.2 enough for now")
            self._is_over = True
            return
        match line.split(" ")[0]:
            case "EHLO":
                keywords = ["CHUNKING", "PIPELINING"] if self._chunking else ["PIPELINING"]
                self._output += ["250-moody.test", *(f"250-{word}" for word in keywords), "250 SIZE"]
            case "MAIL":
                self._mail(line[11 : line.index(">")])
            case "RCPT":
                self._rcpt(line[9 : line.index(">")])
            case "DATA":
                self._in_data = bool(self._recipients)
                self._output.append("354 go on" if self._recipients else "503 5.5.1 nobody to send it to")
            case "BDAT":
                self._missing = int(line.split(" ")[1])
            case "RSET":
                self._sender, self._recipients = "", []
                self._output.append("250 reset")
            case "QUIT":
                self._output.append("221 bye")
                self._is_over = True

    def _mail(self, sender: str) -> None:
        assert not self._sender, "a MAIL fell into an open transaction"
        self._ledger.transactions += 1
        if self._judge(sender, 0.1):
            self._sender, self._recipients = sender, []

    def _rcpt(self, recipient: str) -> None:
        if not self._sender:
            self._output.append("503 5.5.1 MAIL first")
        elif self._judge(recipient, 0.3):
            self._recipients.append(recipient)

    def _finish(self, content: bytes) -> None:
        if not self._recipients:
            self._output.append("503 5.5.1 nobody to send it to")  # the transaction stays open
            return
        name = self._sender.partition("@")[0]
        assert content.startswith(f"Subject: {name}\r\n".encode()), "another message's content"
        if self._judge(self._sender, 0.1):
            self._ledger.taken.setdefault(name, set()).update(self._recipients)
            if self._ledger.chance.random() < 0.002:  # hangs up before it has said so
                self._output.pop()
                self._is_over = True
        self._sender, self._recipients = "", []

    def _judge(self, subject: str, share_of_refusals: float) -> bool:
        chance = self._ledger.chance
        is_fine = chance.random() >= share_of_refusals
        code = "250 2.0.0" if is_fine else chance.choice(REFUSALS)
        reply = f"{code} <{subject}>"
        self._ledger.said[subject] = reply
        if chance.random() < 0.2:
            self._output.append(f"{reply.replace(' ', '-', 1)} is what I say this about")
        self._output.append(reply)
        return is_fine

    def _flush(self) -> None:
        data = "".join(f"{line}\r\n" for line in self._output).encode()
        self._output.clear()
        cut = self._ledger.chance.randrange(len(data) + 1)
        self._transport.write(data[:cut])
        asyncio.get_running_loop().call_soon(self._send_rest, data[cut:], self._is_over)

    def _send_rest(self, data: bytes, is_over: bool) -> None:
        self._transport.write(data)
        if is_over:
            self._transport.close()


class PersistentFeed(ListFeed):
    """Gives what could not be sent out again; checks each outcome as it comes."""

    def __init__(self, ledger: Ledger, transactions: Sequence[Transaction]) -> None:
        super().__init__()
        self.left = deque(transactions)
        self.doubts = 0
        self._ledger = ledger
        self._under_way: dict[str, Transaction] = {}

    async def take(self, *, max_transactions: int, max_bytes: int) -> Sequence[Transaction]:
        given = [self.left.popleft() for _ in range(min(max_transactions, len(self.left)))]
        self._under_way.update((one.queue_id, one) for one in given)
        return given

    async def wait(self, timeout_seconds: float) -> bool:
        return bool(self.left)

    async def begin(self, transactions: Sequence[Transaction]) -> None:
        await asyncio.sleep(0)

    def settle(self, transaction: Transaction, outcomes: Sequence[Outcome]) -> None:
        assert self._under_way.pop(transaction.queue_id) is transaction
        addresses = [str(recipient.mailbox) for recipient in transaction.envelope.recipients]
        if any(isinstance(outcome, NotTried) for outcome in outcomes):
            assert not self._ledger.taken.get(transaction.queue_id), "taken, and said not to have been tried"
            self.left.append(transaction)
            return
        if any(isinstance(outcome, Deferred) and outcome.in_doubt for outcome in outcomes):
            self.doubts += 1
            self._ledger.taken.pop(transaction.queue_id, None)
            self.left.append(transaction)
            return
        for address, outcome in zip(addresses, outcomes, strict=True):
            self._check(transaction, address, outcome)

    def _check(self, transaction: Transaction, address: str, outcome: Outcome) -> None:
        is_taken = address in self._ledger.taken.get(transaction.queue_id, set())
        assert outcome.status is not None
        if outcome.status.code == 421:  # in the middle of this transaction
            assert not is_taken
            return
        assert isinstance(outcome, Delivered) is is_taken, (address, outcome)
        sender = f"{transaction.queue_id}@home.test"
        subject = next((who for who in (address, sender) if f"<{who}>" in outcome.status.text), "nobody")
        assert subject in self._ledger.said, (address, outcome)
        assert str(outcome.status).split(" ", 1)[0] == self._ledger.said[subject].split(" ", 1)[0]


def mails() -> list[Transaction]:
    chance = random.Random(1)
    return [
        transaction(
            f"m{number}",
            *(f"r{index}.m{number}@far.test" for index in range(chance.choice((1, 1, 2, 5)))),
            sender=f"m{number}@home.test",
            text=b"Hello\r\n" * chance.randrange(1, 40),
        )
        for number in range(TRANSACTIONS)
    ]


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("chunking", [True, False], ids=["stream", "group"])
async def test_no_recipient_gets_the_reply_of_another(chunking: bool) -> None:
    ledger = Ledger(random.Random(2026))
    loop = asyncio.get_running_loop()
    faults: list[str] = []
    loop.set_exception_handler(lambda _, context: faults.append(repr(context)))
    server = await loop.create_server(lambda: MoodyServer(ledger, chunking=chunking), "127.0.0.1", 0)
    address = HostPort("127.0.0.1", server.sockets[0].getsockname()[1])
    feed = PersistentFeed(ledger, mails())
    sessions = 0
    try:
        while feed.left:
            sessions += 1
            end = await send(address, OPTIONS, feed, Memory())
            assert not faults
            assert not end.is_ok or not feed.left
    finally:
        server.close()
    assert not feed._under_way
    assert ledger.transactions >= TRANSACTIONS
    assert sessions > 10
    assert feed.doubts > 10
