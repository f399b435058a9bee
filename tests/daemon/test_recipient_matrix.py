"""Each answer at each phase, for few recipients and many, with the real daemon: who gets what, and what people read.

In the first round the server answers as the table says, in the second it takes everything.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from masqmail.routing.link import LinkState
from masqmail.spool.api import HistoryEntry
from masqmail.spool.states import State
from support.inprocess import House, Tenant
from support.mail import message
from support.scripted_server import ALL_KEYWORDS, DROP, TAKE_AND_DROP, ScriptedServer, listening

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PLAIN = ("SIZE 50000000", "ENHANCEDSTATUSCODES")
PIPELINED = (*PLAIN, "PIPELINING")

TEMPORARY, PERMANENT = "451 4.3.0 try later", "554 5.7.1 we do not want it"
QUEUED, DEFERRED, FAILED, DELIVERED = State.QUEUED, State.DEFERRED, State.FAILED, State.DELIVERED


@dataclass
class Provider:
    """Answers one step as the table says until it is healed. At RCPT it is about every third recipient."""

    step: str
    answer: str
    keywords: tuple[str, ...]
    is_healed: bool = False
    servers: list[ScriptedServer] = field(default_factory=list)

    def make(self) -> ScriptedServer:
        self.servers.append(ScriptedServer(keywords=self.keywords, policy=self._judge))
        return self.servers[-1]

    def _judge(self, step: str, subject: str) -> str | None:
        if self.is_healed or step != self.step or (step == "RCPT" and not is_concerned(subject)):
            return None
        return self.answer

    def count(self) -> Counter[str]:
        """How often each recipient got the message."""
        return Counter(who for server in self.servers for taken in server.taken for who in taken.recipients)


def is_concerned(address: str) -> bool:
    return int(address.partition("@")[0].removeprefix("r")) % 3 == 1


def addresses(count: int) -> list[str]:
    return [f"r{number}@example.net" for number in range(count)]


def row(
    step: str, answer: str, concerned: State, others: State, reason: str, *keywords: tuple[str, ...]
) -> list[object]:
    return [
        pytest.param(step, answer, concerned, others, reason, offered, id=f"{step} {answer[:9]} {len(offered)}")
        for offered in keywords or (PLAIN, PIPELINED, ALL_KEYWORDS)
    ]


MATRIX = [
    *row("NOTHING", "250 fine", DELIVERED, DELIVERED, ""),
    *row("MAIL", TEMPORARY, DEFERRED, DEFERRED, "refused the sender: 451 4.3.0 try later"),
    *row("MAIL", PERMANENT, FAILED, FAILED, "refused the sender: 554 5.7.1 we do not want it"),
    *row("RCPT", TEMPORARY, DEFERRED, DELIVERED, "refused the recipient: 451 4.3.0 try later"),
    *row("RCPT", PERMANENT, FAILED, DELIVERED, "refused the recipient: 554 5.7.1 we do not want it"),
    *row("DATA", TEMPORARY, DEFERRED, DEFERRED, "refused the message: 451 4.3.0 try later", PLAIN, PIPELINED),
    *row("DATA", PERMANENT, FAILED, FAILED, "refused the message: 554 5.7.1 we do not want it", PLAIN, PIPELINED),
    *row("CONTENT", TEMPORARY, DEFERRED, DEFERRED, "refused the message: 451 4.3.0 try later"),
    *row("CONTENT", PERMANENT, FAILED, FAILED, "refused the message: 554 5.7.1 we do not want it"),
    *row("CONNECT", DROP, QUEUED, QUEUED, "closed the connection"),
    *row("CONNECT", "554 5.3.2 not now", QUEUED, QUEUED, "554 5.3.2 not now"),
    *row("EHLO", DROP, QUEUED, QUEUED, "closed the connection"),
    *row("MAIL", DROP, QUEUED, QUEUED, "closed the connection", PLAIN, PIPELINED),
    *row("RCPT", DROP, QUEUED, QUEUED, "closed the connection", PLAIN, PIPELINED),
    *row("DATA", DROP, QUEUED, QUEUED, "closed the connection", PLAIN, PIPELINED),
    *row("CONTENT", DROP, DEFERRED, DEFERRED, "may arrive twice"),
    *row("CONTENT", TAKE_AND_DROP, DEFERRED, DEFERRED, "may arrive twice"),
]


@pytest.mark.parametrize("count", [2, 50])
@pytest.mark.parametrize(("step", "answer", "concerned", "others", "reason", "keywords"), MATRIX)
async def test_each_recipient_ends_where_it_must(
    step: str,
    answer: str,
    concerned: State,
    others: State,
    reason: str,
    keywords: tuple[str, ...],
    count: int,
    tmp_path: Path,
) -> None:
    provider = Provider(step, answer, keywords)
    expected = {who: concerned if is_concerned(who) else others for who in addresses(count)}
    async with listening(provider.make) as listener:
        house = House(tmp_path, listener.address)
        async with house.daemon() as tenant:
            await tenant.submit(addresses(count), message("m1"))
            await tenant.daemon.manual_links.declare("line", LinkState.UP)
            found = await first_round(tenant, expected)
            for who in filter(is_concerned, expected):
                assert reason in found[who].text
                assert len(found[who].text) < 200
            provider.is_healed = True
            await tenant.advance(timedelta(hours=1), timedelta(minutes=10))
            await tenant.until(lambda queue: not queue)
        failed = {who for who, state in expected.items() if state is FAILED}
        copies = 2 if answer == TAKE_AND_DROP else 1
        assert provider.count() == dict.fromkeys(expected.keys() - failed, copies)
        reports = house.mailbox()
        assert len(reports) == bool(failed)
        assert all(who.encode() in reports[0] for who in failed)


async def first_round(tenant: Tenant, expected: dict[str, State]) -> dict[str, HistoryEntry]:
    """Waits until everything was tried once, compares the states, and returns what happened last to each."""
    waiting = {who: state for who, state in expected.items() if state in (QUEUED, DEFERRED)}
    if waiting:
        await tenant.until(
            lambda queue: all(queue[who].state is state and queue[who].reason for who, state in waiting.items())
        )
        for who, shown in (await tenant.reasons()).items():
            assert shown, who
    else:
        await tenant.until(lambda queue: not set(queue) & set(expected))
    history = {entry.recipient: entry for entry in await tenant.daemon.spool.history(limit=1000)}
    ended = {who: entry.event for who, entry in history.items() if who in expected and expected[who].is_ended}
    assert ended == {who: state.value for who, state in expected.items() if state.is_ended}
    queue = await tenant.recipients()
    for who, state in waiting.items():
        assert queue[who].attempts == (state is DEFERRED)
    return history
