"""SIGKILL at any moment loses nothing, and doubles nothing outside the one documented window."""

import os
import random
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.load import LOCAL, Load
from support.mail import identity
from support.receiver import Receiver, running_receiver

KILLS = int(os.environ.get("MASQMAIL_KILLS", "500"))
PARTS = 4

ROUTE = """\
[queue]
retry = ["1s"]

[routes.provider]
links = ["always"]
smarthost = "127.0.0.1:{port}"
tls = "none"
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_lost_and_only_what_was_in_doubt_comes_twice(tmp_path: Path, part: int) -> None:
    kills = KILLS // PARTS
    with running_receiver(chunking=part % 2 == 0) as receiver:
        daemon = Daemon(tmp_path, ROUTE.format(port=receiver.port))
        promised: dict[str, tuple[str, ...]] = {}
        for number in range(kills):
            promised.update(_live_and_die(daemon, seed=part * 10_000 + number))
        daemon.start()
        try:
            _wait_until_all_is_done(daemon)
        finally:
            daemon.stop()
        try:
            _check(promised, receiver, daemon.mailbox(), _doubts(daemon))
        except AssertionError:
            print(daemon.log.read_text())  # what happened to each message
            raise
    bodies = [path for path in (tmp_path / "spool" / "bodies").rglob("*") if path.is_file()]
    assert not bodies, "a body without its message is left"
    assert len(promised) > kills, "the load was too small to mean anything"


def _live_and_die(daemon: Daemon, seed: int) -> dict[str, tuple[str, ...]]:
    """One daemon under load, killed at a moment that the seed decides."""
    chance = random.Random(seed)
    load = Load(daemon, seed)
    daemon.start(wait=False)
    time.sleep(0.25)
    load.start()
    time.sleep(chance.random() * 0.9)
    daemon.kill()
    load.stop()
    return load.promised


def _wait_until_all_is_done(daemon: Daemon) -> None:
    deadline = time.monotonic() + 120
    pickup = daemon.folder / "spool" / "pickup"
    while {path.name for path in pickup.iterdir()} - {"bad"} and time.monotonic() < deadline:
        time.sleep(0.2)
    daemon.wait_for_empty_queue(max(1.0, deadline - time.monotonic()))


def _doubts(daemon: Daemon) -> Counter[tuple[str, str]]:
    """How often the daemon said that a message may come twice, by queue ID and recipient.

    From the queue file of the stopped daemon: `masqmail log` shows the latest lines only.
    """
    with closing(sqlite3.connect(daemon.folder / "spool" / "queue.sqlite3")) as queue:
        return Counter(queue.execute("SELECT queue_id, recipient FROM history WHERE event = 'in doubt'").fetchall())


def _check(
    promised: dict[str, tuple[str, ...]],
    receiver: Receiver,
    mailbox: list[bytes],
    doubts: Counter[tuple[str, str]],
) -> None:
    counted = receiver.count()
    at_home = Counter(identity(content) for content in mailbox if b"X-Test:" in content)
    lost = [
        (name, recipient)
        for name, recipients in promised.items()
        for recipient in recipients
        if not (at_home[name] if recipient == LOCAL else counted.get((name, recipient)))
    ]
    assert not lost, f"{len(lost)} lost, among them {lost[:5]}"
    doubled = {name: count for name, count in at_home.items() if count > 1}
    assert not doubled, f"twice in the mailbox: {doubled}"
    queue_ids: dict[str, set[str]] = {}
    for taken in receiver.taken:
        queue_ids.setdefault(taken.identity, set()).add(_queue_id(taken.content))
    submitted_twice = {name: ids for name, ids in queue_ids.items() if len(ids) > 1}
    assert not submitted_twice, f"one submission became several messages: {submitted_twice}"
    unexplained = {
        (name, recipient, *queue_ids[name]): count
        for (name, recipient), count in counted.items()
        if count - 1 > sum(doubts[queue_id, recipient] for queue_id in queue_ids[name])
    }
    assert not unexplained, f"came more often than the window allows: {unexplained}"


def _queue_id(content: bytes) -> str:
    """Our queue ID, from the trace field we put on top."""
    return content.split(b"\tid ", 1)[1].split(b";", 1)[0].split()[0].decode()
