"""How fast the queue file is on this disk: `python bench/spool.py [FOLDER]`.

Prints accepted messages per second at several numbers of concurrent acceptors, the CPU time each message takes, and
leases with their records per second. The folder must be on the disk in question; it is left empty.
"""

import asyncio
import sys
import tempfile
import time
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
    body = b"x" * size_bytes
    return NewMessage(
        IDS.new(now), Mailbox("bob", "example.net"), [recipient], HEADER, body, now, "192.0.2.1 (client.example)", "ESMTP"
    )


async def accept(spool: SqliteSpool, count: int, acceptors: int, size_bytes: int) -> None:
    async def one() -> None:
        for _ in range(count // acceptors):
            await spool.accept([message(size_bytes)])

    await asyncio.gather(*(one() for _ in range(acceptors)))


async def send(spool: SqliteSpool) -> int:
    total = 0
    now = datetime.now(UTC)
    while leases := await spool.lease("bench", [CLASS], now=now):
        await spool.begin([recipient.id for lease in leases for recipient in lease.recipients])
        records = []
        for lease in leases:
            for recipient in lease.recipients:
                attempt = Attempt(now, "smarthost", "mx.example.org", spent=True)
                records.append(Record(recipient.id, State.DELIVERED, "delivered", CLASS, attempt=attempt))
        await spool.record(records)
        total += len(leases)
    return total


async def main(folder: Path) -> None:
    spool = await SqliteSpool.open(folder)
    await accept(spool, 500, 10, 4096)
    await send(spool)
    for size_bytes, count in ((4096, 6000), (100_000, 600)):
        for acceptors in (1, 10, 50):
            begin, cpu = time.perf_counter(), time.process_time()
            await accept(spool, count, acceptors, size_bytes)
            seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
            print(f"accept {size_bytes:>7} bytes x {acceptors:>2}: {count / seconds:8.0f}/s {cpu / count * 1e6:6.0f} us CPU each")
            begin, cpu = time.perf_counter(), time.process_time()
            sent = await send(spool)
            seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
            print(f"lease, begin, record in 64s : {sent / seconds:8.0f}/s {cpu / sent * 1e6:6.0f} us CPU each")
    await spool.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        asyncio.run(main(Path(name)))
