import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from masqmail.spool.sqlite import SqliteSpool
from masqmail.spool.states import State
from masqmail.system.clock import FakeClock
from spool.conformance import MINUTE, START, A, message, recipient, record
from spool.test_sqlite import counted


@pytest.fixture
def numbers() -> Iterator[int]:
    return iter(range(1_000_000))


async def defer(spool: SqliteSpool, numbers: Iterator[int], domains: list[str], wait: timedelta) -> None:
    """A message for each of these domains, to be tried again after that long."""
    new = [message(f"m{next(numbers)}", recipient(f"ann@{domain}")) for domain in domains]
    await spool.accept(new)
    leases = await spool.lease("w", [A], now=START - 60 * MINUTE, max_messages=len(new), max_bytes=1 << 40)
    items = [item for lease in leases for item in lease.recipients]
    await spool.record([record(item, State.DEFERRED, due=START + wait) for item in items])


async def test_deferred_domains_are_found_by_due_time_and_by_wake(tmp_path: Path, numbers: Iterator[int]) -> None:
    clock, rng = FakeClock(START), random.Random(1)
    spool = await SqliteSpool.open(tmp_path, now=clock.now)
    due_at: dict[str, list[timedelta]] = {}
    touched: dict[str, list[timedelta]] = {}
    for step in range(12):
        domains = [f"d{rng.randrange(30)}.org" for _ in range(rng.randrange(1, 8))]
        wait = rng.randrange(1, 40) * MINUTE
        await defer(spool, numbers, domains, wait)
        for domain in domains:
            due_at.setdefault(domain, []).append(wait)
            touched.setdefault(domain, []).append(step * MINUTE)
        clock.advance(MINUTE)
    for minutes in range(-1, 42, 3):
        passed = minutes * MINUTE
        due = {domain for domain, waits in due_at.items() if min(waits) <= passed}
        assert await spool.waiting_domains([A], now=START + passed) == sorted(due)
        for woken in (0, 3, 20):
            fresh = {domain for domain, times in touched.items() if min(times) < woken * MINUTE}
            found = await spool.waiting_domains([A], now=START + passed, woken_at=START + woken * MINUTE)
            assert found == sorted(due | fresh)
    await spool.close()


@pytest.mark.slow
async def test_neither_many_domains_nor_much_mail_for_one_make_the_search_long(
    tmp_path: Path, numbers: Iterator[int]
) -> None:
    """Counts the instructions of SQLite's machine."""

    async def cost(name: str, *groups: tuple[list[str], timedelta]) -> int:
        spool = await SqliteSpool.open(tmp_path / name, now=FakeClock(START).now)
        for domains, wait in groups:
            await defer(spool, numbers, domains, wait)
        found: list[list[str]] = []

        async def search() -> None:
            found.append(await spool.waiting_domains([A], now=START))

        steps = await counted(spool, search)
        assert found == [["due.org"]]
        await spool.close()
        return steps

    due, later = -MINUTE, 60 * MINUTE
    short = await cost("short", (["due.org"], due), (["later.org"], later))
    many = [f"d{n}.org" for n in range(3000)]
    assert await cost("many domains", (["due.org"], due), (many, later)) <= 2 * short
    assert await cost("much for one", (["due.org"] * 3000, due), (["later.org"], later)) <= 2 * short
