"""A process that works on a spool until it is killed: `python worker.py FOLDER SEED`.

Prints what it is about to do and what was acknowledged, one line each, for `test_durability`:
`accept ID RECIPIENTS SIZE`, `accepted ID`, `record ID N STATE`, `recorded ID N STATE`, `begun ID N`.
"""

import asyncio
import os
import random
import sys
from datetime import UTC, datetime
from pathlib import Path

from masqmail.routing.route import RouteClass
from masqmail.spool.api import (
    FetchFate,
    FetchMark,
    Lease,
    NewMessage,
    NewRecipient,
    Record,
    Spool,
    TargetKind,
    Uid,
)
from masqmail.spool.sqlite import SqliteSpool
from masqmail.spool.states import State

CLASSES = [RouteClass(("gmx",)), RouteClass(("backup",))]
OUTCOMES = [State.DELIVERED] * 6 + [State.FAILED, State.DEFERRED, State.QUEUED]
ACCOUNT = "isp"  # whose marks all messages but the reports have
SIZES = [0, 100, 4000, 40_000, 90_000, 300_000]


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def content(queue_id: str, size: int) -> bytes:
    return (queue_id.encode() * (size // len(queue_id) + 1))[:size]


def new_message(spool: Spool, queue_id: str, recipients: int, size: int, mark: FetchMark | None = None) -> NewMessage:
    body = spool.new_body()
    data = content(queue_id, size)
    for start in range(0, size, 50_000):
        body.write(data[start : start + 50_000])
    targets = [
        NewRecipient(str(n), str(n), TargetKind.REMOTE, CLASSES[n % 2], domain="example.org")
        for n in range(recipients)
    ]
    now = datetime.now(UTC)
    return NewMessage(queue_id, None, targets, b"Subject: x\r\n", body, now, "the test", fetched=mark)


async def submit(spool: Spool, rng: random.Random, prefix: str) -> None:
    for number in range(10_000):
        queue_id, recipients, size = f"{prefix}{number}", rng.randint(1, 3), rng.choice(SIZES)
        say("accept", queue_id, recipients, size)
        mark = FetchMark(ACCOUNT, Uid("", queue_id), FetchFate.TAKEN, datetime.now(UTC), size)
        await spool.accept([new_message(spool, queue_id, recipients, size, mark)])
        say("accepted", queue_id)


async def send(spool: Spool, rng: random.Random) -> None:
    while True:
        leases = await spool.lease("worker", CLASSES, now=datetime.now(UTC), max_messages=rng.randint(1, 8))
        await spool.begin([item.id for lease in leases for item in lease.recipients])
        for lease in leases:
            body = b"".join(lease.message.body_chunks())
            if not lease.message.queue_id.startswith("r-"):
                assert body == content(lease.message.queue_id, len(body))
            assert len(body) == lease.message.size_bytes - len(lease.message.header) - 2
            for item in lease.recipients:
                say("begun", lease.message.queue_id, item.target)
        for lease in leases:
            await record(spool, rng, lease)
        await asyncio.sleep(0)


async def record(spool: Spool, rng: random.Random, lease: Lease) -> None:
    records, reports, words = [], [], []
    for item in lease.recipients:
        is_report = lease.message.queue_id.startswith("r-")
        state = State.DELIVERED if is_report else rng.choice(OUTCOMES)
        records.append(Record(item.id, state, state.value, rng.choice(CLASSES), due=datetime.now(UTC)))
        words.append((lease.message.queue_id, item.target, state.value))
        if state is State.FAILED:
            reports.append(new_message(spool, f"r-{lease.message.queue_id}-{item.target}", 1, 100))
    for line in words:
        say("record", *line)
    await spool.record(records, reports)
    for line in words:
        say("recorded", *line)


async def main(folder: Path, seed: str) -> None:
    rng = random.Random(seed)
    spool = await SqliteSpool.open(folder)
    await spool.recover(datetime.now(UTC))
    say("ready")
    async with asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(submit(spool, rng, f"s{seed}-{number}-"))
        for _ in range(2):
            tasks.create_task(send(spool, rng))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
