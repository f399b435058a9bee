"""How fast the queue file is on this disk: `python bench/queue_file.py [FOLDER]`.

Prints accepted messages per second at several numbers of concurrent acceptors, the CPU time each message takes, and
leases with their records per second, recorded in one call or, as the daemon does, a message at a time. The biggest
bodies are files. The folder must be on the disk in question; it is left empty.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path

from masqmail.mail.address import Mailbox
from masqmail.routing.route import RouteClass
from masqmail.spool.api import Attempt, NewMessage, NewRecipient, Record, TargetKind
from masqmail.spool.queueid import QueueIds
from masqmail.spool.sqlite import SqliteSpool
from masqmail.spool.states import State

CLASS = RouteClass(("smarthost",))
HEADER = b"Received: from client.example (client.example [192.0.2.1])\r\n" * 8
IDS = QueueIds()


def message(size_bytes: int) -> NewMessage:
    now = datetime.now(UTC)
    recipient = NewRecipient("ann@example.org", "ann@example.org", TargetKind.REMOTE, CLASS, domain="example.org")
    sender, origin = Mailbox("bob", "example.net"), "192.0.2.1 (client.example)"
    return NewMessage(IDS.new(now), sender, [recipient], HEADER, b"x" * size_bytes, now, origin, "ESMTP")


async def accept(spool: SqliteSpool, count: int, acceptors: int, size_bytes: int) -> None:
    async def one() -> None:
        for _ in range(count // acceptors):
            await spool.accept([message(size_bytes)])

    await asyncio.gather(*(one() for _ in range(acceptors)))


async def send(spool: SqliteSpool, *, singly: bool = False) -> None:
    now = datetime.now(UTC)
    while leases := await spool.lease("bench", [CLASS], now=now):
        await spool.begin([recipient.id for lease in leases for recipient in lease.recipients])
        records = []
        for lease in leases:
            for recipient in lease.recipients:
                attempt = Attempt(now, "smarthost", "mx.example.org", spent=True)
                records.append(Record(recipient.id, State.DELIVERED, "delivered", CLASS, attempt=attempt))
        if singly:
            await asyncio.gather(*(spool.record([record]) for record in records))
        else:
            await spool.record(records)


async def measure(what: str, count: int, work: Awaitable[object]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    await work
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what:32} {count / wall:8.0f}/s {cpu / count * 1e6:8.0f} us CPU each")


async def main(folder: Path) -> None:
    spool = await SqliteSpool.open(folder)
    await accept(spool, 1000, 10, 4096)  # warm up: the journal gets its size
    await send(spool)
    for size_bytes, count in ((4096, 6000), (60_000, 1000), (100_000, 1000), (200_000, 1000)):
        for acceptors in (1, 10, 50):
            work = accept(spool, count, acceptors, size_bytes)
            await measure(f"accept {size_bytes} bytes x {acceptors}", count, work)
            await measure("  lease, begin, record in 64s", count, send(spool))
        await accept(spool, count, 50, size_bytes)
        await measure("  lease and begin in 64s, record", count, send(spool, singly=True))
    await spool.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        asyncio.run(main(Path(name)))
